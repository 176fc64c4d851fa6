"""Reads the end of one run's log: a few windows of a file, however long it is."""

from __future__ import annotations

from engine.contract.errors import MoltingError
from engine.contract.journal import JournalReader
from engine.contract.rundir import RunDir

from ..state.glance import Glance, of_lines

_LINES = 600


def glance(run: RunDir) -> Glance:
    """What the newest attempt that learned said last; nothing of it where it cannot be read."""
    seen = Glance()
    for attempt in reversed(run.attempts()):
        try:
            seen = of_lines(JournalReader(attempt.events).tail(_LINES))
        except MoltingError:
            continue
        if seen.losses:
            break
    return seen
