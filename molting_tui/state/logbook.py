"""What happened, as short lines for the log pane. Outside text is made safe here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Literal

from engine.contract import events, lifecycle
from engine.contract.safe import safe

from .. import text

Severity = Literal["error", "warning", "note"]
LONGEST = 500  # characters of a line

_SEVERITY: dict[str, Severity] = {"failed": "error", "lost": "error", "interrupted": "warning"}


@dataclass(frozen=True)
class LogLine:
    """One line: when (Unix seconds), in which attempt, what kind, and the sentence."""

    t: float
    attempt: int
    kind: str
    text: str
    severity: Severity = "note"


def plain(said: str) -> str:
    """Outside text on one line, harmless and of bounded length."""
    short = said if len(said) <= LONGEST else said[: LONGEST - 1] + "…"
    return safe(" ".join(short.split()), keep_newlines=False)


def line(attempt: int, what: events.AnyEvent | lifecycle.Transition) -> LogLine | None:
    """The line for something that happened; None for what other panes show better (steps, memory, progress)."""
    told = _tell(what)
    if told is None:
        return None
    kind, said = told
    severity = _SEVERITY.get(kind, "warning" if isinstance(what, events.Warn) else "note")
    return LogLine(what.t, attempt, kind, plain(said), severity)


def damage(attempt: int, t: float, lines: int, path: str) -> LogLine:
    """The line for lines of a log that cannot be read."""
    said = f"{text.plural(lines, 'line')} of {path} cannot be read and {'is' if lines == 1 else 'are'} left out"
    return LogLine(t, attempt, "damage", plain(said), "warning")


@singledispatch
def _tell(what: object) -> tuple[str, str] | None:
    return None


@_tell.register
def _(change: lifecycle.Transition) -> tuple[str, str]:
    why = change.why or (change.evidence.message if change.evidence else "")
    remedy = change.evidence.remedy if change.evidence else ""
    parts = [f"attempt {change.attempt}", change.reason, why, remedy]
    return change.state, "  ".join(part for part in parts if part)


@_tell.register
def _(start: events.Start) -> tuple[str, str]:
    from_step = f" from step {start.step}" if start.step else ""
    learn = f", {start.trainable:,} of {start.parameters:,} parameters learn" if start.parameters else ""
    return "start", f"{text.plural(start.steps, 'step')}{from_step} on {start.device}, {start.precision}{learn}"


@_tell.register
def _(rows: events.Funnel) -> tuple[str, str]:
    dropped = [f"{count:,} dropped ({why})" for why, count in rows.dropped.items() if count]
    return "rows", ", ".join([f"{rows.read:,} read", *dropped, f"{rows.heldout:,} held out, {rows.trained:,} trained"])


@_tell.register
def _(held: events.Eval) -> tuple[str, str]:
    best = ", the best so far" if held.best else ""
    return "eval", f"step {held.step}  held-out loss {text.number(held.loss)}{best}"


@_tell.register
def _(said: events.Sample) -> tuple[str, str]:
    return "sample", f"step {said.step}  {said.question[:LONGEST]} → {said.answer[:LONGEST]}"


@_tell.register
def _(saved: events.Checkpoint) -> tuple[str, str]:
    best = ", the best so far" if saved.best else ""
    return "checkpoint", f"step {saved.step} sealed ({text.size(saved.size)}, {saved.seconds:.1f} s){best}"


@_tell.register
def _(log: events.Log) -> tuple[str, str]:
    return "log", log.message


@_tell.register
def _(warning: events.Warn) -> tuple[str, str]:
    return "warning", f"{warning.message} {warning.remedy}".strip()


@_tell.register
def _(control: events.Control) -> tuple[str, str]:
    return control.command, f"obeyed at step {control.step}"


@_tell.register
def _(end: events.End) -> tuple[str, str]:
    losses = f"loss {text.number(end.last_loss)}, mean {text.number(end.mean_loss)}"
    return "end", "  ".join(part for part in (f"{end.outcome} at step {end.step}", losses, end.why) if part)
