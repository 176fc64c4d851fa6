"""`molting generation`: the next run of self-training from the base, and the ledger of all of them."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from engine.contract import generations, sweeps
from engine.contract.generations import Generated, GenerationRequest, Limits
from engine.contract.rundir import RunDir

from .. import terminal
from ..services import engine
from ..state import ledger
from . import attach
from .context import Json, Run, places, print_json, progress

LedgerOnly = Annotated[bool, typer.Option("--ledger", help="Only the ledger of all generations; start nothing.")]
Override = Annotated[
    bool, typer.Option("--despite-stop-rule", help="Go on although the stop rule says no; that is recorded.")
]
KlLimit = Annotated[
    Optional[float],
    typer.Option("--kl-limit", metavar="NATS", help="Stop above this KL; else 25 % above generation 0.", min=0.0),
]


def generation(
    ctx: typer.Context,
    run: Run,
    show: LedgerOnly = False,
    batch: Annotated[str, typer.Option(metavar="N", help="The answers of this batch; else of the newest.")] = "",
    despite_stop_rule: Override = False,
    kl_limit: KlLimit = None,
    seeds: Annotated[
        int, typer.Option(metavar="N", help="Train it N times, each with another seed.", min=1, max=sweeps.MOST)
    ] = 1,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay and follow the run.")] = False,
    json: Json = False,
) -> None:
    """Train the next generation: from the base, on all original rows and what was kept of this run's answers."""
    where = places(ctx)
    found = where.find(run)
    limits = Limits(kl=kl_limit)
    made = None
    if not show:
        request = GenerationRequest(
            run=str(found.path),
            runs=str(where.runs),
            models=str(where.models),
            batch=batch,
            override=despite_stop_rule,
            limits=limits,
            seeds=seeds,
        )
        with progress(json_wanted=json) as line:
            made = engine.call("generation", request, Generated, line)
    _tell(found, made, limits, json=json and not follow)
    if made is not None and follow:
        new = RunDir(where.runs / made.run)
        attach.finish(new, attach.follow(new, quiet=json), json=json)


def _tell(run: RunDir, made: Generated | None, limits: Limits, *, json: bool) -> None:
    shown = made.run if made else run.id
    entries = generations.ledger(run)
    line = generations.line_of(entries, run.id)
    if json:
        print_json(
            {
                "run": shown,
                "path": made.path if made else str(run.path),
                "state": made.state if made else "",
                "generation": made.generation if made else generations.read(run),
                "left_out": made.left_out if made else [],
                "others": made.others if made else [],
                "stop": generations.stop_reasons(line, limits),
                "ledger": entries,
            }
        )
        return
    out = terminal.out()
    for each in ledger.lines(entries, run.id, limits):
        out.line(each)
    for left in made.left_out if made else []:
        terminal.warn(f"Left out: {left}")
    if made is not None:
        new = made.generation
        kept = f"{new.originals} original rows and {new.accepted} accepted answers"
        out.line(f"{made.run}: generation {new.number}, from the base, on {kept}.")
        if made.others:
            out.line(f"With other seeds: {', '.join(made.others)}. `molting sweep show {made.run}` compares them.")
        terminal.err().line(f"It runs without this terminal. `molting attach {made.run}` follows it.")
