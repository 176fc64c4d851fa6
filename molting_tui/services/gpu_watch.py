"""One thread that looks at the machine once a second and posts what it saw. It never touches a widget."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from textual.message import Message

from ..state.gpu import Machine
from .gpu import MachineSampler

EVERY = 1.0  # seconds


class MachineSeen(Message):
    """A sample; only the newest counts."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, MachineSeen)


class MachineWatch:
    """Posts MachineSeen until it is stopped. `post` is called from the thread, as `post_message` allows."""

    def __init__(self, disk: Path, post: Callable[[Message], object], *, every: float = EVERY) -> None:
        self._disk = disk
        self._post = post
        self._every = every
        self._stop = threading.Event()
        # A driver that hangs must not keep the app from ending.
        self._thread = threading.Thread(target=self._work, name="machine", daemon=True)

    def start(self) -> MachineWatch:
        self._thread.start()
        return self

    def stop(self) -> None:
        """End it; does not wait."""
        self._stop.set()

    def _work(self) -> None:
        with MachineSampler(self._disk) as sampler:
            while not self._stop.is_set():
                self._post(MachineSeen(sampler.sample()))
                self._stop.wait(self._every)
