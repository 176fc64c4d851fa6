"""`molting merge`: base and adapter as one model for other programs, proven to be the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from engine.contract import outputs

from .. import terminal, text
from ..services import engine
from ..terminal import one_line
from .context import Json, Run, places, print_json, progress


def merge(
    ctx: typer.Context,
    run: Run,
    to: Annotated[Optional[Path], typer.Option("--to", metavar="DIR", help="The new folder to write.")] = None,
    checkpoint: Annotated[Optional[int], typer.Option(metavar="STEP", help="Merge that checkpoint.", min=0)] = None,
    gguf: Annotated[bool, typer.Option("--gguf", help="Also convert it, where llama.cpp is here.")] = False,
    json: Json = False,
) -> None:
    """Merge the adapter into a 16-bit copy of its base and prove that nothing was lost. Exits 1 if it was."""
    where = places(ctx)
    found = where.find(run)
    target = (to or Path(f"{found.id}-merged")).expanduser().absolute()
    request = outputs.MergeRequest(
        run=str(found.path), models=str(where.models), to=str(target), checkpoint=checkpoint, gguf=gguf
    )
    with progress(json_wanted=json) as line:
        merged = engine.call("merge", request, outputs.Merged, line)
    if json:
        print_json(merged)
        return
    out = terminal.out()
    out.line(f"{out.paint('finished', out.mark('finished'))} {one_line(merged.proof.sentence)}")
    files = text.plural(merged.files, "file")
    out.line(f"{one_line(merged.path)}: {files}, {text.size(merged.size)}, {merged.precision}.")
    for note in merged.notes:
        out.line(one_line(note))
