"""Where a run stands on its way from an idea to the next cycle, and what the next step is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len

from engine.contract.summary import Summary

from ..text import DASH
from .lines import Line, clipped

STEPS = ("init", "rows", "doctor", "train", "proof", "chat", "grade", "report", "next cycle")
_BEFORE = frozenset({"init", "rows", "doctor"})  # nothing is frozen into a run before these are done
_DONE, _NOW, _OPEN = "✓", "▸", "·"


@dataclass(frozen=True)
class Traces:
    """What was left in a run after its training. `proof` is the verdict on the weights that are there now, or empty;
    `report` is false where grades are newer."""

    proof: str = ""
    weights: bool = False
    chatted: bool = False
    grading: bool = False  # begun
    report: bool = False


@dataclass(frozen=True)
class Journey:
    """`now` is the step that is next, or going on; `action` the one of the registry that does it, "" for none."""

    done: frozenset[str]
    now: str
    action: str
    said: str


def journey(run: Summary, traces: Traces, child: str = "") -> Journey:
    """The next step follows the furthest one done: what was passed over on the way is not asked for again.

    `child` names a run that was made from this one, if there is one.
    """
    if run.state != "finished":
        return _training(run)
    done = set(_BEFORE)
    reached = {
        "train": traces.weights,
        "proof": traces.proof == "effective",
        "chat": traces.chatted,
        "grade": run.score is not None,
        "report": traces.report,
        "next cycle": bool(child),
    }
    done |= {step for step, there in reached.items() if there}
    furthest = max(STEPS.index(step) for step in done)
    if furthest + 1 == len(STEPS):
        return Journey(frozenset(done), "", "", f"it goes on as {child}")
    if traces.proof not in ("", "effective") and furthest < STEPS.index("grade"):
        return Journey(frozenset(done), "proof", "why", "find out why nothing changed")
    if not traces.weights and furthest < STEPS.index("grade"):
        furthest = STEPS.index("chat")  # trained elsewhere: what is here are its answers
    now = STEPS[furthest + 1]
    action, said = _NEXT[now]
    return Journey(frozenset(done), now, action, "go on grading" if now == "grade" and traces.grading else said)


_NEXT = {
    "proof": ("prove", "prove that it changed"),
    "chat": ("chat", "talk to it"),
    "grade": ("grade", "grade its answers"),
    "report": ("report", "write the report"),
    "next cycle": ("edit", "begin the next cycle"),
}


def before(rows: bool, doctor: bool | None) -> Journey:
    """Where a run stands that is not there yet: whether its rows are, and whether the doctor found no error (None: it
    has not said)."""
    done = {"init"} | ({"rows"} if rows else set()) | ({"doctor"} if rows and doctor else set())
    if not rows:
        return Journey(frozenset(done), "rows", "", "data.train names no file yet")
    if doctor:
        return Journey(frozenset(done), "train", "start", "start it")
    said = "look for what would go wrong" if doctor is None else "an error is left"
    return Journey(frozenset(done), "doctor", "check", said)


def _training(run: Summary) -> Journey:
    if run.live and run.owned is not False:
        return Journey(_BEFORE, "train", "open", f"{run.state}: watch it")
    again = "continue it" if run.resumable else "start it again"
    return Journey(_BEFORE, "train", "resume", f"{run.state}: {again}")


def strip(found: Journey | None, key: str, width: int) -> Line:
    """All steps in one line of `width` cells, the next with its key at the end; done ones lose their names first."""
    if found is None:
        return [(DASH, "dim")]
    hint: Line = (
        [("  ", ""), (key, "key"), (f" {found.said}", "")] if found.action and key else [(f"  {found.said}", "dim")]
    )
    for named in (frozenset(STEPS), frozenset(STEPS) - found.done, frozenset({found.now})):
        line = [part for step in STEPS for part in _step(found, step, step in named)] + hint
        if sum(cell_len(said) for said, _ in line) <= width:
            return line
    return clipped(_step(found, found.now, True) + hint, width)


def _step(found: Journey, step: str, named: bool) -> Line:
    name = f" {step}  " if named else " "
    if step == found.now:
        return [(f"{_NOW} {step}  ", "now")]
    return [((_DONE if step in found.done else _OPEN) + name, "done" if step in found.done else "dim")]
