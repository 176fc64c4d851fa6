"""`molting import`: answers and scores of another evaluation become a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from engine.contract import outputs, verdict
from engine.contract import rubric as rubrics
from engine.contract.errors import MoltingError

from .. import terminal, text
from ..services import engine
from ..terminal import one_line
from .context import Json, Places, places, print_json, progress


def import_(
    ctx: typer.Context,
    name: Annotated[str, typer.Option(metavar="NAME", help="What the run is called.")],
    answers: Annotated[
        Optional[Path], typer.Option(metavar="FILE", help="JSON with the questions and what was answered.")
    ] = None,
    scores: Annotated[
        Optional[Path], typer.Option(metavar="FILE", help="JSON with the scores of these answers.")
    ] = None,
    trainer_state: Annotated[
        Optional[Path], typer.Option(metavar="FILE", help="Instead of both: a trainer_state.json, for its curves.")
    ] = None,
    rater: Annotated[str, typer.Option(help="Who graded; else as the file says.")] = "",
    rubric: Annotated[
        str, typer.Option(metavar="R", help="A rubric file or a shipped one's name; else what fits.")
    ] = "",
    json: Json = False,
) -> None:
    """Read answers and scores that were made elsewhere; what was typed is checked, what counts is computed.

    Or the curves of a training that transformers recorded.
    """
    where = places(ctx)
    if trainer_state and not (answers or scores):
        _history(where, trainer_state, name, json=json)
        return
    if trainer_state or not (answers and scores):
        raise MoltingError(
            "Either --answers and --scores are imported, or --trainer-state.",
            remedy="`molting import --answers F --scores F --name NAME`, or `--trainer-state F --name NAME`",
            code=2,
        )
    request = verdict.ImportRequest(
        answers=str(answers.expanduser().absolute()),
        scores=str(scores.expanduser().absolute()),
        name=name,
        runs=str(where.runs),
        rater=rater,
        rubric=str(rubrics.find(rubric)) if rubric else "",
    )
    with progress(json_wanted=json) as line:
        made = engine.call("import", request, verdict.Imported, line)
    if json:
        print_json(made)
        return
    out = terminal.out()
    band = f", {one_line(made.band)}" if made.band else ""
    out.line(f"{made.raw:g} of {made.max:g} points: {made.score:g} of 10{band}. Rater: {one_line(made.rater)}.")
    for problem in made.problems:
        out.line(f"{out.paint(problem.severity, problem.severity)}  {one_line(problem.message)}")
    out.line(f"Run {made.run}")


def _history(where: Places, file: Path, name: str, *, json: bool) -> None:
    """Make a run of a trainer's own record."""
    request = outputs.TrainerStateRequest(file=str(file.expanduser().absolute()), name=name, runs=str(where.runs))
    with progress(json_wanted=json) as line:
        made = engine.call("import-history", request, outputs.ImportedHistory, line)
    if json:
        print_json(made)
        return
    out = terminal.out()
    out.line(f"{text.plural(made.steps, 'step')}, {text.plural(made.evals, 'evaluation')}.")
    for problem in made.problems:
        out.line(f"{out.paint('note', 'note')}  {one_line(problem)}")
    out.line(f"Run {made.run}")
