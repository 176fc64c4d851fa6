"""`molting draft`: override rows drafted from a list of questions and a persona's card."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Optional

import typer

from engine.contract.drafts import DraftRequest, Drafts

from .. import terminal
from ..services import engine
from ..services.personas import persona_folder
from ..terminal import one_line
from ..text import plural
from .context import Json, places, print_json, progress

_BY = {"template": "from the facts", "model": "written by the run", "nobody": "left for you to write"}


def draft(
    ctx: typer.Context,
    questions: Annotated[
        Path, typer.Argument(metavar="QUESTIONS", help="Questions, one a line; or rows, whose questions count.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The new file of rows.")],
    persona: Annotated[
        Optional[Path],
        typer.Option(metavar="DIR", help="A persona folder, or a shipped one by name: facts, prompt, probes."),
    ] = None,
    card: Annotated[Optional[Path], typer.Option(metavar="FILE", help="A facts.toml or a system prompt.")] = None,
    run: Annotated[str, typer.Option(metavar="RUN", help="Let this run write a second draft of each.")] = "",
    json: Json = False,
) -> None:
    """Draft rows that answer questions about identity as the persona would; you edit them."""
    where = places(ctx)
    request = DraftRequest(
        questions=str(questions.expanduser().absolute()),
        to=str(out.expanduser().absolute()),
        models=str(where.models),
        persona=str(_folder(persona)) if persona else "",
        card=str(card.expanduser().absolute()) if card else "",
        run=str(where.find(run).path) if run else "",
    )
    with progress(json_wanted=json) as line:
        made = engine.call("draft", request, Drafts, line)
    if json:
        print_json(made)
        return
    counts = Counter(each.by for each in made.drafted)
    told = ", ".join(f"{count} {_BY[by]}" for by, count in counts.items())
    terminal.out().line(f"{plural(made.rows, 'draft')} in {one_line(made.path)}: {told}.")
    for question, what in made.refused.items():
        terminal.warn(f"No draft, since it is {what}: {one_line(question)}")
    for note in made.notes:
        terminal.warn(note)
    terminal.out().line(f"Read and edit them: molting data {one_line(made.path)}")


def _folder(given: Path) -> Path:
    """The folder that is there, else the shipped persona of that name."""
    folder = given.expanduser().absolute()
    return persona_folder(str(given)) if not folder.exists() and len(given.parts) == 1 else folder
