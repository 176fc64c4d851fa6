"""`molting needle`: is a fact found again that stands somewhere in a long text?"""

from __future__ import annotations

import msgspec
import typer

from engine.contract.needle import Length, Needle, NeedleRequest

from .. import terminal, text
from ..services import engine
from ..terminal import Terminal, one_line
from .context import Json, Run, places, print_json, progress

_CELL = 9
_SHOWN = 70  # characters of an answer


def needle(ctx: typer.Context, run: Run, json: Json = False) -> None:
    """Plant a fact in texts of 1x, 2x and 4x the trained length, and ask for it. Exits 1 if 1x is not recalled."""
    where = places(ctx)
    found = where.find(run)
    request = NeedleRequest(run=str(found.path), models=str(where.models))
    with progress(json_wanted=json) as line:
        needle = engine.call("needle", request, Needle, line)
    if json:
        print_json({"run": found.id} | msgspec.structs.asdict(needle))
    else:
        show(needle)
    if not all(each.adapter for each in needle.lengths[0].planted) or not needle.lengths[0].planted:
        raise typer.Exit(1)


def show(found: Needle) -> None:
    """One row for each length and voice, one column for each depth; below, what was said where it was wrong."""
    out = terminal.out()
    for warning in found.warnings:
        out.line(one_line(warning))
    stretched = f", stretched ({one_line(found.rope)})" if found.rope else ""
    window = f"{found.window:,} tokens" if found.window else "a window of unknown size"
    out.line(f"Trained on rows of up to {found.trained:,} tokens; the model takes {window}{stretched}.")
    out.line()
    depths = next(([each.depth for each in length.planted] for length in found.lengths if length.planted), [])
    if depths:
        heads = "".join(f"{text.percent(depth):>{_CELL}}" for depth in depths)
        out.line(out.paint("title", f"{'fact at':<24}{heads}"))
    for length in found.lengths:
        _row(length, out)
    missed = [(length, each) for length in found.lengths for each in length.planted if not each.adapter]
    if missed:
        out.line()
    for length, each in missed:
        said = text.fit(one_line(each.adapter_answer) or "(nothing)", _SHOWN).rstrip()
        out.line(f"{length.times}x at {text.percent(each.depth)}: {said}")


def _row(length: Length, out: Terminal) -> None:
    head = f"{length.times}x {length.tokens:>7,}"
    if length.problem:
        out.line(f"{head}  not asked: {one_line(length.problem)}")
        return
    for voice in ("base", "adapter"):
        recalled = [getattr(each, voice) for each in length.planted]
        cells = "".join(f"{'found' if each else '-':>{_CELL}}" for each in recalled)
        out.line(f"{head if voice == 'base' else '':<15}{voice:<9}{cells}  {sum(recalled)} of {len(recalled)}")
