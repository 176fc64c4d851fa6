"""What happened, as short lines for the log pane. Outside text is made safe here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from engine.contract import events, lifecycle
from engine.contract.safe import safe
from engine.contract.severity import Severity

from .. import text
from . import sentences

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
def _(said: events.Sample) -> tuple[str, str]:
    return "sample", f"step {said.step}  {said.question[:LONGEST]} → {said.answer[:LONGEST]}"


@_tell.register(events.Start)
@_tell.register(events.Eval)
@_tell.register(events.Checkpoint)
@_tell.register(events.Log)
@_tell.register(events.End)
@_tell.register(events.Funnel)
@_tell.register(events.Stream)
@_tell.register(events.Ability)
@_tell.register(events.Warn)
@_tell.register(events.Control)
def _(event: events.AnyEvent) -> tuple[str, str]:
    return _kind(event), sentences.said(event)


def _kind(event: events.AnyEvent) -> str:
    named = {events.Funnel: "rows", events.Stream: "rows", events.Warn: "warning"}
    return event.command if isinstance(event, events.Control) else named.get(type(event), type(event).__name__.lower())
