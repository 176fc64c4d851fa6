"""Who owns a run on this machine."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from engine.contract import processes, rundir, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir

_AGAIN = 5.0  # seconds between looks for runs that began or ended


class _Owner(msgspec.Struct):
    identity: processes.Identity


def owner_pid(run: RunDir) -> int:
    """The pid of the run's supervisor; 0 where none lives on this machine."""
    try:
        owner = msgspec.json.decode(summary.read_small(run.owner), type=_Owner)
    except (OSError, MoltingError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
    return owner.identity.pid if processes.is_alive(owner.identity) else 0


class Owners:
    """Which run a process of this machine belongs to."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._found: dict[int, str] = {}
        self._look_at = 0.0

    def living(self) -> dict[int, str]:
        """Pids of the supervisors that live here, with the ids of their runs."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _AGAIN
            try:
                found = {owner_pid(run): run.id for run in rundir.listed(self._runs)}
            except OSError:
                found = {}
            self._found = {pid: run for pid, run in found.items() if pid}
        return self._found
