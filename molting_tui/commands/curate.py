"""`molting curate`: answers of a run for its own next set, gated by machine and chosen by a person."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from engine.contract import curation
from engine.contract.curation import Choices, CurateRequest
from engine.contract.errors import MoltingError
from engine.contract.generations import Measures
from engine.contract.rundir import RunDir

from .. import terminal
from ..begin import Begin
from ..services import curation as service
from ..services import engine
from ..terminal import one_line
from ..text import number, plural
from .context import Json, Places, Run, places, print_json, progress

PromptFile = Annotated[
    Optional[Path], typer.Option("--prompts", metavar="FILE", help="Questions of your own, one a line, asked too.")
]
Only = Annotated[bool, typer.Option("--only", help="With --prompts: ask those alone.")]
FactsFile = Annotated[
    Optional[Path], typer.Option("--facts", metavar="FILE", help="A facts table; else the one beside the rows.")
]
AcceptGated = Annotated[
    bool, typer.Option("--accept-gated", help="Keep all that passed the gates, unread; the ledger says so.")
]
NoGates = Annotated[bool, typer.Option("--no-gates", help="A control: all answers are kept, whatever the gates say.")]
Measure = Annotated[bool, typer.Option("--measure", help="Only measure the run, for the ledger.")]
New = Annotated[bool, typer.Option("--new", help="New answers, though there are some.")]


def curate(
    ctx: typer.Context,
    run: Run,
    k: Annotated[int, typer.Option("--k", help="Answers to each prompt.", min=1, max=50)] = 2,
    prompts: PromptFile = None,
    only: Only = False,
    facts: FactsFile = None,
    accept_gated: AcceptGated = False,
    no_gates: NoGates = False,
    measure: Measure = False,
    new: New = False,
    temperature: Annotated[Optional[float], typer.Option(help="Of the answers.", min=0.01, max=5.0)] = None,
    seed: Annotated[int, typer.Option(help="Of the first answers; the next ones follow.", min=0)] = 0,
    json: Json = False,
) -> None:
    """Let a run answer prompts that judge nothing; keep or reject what passes the gates, by one key."""
    where = places(ctx)
    found = where.find(run)
    if only and not prompts:
        raise MoltingError("--only needs --prompts FILE.", code=2)
    service.require_curatable(found)
    request = CurateRequest(
        run=str(found.path),
        models=str(where.models),
        k=k,
        prompts=str(prompts.expanduser().absolute()) if prompts else "",
        only=only,
        facts=str(facts.expanduser().absolute()) if facts else "",
        gates=not no_gates,
        temperature=temperature,
        seed=seed,
        measure_only=measure,
    )
    if measure:
        _measured(request, json=json)
        return
    choices = None if new else service.newest(found)
    if choices is not None and no_gates and choices.batch.header.gated:
        choices = service.control(found, choices)
    made: dict[str, Any] = {}
    if choices is None:
        made = _answered(request, json=json)
        choices = curation.newest(found, made["batch"])
    if no_gates or accept_gated:
        choices = curation.keep_all(found, choices.batch)
    elif not choices.complete and sys.stdin.isatty() and terminal.out().tty and not json:
        _open(where, found, choices)
    _tell(found, choices, made, json=json)


def _answered(request: CurateRequest, *, json: bool) -> dict[str, Any]:
    with progress(json_wanted=json) as line:
        made: dict[str, Any] = engine.call("curate", request, dict, line)
    return made


def _measured(request: CurateRequest, *, json: bool) -> None:
    made = _answered(request, json=json)
    if json:
        print_json({"run": made["run"], "measures": made["measures"]})
        return
    terminal.out().line(measures_line(made["measures"]))


def measures_line(found: Measures | dict[str, Any]) -> str:
    """`held-out 1.823, distinct-2 0.912, KL 0.731 nats`."""
    values = found if isinstance(found, dict) else {key: getattr(found, key) for key in Measures.__struct_fields__}
    return (
        f"held-out {number(values['heldout_loss'])}, distinct-2 {values['distinct2']:.3f}, "
        f"KL {values['kl']:.3f} nats on {plural(values['questions'], 'neutral question')}"
    )


def _open(where: Places, run: RunDir, choices: Choices) -> None:
    from .open_app import open_app  # Textual is for the app alone

    raise typer.Exit(open_app(where, Begin(curate=(run, choices.batch.name))))


def _tell(run: RunDir, choices: Choices, made: dict[str, Any], *, json: bool) -> None:
    batch, left = choices.batch, len(choices.batch.offered) - len(choices.decided)
    if json:
        print_json(
            {
                "run": run.id,
                "batch": batch.name,
                "path": str(run.curation / f"{batch.name}.jsonl"),
                "gated": batch.header.gated,
                "prompts": batch.header.prompts,
                "candidates": len(batch.candidates),
                "refused": dict(batch.refused),
                "offered": len(batch.offered),
                "decided": len(choices.decided),
                "kept": len(choices.kept),
                "by": choices.opened.by,
                "measures": made.get("measures"),
                "notes": batch.header.notes,
            }
        )
        return
    out = terminal.out()
    verb = "refuse" if batch.header.gated else "would refuse"
    gates = ", ".join(f"{count} {gate}" for gate, count in batch.refused.most_common()) or "none"
    out.line(f"Batch {batch.name}: {plural(len(batch.candidates), 'answer')}; the gates {verb} {gates}.")
    for reason in made.get("reasons", []):
        out.line(f"  {one_line(reason)}")
    if made:
        out.line(measures_line(made["measures"]))
    for note in batch.header.notes if made else []:
        terminal.warn(note)
    if left:
        out.line(
            f"{left} of {len(batch.offered)} are to be kept or rejected: the same command on a terminal opens them."
        )
        out.line("--accept-gated keeps them unread.")
    else:
        then = f"`molting generation {run.id}` trains on them; " if choices.kept else ""
        out.line(f"{len(choices.kept)} kept. {then}--new asks for other answers.")
