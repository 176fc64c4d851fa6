"""What this machine and others do, as far as the app looks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App

from engine.contract.settings import Settings

from .state.run_list import RunList, sentence

if TYPE_CHECKING:
    from .services.gpu_watch import MachineSeen, MachineWatch
    from .services.host_watch import HostSeen, HostWatch
    from .state.gpu import Machine


@dataclass(frozen=True)
class Folders:
    """Where runs and models are."""

    runs: Path
    models: Path


class Machines(App[None]):
    """The part of the app that keeps watch over GPUs, memory and other machines."""

    places: Folders
    settings: Settings
    runs: RunList

    def __init__(self) -> None:
        super().__init__()
        self.machine: Machine | None = None  # what GPUs and host were seen to do last
        self._machines: MachineWatch | None = None
        self._hosts: list[HostWatch] = []  # of other machines

    def tell(self, said: str, severity: str = "information") -> None:
        """A toast of plain text."""
        self.notify(said, severity=severity, markup=False)  # type: ignore[arg-type]

    def watch_machines(self) -> None:
        """Begin to look, as the settings say."""
        from .services.gpu_watch import MachineWatch

        self._machines = MachineWatch(self.places.runs, self.post_message).start()
        if self.settings.hosts and self.runs.view.choices.get("runs.hosts") != "off":
            self.watch_hosts(True)

    def on_machine_seen(self, message: MachineSeen) -> None:
        self.machine = message.machine

    def watch_hosts(self, on: bool) -> None:
        """Look at the runs of the machines in config.toml that are to be listed, or at none but this one's."""
        for watch in self._hosts:
            watch.stop()
        self._hosts = []
        if not on:
            self.runs.leave_hosts()
            return
        from .services.host_watch import HostWatch
        from .services.ssh import machine
        from .state.hosts import Standing

        for name, host in self.settings.hosts.items():
            if host.show:
                self._hosts.append(HostWatch(machine(name, self.settings.hosts), self.post_message))
                self.runs.hosts[name] = Standing()
        for watch in self._hosts:
            watch.start()
        self.runs.touch()

    def on_host_seen(self, message: HostSeen) -> None:
        if message.host not in self.runs.hosts:
            return  # a last word of a machine that is not looked at any more
        for news in self.runs.update_host(message.host, message.standing, message.changed, message.gone):
            self.tell(*sentence(news))

    def stop_watching(self) -> None:
        if self._machines is not None:
            self._machines.stop()
        for watch in self._hosts:
            watch.stop()
