"""Who owns a run on this machine."""

from __future__ import annotations

import msgspec

from engine.contract import processes, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir


class _Owner(msgspec.Struct):
    identity: processes.Identity


def owner_pid(run: RunDir) -> int:
    """The pid of the run's supervisor; 0 where none lives on this machine."""
    try:
        owner = msgspec.json.decode(summary.read_small(run.owner), type=_Owner)
    except (OSError, MoltingError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
    return owner.identity.pid if processes.is_alive(owner.identity) else 0
