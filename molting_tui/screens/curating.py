"""The way to the Curate screen: the batch that was begun, or a new one, answered now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract.curation import Choices, CurateRequest
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir

from ..services import curation
from ..services.task import Task
from .dialog import Confirm
from .job import Job

if TYPE_CHECKING:
    from ..app import MoltingApp


async def curate(app: MoltingApp, run: RunDir, batch: str = "") -> None:
    """Open the batch, or offer to make one. Called in a worker; failures are told."""
    from .curate import Curate

    try:
        choices = curation.newest(run, batch) or await _answer(app, run)
        if choices is not None:
            app.push_screen(Curate(curation.Curating(run, choices)))
    except MoltingError as error:
        app.fail(error)


async def _answer(app: MoltingApp, run: RunDir) -> Choices | None:
    curation.require_curatable(run)
    name = app.runs.name(run.id)
    said = "It answers prompts that judge nothing, twice each; what the gates refuse is never offered."
    if not await app.push_screen_wait(
        Confirm(f"{name} has no answers to choose from yet.", said, "Answer now", "Not now")
    ):
        return None
    request = CurateRequest(run=str(run.path), models=str(app.places.models))

    def work(task: Task) -> Choices:
        task.call("curate", request, dict)
        made = curation.newest(run)
        assert made is not None
        return made

    made = await app.push_screen_wait(Job(f"{name} answers", work))
    if isinstance(made, MoltingError):
        raise made
    return made
