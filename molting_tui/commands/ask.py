"""`molting ask`: the same question to base and adapter."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from engine.contract import calls

from .. import terminal, voices
from ..services import engine
from .context import Json, Run, places, print_json, progress


def ask(
    ctx: typer.Context,
    run: Run,
    questions: Annotated[list[str], typer.Argument(metavar="QUESTION…", help="One or several questions.")],
    max_new_tokens: Annotated[Optional[int], typer.Option(help="Cap of an answer, in tokens.", min=1)] = None,
    temperature: Annotated[Optional[float], typer.Option(help="0 is greedy.", min=0.0)] = None,
    top_p: Annotated[Optional[float], typer.Option(help="Nucleus; 1 is off.", min=0.0, max=1.0)] = None,
    top_k: Annotated[Optional[int], typer.Option(help="0 is off.", min=0)] = None,
    repetition_penalty: Annotated[Optional[float], typer.Option(help="1 is off.", min=0.5)] = None,
    seed: Annotated[Optional[int], typer.Option(help="For sampling.", min=0)] = None,
    json: Json = False,
) -> None:
    """Ask base and adapter side by side; greedy unless the run's spec or an option says otherwise."""
    where = places(ctx)
    request = calls.AskRequest(
        run=str(where.find(run).path),
        models=str(where.models),
        questions=questions,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    with progress(json_wanted=json) as line:
        asked = engine.call("ask", request, calls.Asked, line)
    if json:
        print_json(asked)
        return
    out = terminal.out()
    for pair in asked.answers:
        for each in voices.pair_lines(pair, out):
            out.line(each)
