"""`molting pack` and `molting unpack`: a run as one file, to keep or to give away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from engine.contract import outputs

from .. import terminal, text
from ..services import engine
from ..terminal import one_line
from .context import Json, Run, places, print_json, progress


def pack(
    ctx: typer.Context,
    run: Run,
    to: Annotated[Optional[Path], typer.Option("--to", metavar="FILE", help="Where to write it.")] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Take the training rows along.")] = False,
    json: Json = False,
) -> None:
    """Write a run into one sealed file: spec, events, weights, answers, grades, report; no tokens, no private paths."""
    where = places(ctx)
    found = where.find(run)
    target = (to or Path(f"{found.id}.molting.tar")).expanduser().absolute()
    request = outputs.PackRequest(run=str(found.path), models=str(where.models), file=str(target), rows=rows)
    with progress(json_wanted=json) as line:
        packed = engine.call("pack", request, outputs.Packed, line)
    if json:
        print_json(packed)
        return
    out = terminal.out()
    files = text.plural(packed.files, "file")
    out.line(f"{one_line(packed.path)}: {files}, {text.size(packed.size)}.")
    for sentence in packed.left_out:
        out.line(f"  left out: {one_line(sentence)}")
    out.line(f"`molting unpack {one_line(target.name)}` opens it elsewhere.")


def unpack(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `molting pack` wrote.")],
    json: Json = False,
) -> None:
    """Check a packed run and open it here. Its weights can be asked, proved and compared; it cannot be resumed."""
    request = outputs.UnpackRequest(file=str(file.expanduser().absolute()), runs=str(places(ctx).runs))
    with progress(json_wanted=json) as line:
        made = engine.call("unpack", request, outputs.Unpacked, line)
    if json:
        print_json(made)
        return
    out = terminal.out()
    weights = "its weights are here" if made.weights else "it has no trained weights"
    out.line(f"{made.run} ({one_line(made.name)}): {text.plural(made.files, 'file')} checked, {weights}.")
    out.line(f"{one_line(made.path)}")
