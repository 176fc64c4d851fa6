"""What happened while nobody watched: the box that is seen first on coming back. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from engine.contract.severity import Severity
from engine.contract.summary import Summary

from .. import text
from .logbook import plain


@dataclass(frozen=True)
class Happened:
    """One thing that happened to a run since it was last seen."""

    run_id: str
    t: float  # Unix seconds
    severity: Severity
    message: str
    remedy: str = ""


def record(summaries: Iterable[Summary]) -> dict[str, str]:
    """What to remember of the runs on leaving, for `happened`: run id -> how it stood."""
    return {run.id: _standing(run) for run in summaries}


def happened(
    summaries: Iterable[Summary],
    last_seen: float,
    before: dict[str, str],
    name_of: Callable[[Summary], str] = lambda run: run.name,
) -> list[Happened]:
    """What changed since `last_seen` (Unix seconds; 0: never here), newest first, failures before the rest.

    `before` is the `record` of then; a run that is not in it counts as new.
    """
    if not last_seen:
        return []
    found = []
    for run in summaries:
        if _standing(run) == before.get(run.id):
            continue
        # Without a record (it was lost, or the run is new) the time of the change decides.
        if run.id not in before and (run.changed or 0.0) <= last_seen:
            continue
        found.append(_tell(run, plain(name_of(run)), before.get(run.id, "")))
    return sorted((each for each in found if each), key=lambda each: (each.severity != "error", -each.t))


def _standing(run: Summary) -> str:
    """The things whose change is worth telling."""
    score = "" if run.score is None else f"{run.score:.3g}"
    return f"{run.state}:{run.attempt}:{run.warnings}:{score}"


def _tell(run: Summary, name: str, before: str) -> Happened | None:
    state, _, rest = before.partition(":")
    _, _, rest = rest.partition(":")
    warnings, _, score = rest.partition(":")
    parts = [_end(run)] if run.state != state else []
    more = run.warnings - (int(warnings) if warnings.isdecimal() else 0)
    if more > 0:
        parts.append(f"got {text.plural(more, 'warning')}")
    if run.score is not None and f"{run.score:.3g}" != score:
        parts.append(f"was graded {run.score:.3g}")
    said = ", ".join(part for part in parts if part)
    if not said:
        return None
    severity: Severity = "error" if run.state in {"failed", "lost"} else "warning" if more > 0 else "note"
    remedy = plain(run.remedy) or ("Resume it from its checkpoint." if run.resumable else "")
    return Happened(run.id, run.changed or 0.0, severity, f"{name} {said}.", remedy if severity == "error" else "")


def _end(run: Summary) -> str:
    losses = [
        f"{word} {text.number(value)}" for word, value in (("loss", run.loss), ("held-out", run.eval_loss)) if value
    ]
    at = f" at step {run.step}/{run.steps}" if run.steps else ""
    how = f" ({', '.join(losses)})" if losses else ""
    if run.state == "failed":
        return f"failed{at}: {plain(run.why or run.reason or 'no reason was recorded').rstrip('.')}"
    if run.state == "lost":
        return f"was lost{at}: its supervisor died"
    if run.state == "finished":
        return f"finished{how}"
    if run.state == "interrupted":
        return f"was stopped{at}{how}"
    return {"queued": "was queued", "training": f"trains{at}{how}"}.get(run.state, f"is {run.state}")
