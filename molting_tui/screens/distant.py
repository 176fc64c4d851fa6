"""What can be done to runs of other machines: it is done there, by the commands of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import work
from textual.app import SuspendNotSupported
from textual.content import Content
from textual.widgets import Label

from engine.contract.errors import MoltingError
from engine.contract.summary import Summary

from .. import text
from ..state import hosts
from .arrange import Arrange
from .dialog import Confirm

if TYPE_CHECKING:
    from ..services.ssh import Machine
    from ..services.task import Task

ELSEWHERE = frozenset({"open", "select"})  # what can be done with runs of other machines besides stop and resume
_CHOICE = "runs.hosts"  # of View.choices


class Distant(Arrange):
    """`targets` are runs of this machine alone, so that nothing meant for them reaches a path of another."""

    def meant(self) -> list[str]:
        """All runs that a key acts on now, wherever they are."""
        return []

    def distant(self) -> list[Summary]:
        """Those of them that are on other machines."""
        return [self.runs.distant[each] for each in self.meant() if each in self.runs.distant]

    def show_away(self) -> None:
        """Say which machines are not there."""
        said = hosts.away_line(self.runs.hosts)
        label = self.query_one("#hosts", Label)
        label.update(Content(said))
        label.set_class(bool(said), "-shown")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "hosts":
            return any(host.show for host in self.molting.settings.hosts.values())
        there = self.distant()
        if action in {"stop", "stop_now"} and any(self._stoppable(run) for run in there):
            return True
        if action == "resume" and any(_resumable(run) for run in there):
            return True
        return super().check_action(action, parameters)

    def action_hosts(self) -> None:
        """List the other machines' runs, or no longer; remembered."""
        on = not self.runs.hosts
        self.molting.watch_hosts(on)
        self._remember(lambda view: view.choices.__setitem__(_CHOICE, "on" if on else "off"))

    def open_there(self, run_id: str) -> None:
        """The app of the other machine, in this terminal, on this run; leaving it comes back here."""
        from ..services.there import run_there

        host, there = hosts.split(run_id)
        try:
            machine = self._machine(host)
            # What changes meanwhile would pile up: nobody paints it.
            self.molting.watch_hosts(False)
            with self.app.suspend():
                status = run_there(machine, ["--show", there], "")
            if status:
                self.molting.tell(f"molting on {host} ended with status {status}.", "warning")
        except SuspendNotSupported:
            self.molting.tell(
                f"This terminal cannot be lent to {host}: molting --host {host} --show {there}", "warning"
            )
        except MoltingError as error:
            self.molting.fail(error)
        finally:
            self.molting.watch_hosts(True)
            self._go_to = run_id  # it is listed again in a moment

    def elsewhere(self, verb: str) -> None:
        if not self.distant():
            return
        if verb == "resume":
            self._resume_there()
        else:
            self._stop_there(now=verb == "stop-now")

    @work(exit_on_error=False)
    async def _stop_there(self, *, now: bool) -> None:
        runs = [run for run in self.distant() if self._stoppable(run)]
        if not runs:
            return
        said = "It ends at once, without saving." if now else "The step is finished and saved first."
        title = f"{'End' if now else 'Stop'} {_names(runs)}{' now' if now else ''}?"
        word = "End now" if now else "Stop"
        if await self.app.push_screen_wait(Confirm(title, said, word, "Let it run")):
            await self._do(runs, "Asking", ["stop", "--no-wait", *(["--now"] if now else [])], "asked to stop")

    @work(exit_on_error=False)
    async def _resume_there(self) -> None:
        runs = [run for run in self.distant() if _resumable(run)]
        await self._do(runs, "Resuming", ["resume"], "queued again")

    async def _do(self, runs: list[Summary], doing: str, verb: list[str], done: str) -> None:
        from engine.contract import calls

        from ..services.ssh import call

        def there(task: Task) -> bool:
            for run in runs:
                host, run_id = hosts.split(run.id)
                task.tell(calls.Progress(phase=f"asking {host}"))
                machine = self._machine(host)
                status, _, err = call(machine.argv([*verb, "--json", run_id]))
                if status not in (0, 1):
                    raise machine.failed(status, err)
            return True

        if runs and await self.wait_for(f"{doing} {_names(runs)}", there) is not None:
            self.molting.tell(f"{_names(runs)}: {done}.")

    def _machine(self, host: str) -> Machine:
        from ..services.ssh import machine

        return machine(host, self.molting.settings.hosts)

    def _stoppable(self, run: Summary) -> bool:
        host, _ = hosts.split(run.id)
        here = host in self.runs.hosts and not self.runs.hosts[host].away
        return here and run.live and run.owned is not False


def _resumable(run: Summary) -> bool:
    return run.state in {"interrupted", "failed", "lost"} or (run.state == "queued" and run.owned is False)


def _names(runs: list[Summary]) -> str:
    host, run_id = hosts.split(runs[0].id) if runs else ("", "")
    return f"{run_id} on {host}" if len(runs) == 1 else text.plural(len(runs), "run")
