"""Looks at what a run holds, for the strip that says what its next step is: a few files, none of them long."""

from __future__ import annotations

from pathlib import Path

from engine.contract import durable, grades
from engine.contract.rundir import RunDir

from ..state.journey import Traces
from . import proofs


def traces(run: RunDir) -> Traces:
    """What was left in `run`. What cannot be read was not left."""
    try:
        proof = proofs.recorded(run)
        graded = grades.listed(run)
        return Traces(
            proof=proof.verdict if proof else "",
            weights=(run.adapter / durable.MANIFEST).is_file(),
            chatted=any(file.stat().st_size for file in run.conversations.glob("*.jsonl")),
            grading=bool(graded),
            report=_time(run.report) > max(map(_time, graded), default=0.0),
        )
    except OSError:
        return Traces()


def _time(path: Path) -> float:
    """When it was written; 0 for what is not there."""
    return path.stat().st_mtime if path.is_file() else 0.0
