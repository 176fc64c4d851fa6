"""The way into a comparison: which two, older against newer; nothing is asked that was told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract import verdict
from engine.contract.errors import MoltingError
from engine.contract.summary import Summary

from .compare import Compare
from .dialog import Choice
from .job import Job

if TYPE_CHECKING:
    from ..app import MoltingApp

_BASE = "its own base: what did the training change?"


async def compare(app: MoltingApp, runs: list[Summary]) -> None:
    """Compare two runs, or one with what the user chooses. Called in a worker; failures are told."""
    if len(runs) == 1:
        found = await other_run(app, runs[0], "Compare with", _BASE)
        if found is None:
            return
        runs = [*found, runs[0]]
    page = await compared(app, *in_order(*runs)) if len(runs) == 2 else await _with_base(app, runs[0])
    if page is not None:
        app.push_screen(page)


async def compared(app: MoltingApp, before: Summary, after: Summary) -> Compare | None:
    """The screen that compares `after` with `before`; None where it failed, which is told, or was cancelled."""
    title = f"{app.runs.name(before.id)} and {app.runs.name(after.id)}"
    request = verdict.CompareRequest(a=before.path, b=after.path)
    return await _screen(app, title, request, (before, after))


async def _with_base(app: MoltingApp, run: Summary) -> Compare | None:
    title = f"{app.runs.name(run.id)}: base and adapter"
    return await _screen(app, title, verdict.CompareRequest(b=run.path, base=True), None)


async def _screen(
    app: MoltingApp, title: str, request: verdict.CompareRequest, runs: tuple[Summary, Summary] | None
) -> Compare | None:
    job = Job(f"Comparing {title}", lambda task: task.call("compare", request, verdict.Comparison))
    found: verdict.Comparison | MoltingError | None = await app.push_screen_wait(job)
    if isinstance(found, MoltingError):
        app.fail(found)
        return None
    return None if found is None else Compare(found, title, runs)


def in_order(one: Summary, two: Summary) -> tuple[Summary, Summary]:
    """Parent before child, else the older before the newer."""
    if one.parent == two.id or (two.parent != one.id and (two.started or 0.0) < (one.started or 0.0)):
        return two, one
    return one, two


async def other_run(app: MoltingApp, run: Summary, title: str, alone: str) -> list[Summary] | None:
    """Another graded run, the parent first; none where the user takes `alone`, None where they thought better of it."""
    graded = [each for each in app.runs.known.values() if each and each.score is not None and each.id != run.id]
    graded.sort(key=lambda each: (each.id != run.parent, -(each.started or 0.0)))
    if not graded:
        return []
    names = {f"{app.runs.name(each.id)}  {each.id}": each for each in graded}
    chosen = await app.push_screen_wait(Choice(title, [*names, alone], next(iter(names))))
    if chosen is None:
        return None
    return [] if chosen == alone else [names[chosen]]
