"""`molting answers`: put the questions of a rubric to a run and freeze what it says."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from engine.contract import rubric as rubrics
from engine.contract import summary, verdict

from .. import terminal
from ..services import engine
from ..terminal import one_line
from ..text import plural
from .context import Json, Run, places, print_json, progress


def answers(
    ctx: typer.Context,
    run: Run,
    rubric: Annotated[
        str,
        typer.Option(metavar="R", help="A rubric file or the name of a shipped one; else the one named like the run."),
    ] = "",
    samples: Annotated[int, typer.Option(help="Seeded samples besides the greedy answer.", min=0, max=20)] = 0,
    checkpoint: Annotated[Optional[int], typer.Option(help="Answer with the checkpoint of this step.", min=0)] = None,
    no_base: Annotated[bool, typer.Option("--no-base", help="Keep the answers of the trained voice only.")] = False,
    temperature: Annotated[Optional[float], typer.Option(help="Of the samples.", min=0.01, max=5.0)] = None,
    seed: Annotated[int, typer.Option(help="Of the samples.", min=0)] = 0,
    json: Json = False,
) -> None:
    """Answer a rubric's questions, base and adapter, into a sealed sheet that can be graded."""
    where = places(ctx)
    found = where.find(run)
    chosen = rubrics.find(rubric) if rubric else rubrics.for_persona(summary.name_of(found))
    rubrics.load(chosen)  # a mistake in it is said before a model is loaded
    request = verdict.AnswersRequest(
        run=str(found.path),
        models=str(where.models),
        rubric=str(chosen),
        samples=samples,
        checkpoint=checkpoint,
        base=not no_base,
        temperature=temperature,
        seed=seed,
    )
    with progress(json_wanted=json) as line:
        made = engine.call("answers", request, verdict.Answered, line)
    if json:
        print_json(made)
        return
    out = terminal.out()
    out.line(f"{plural(made.items, 'answer')} in {one_line(made.path)}, {made.cut} of them cut at the cap.")
    for warning in made.warnings:
        terminal.warn(warning)
    out.line(f"Grade them with `molting grade {made.run}`.")
