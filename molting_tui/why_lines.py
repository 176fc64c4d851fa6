"""An investigation as rows of text, the same for the command line and the screen. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.contract import calls
from engine.contract.severity import worst_first

from .terminal import one_line

# The state of a run whose mark and colour stand for an outcome, as everywhere else.
STATES = {"passed": "finished", "failed": "failed", "unknown": "lost", "skipped": "queued"}


@dataclass(frozen=True)
class Row:
    """`state` is one of a run's, for mark and colour, or a severity; `details` belong under `text`."""

    state: str
    text: str
    details: tuple[str, ...] = ()


def findings(found: calls.Investigation) -> Iterator[Row]:
    """What the record of the training says, the worst first."""
    for finding in worst_first(found.findings):
        named = (("why", finding.why), ("evidence", finding.evidence), ("try", finding.remedy))
        details = tuple(f"{name}: {one_line(said)}" for name, said in named if said)
        yield Row(finding.severity, f"{one_line(finding.message)} [{one_line(finding.id)}]", details)
    for warning in found.warnings:
        yield Row("note", one_line(warning))


def steps(found: calls.Investigation) -> Iterator[Row]:
    """The questions in their order, and what answers them."""
    for number, step in enumerate(found.steps, start=1):
        yield Row(STATES[step.outcome], f"{number}. {one_line(step.question)}", (one_line(step.evidence),))


def cause(found: calls.Investigation) -> Row:
    """The most likely cause, its number, and the next thing to do."""
    state = "finished" if found.cause == "effective" else "failed"
    return Row(state, f"{one_line(found.sentence)} [{found.cause}]", (f"try: {one_line(found.remedy)}",))
