"""`molting bench`: the same prompts over several models, quantisations or presets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from engine.contract import bench as benches
from engine.contract import settings
from engine.contract.bench import Bench, Benched, BenchRequest
from engine.contract.errors import MoltingError

from .. import terminal, text
from ..services import bench as service
from ..services import bench_out, engine
from ..state import bench_view
from .context import Json, Places, places, print_json, progress


def bench(
    ctx: typer.Context,
    models: Annotated[
        Optional[list[str]], typer.Argument(metavar="MODEL…", help="demo, a folder, a GGUF file, a hub id, or a RUN.")
    ] = None,
    prompts: Annotated[
        Optional[list[str]],
        typer.Option(metavar="FILE|NAME", help="A file, a shipped set such as reasoning-en, or all."),
    ] = None,
    preset: Annotated[
        Optional[list[str]], typer.Option(metavar="NAME", help="Ways to answer; several are compared.")
    ] = None,
    quantize: Annotated[
        Optional[list[str]], typer.Option(metavar="KIND", help="none, nf4 or int8; several are compared.")
    ] = None,
    precision: Annotated[
        Optional[list[str]], typer.Option(metavar="KIND", help="bf16, fp16 or fp32; several are compared.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Cap of an answer, in tokens.", min=1)] = service.DEFAULT_CAP,
    seed: Annotated[int, typer.Option(help="For sampling.", min=0)] = 0,
    to: Annotated[
        Optional[Path], typer.Option("--to", metavar="FILE", help="Also write the answers as .csv or .md.")
    ] = None,
    json: Json = False,
) -> None:
    """Ask several models the same, one after the other. Without MODEL: the benches there are."""
    where = places(ctx)
    if not models:
        _list(where, json)
        return
    if to is not None:
        bench_out.require_kind(to)
    wanted = service.plan(
        where.runs,
        models,
        prompts or ["reasoning-en"],
        quantize=service.quantizations(quantize or []),
        precision=service.precisions(precision or []),
        wanted=preset or [],
        own=settings.load().presets,
        cap=max_new_tokens,
        seed=seed,
    )
    with progress(json_wanted=json) as line:

        def call(request: BenchRequest) -> Benched:
            return engine.call("bench", request, Benched, line)

        found = service.carry_out(wanted, where.runs, where.models, call, line)
    if to is not None:
        bench_out.write(found, range(len(found.rows)), to)
    if json:
        print_json(found)
    else:
        _print(found, to)
    if all(row.error for row in found.rows):
        raise typer.Exit(1)


def _print(found: Bench, to: Path | None) -> None:
    out = terminal.out()
    order = bench_view.ordered(found)
    answered = any(not row.error for row in found.rows)
    for prompt in found.header.prompts if answered else ():
        for line in bench_view.question_lines(prompt, out.width):
            out.line("".join(said for said, _ in line))
        left = [number for number in order if not found.rows[number].error]
        while left:
            some = bench_view.window(left, 0, out.width)
            left = left[len(some) :]
            out.line()
            for line in bench_view.answer_lines(found, some, prompt, out.width):
                out.line("".join(said for said, _ in line).rstrip())
        out.line()
    for each in bench_view.table(found, order):
        out.line(each)
    for row in found.rows:
        if row.error and row.remedy:
            out.line(f"{bench_view.name(row)}: {terminal.one_line(row.remedy)}")
    for note in dict.fromkeys(note for row in found.rows for note in row.notes):
        out.line(terminal.one_line(note))
    out.line(f"Saved in {terminal.one_line(found.path)}" + (f" and {terminal.one_line(str(to))}." if to else "."))


def _list(where: Places, json: bool) -> None:
    found = []
    for path in benches.listed(where.runs):
        try:
            found.append(benches.load(path))
        except MoltingError as error:
            terminal.warn(str(error))
    if json:
        print_json({"benches": [{"id": each.id, "path": each.path, "complete": each.complete} for each in found]})
        return
    out = terminal.out()
    if not found:
        sets = ", ".join(benches.shipped())
        out.line(f"No bench yet. `molting bench demo --prompts reasoning-en` makes one; sets that ship: {sets}.")
    for each in found:
        models = ", ".join(candidate.name for candidate in each.header.candidates)
        kind = "" if each.complete else ", not complete"
        asked = text.plural(len(each.header.prompts), "prompt")
        out.line(f"{each.id}  {asked}{kind}  {terminal.one_line(models)}")
