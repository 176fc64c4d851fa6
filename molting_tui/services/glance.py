"""Reads the end of one run's log: a few windows of a file, however long it is."""

from __future__ import annotations

from engine.contract import lineage, rundir, summary
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
    seen.differs = _from_parent(run)
    return seen


def _from_parent(run: RunDir) -> list[str] | None:
    """What the run has otherwise than its parent; None where that is not here."""
    try:
        spec = summary.load_spec(run)
        if not spec.parent or not rundir.is_id(spec.parent):
            return None
        before = summary.load_spec(RunDir(run.path.parent / spec.parent))
    except MoltingError:
        return None
    return [str(each) for each in lineage.differences(before, spec)]
