"""`molting ask`: the same question to base and adapter."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.contract import calls

from .. import terminal, voices
from ..services import engine
from .context import Json, Run, places, print_json, progress
from .sampling import MaxNewTokens, RepetitionPenalty, Seed, Temperature, TopK, TopP


def ask(
    ctx: typer.Context,
    run: Run,
    questions: Annotated[list[str], typer.Argument(metavar="QUESTION…", help="One or several questions.")],
    max_new_tokens: MaxNewTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    repetition_penalty: RepetitionPenalty = None,
    seed: Seed = None,
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
