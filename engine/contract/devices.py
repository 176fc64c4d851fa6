"""One run per device: first come, first served, and the dead leave the line at once."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .environment import local_dir
from .locks import FileLock, is_locked


class DeviceQueue:
    """The line for one device, named by its GPU's UUID or "cpu", among all processes of this user here.

    Having the device is a lock on its file; waiting is a locked ticket in the folder beside it, whose name
    sorts by time of arrival. A ticket without a lock belongs to the dead.
    """

    def __init__(self, device: str) -> None:
        folder = local_dir() / "devices" / re.sub(r"[^A-Za-z0-9-]", "_", device)
        self._tickets = folder / "tickets"
        self._tickets.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._device = FileLock(folder / "lock")
        self._ticket: FileLock | None = None
        self._folder_fd = -1

    def acquire(self, poll: float = 0.5, stop: Callable[[], bool] = lambda: False) -> bool:
        """Wait for our turn, looking every `poll` seconds; False as soon as `stop()` says so."""
        try:
            self._draw_ticket()
            while self._before_us() or not self._device.acquire():
                if stop():
                    return False
                time.sleep(poll)
        finally:
            self._drop_ticket()
        self._keep_from_cleaners()
        return True

    def release(self) -> None:
        """Let the next one have the device."""
        self._device.release()
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
            self._folder_fd = -1

    def ahead(self) -> int:
        """How many come before us, whoever has the device included; 0 once we have it."""
        if self._device.held:
            return 0
        return len(self._before_us()) + is_locked(self._device.path)

    def _draw_ticket(self) -> None:
        # This clock never jumps and is one for all processes; tickets of an earlier boot are dead anyway.
        name = f"{time.monotonic_ns():020d}-{secrets.token_hex(4)}"
        self._ticket = FileLock(self._tickets / name)
        # Found by another in the instant before it is locked, it is taken for dead: then it is made again.
        self._ticket.acquire(blocking=True)

    def _drop_ticket(self) -> None:
        if self._ticket and self._ticket.held:
            self._ticket.path.unlink(missing_ok=True)
            self._ticket.release()
        self._ticket = None

    def _before_us(self) -> list[Path]:
        """Tickets of the living that are older than ours (all of them before we have one)."""
        ours = self._ticket.path.name if self._ticket else "~"
        older = sorted(path for path in self._tickets.iterdir() if path.name < ours)
        return [path for path in older if not _bury(path)]

    def _keep_from_cleaners(self) -> None:
        # systemd-tmpfiles removes old files below /tmp, but not from a folder on which a BSD lock is held.
        self._folder_fd = os.open(self._device.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._folder_fd, fcntl.LOCK_SH)


class DeviceQueues:
    """The lines for several devices: one run has all of them or waits.

    Everybody queues in the order of the names, so that no two runs wait for each other.
    """

    def __init__(self, devices: Iterable[str]) -> None:
        self._queues = [DeviceQueue(name) for name in sorted(set(devices))]

    def acquire(self, poll: float = 0.5, stop: Callable[[], bool] = lambda: False) -> bool:
        """Wait for our turn at each; False as soon as `stop()` says so, with none of them kept."""
        for queue in self._queues:
            if not queue.acquire(poll, stop):
                self.release()
                return False
        return True

    def release(self) -> None:
        for queue in self._queues:
            queue.release()


def _bury(path: Path) -> bool:
    """Remove a ticket whose process has died; False if it lives."""
    ticket = FileLock(path)
    if not ticket.acquire():
        return False
    path.unlink(missing_ok=True)
    ticket.release()
    return True
