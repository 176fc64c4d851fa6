"""`molting demo`: model, preflight, training, answers and proof, from nothing to the end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from engine.contract import calls, lifecycle, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir

from .. import terminal, voices
from ..begin import Begin
from ..services import engine, proofs
from ..services.personas import earlier_run, persona_folder
from . import attach, doctor, prove, train
from .context import Json, Places, places, print_json, progress


def demo(
    ctx: typer.Context,
    persona: Annotated[str, typer.Option(help="The shipped persona: rhea or zeca.")] = "rhea",
    json: Json = False,
) -> None:
    """Train a shipped persona on a small model and show what it did. A second time it shows at once."""
    where, spec = places(ctx), persona_folder(persona) / "spec.toml"
    _say(f"Molting teaches a small model to be {persona}. Ctrl+C leaves; the training goes on.", json)
    with progress(json_wanted=json) as line:
        engine.call("demo-model", calls.DemoModelRequest(models=str(where.models)), calls.DemoModel, line)
    run = _trained(where, spec, json=json)
    proof = proofs.recorded(run)
    if proof is None:
        _say("Asking base and adapter, and proving the effect.", json)
        proof = prove.proof_of(where, run, json=json)
    else:
        _say(f"Its effect was proven before; `molting prove {run.id}` measures anew.", json)
    if json:
        print_json({"run": run.id, "path": str(run.path)} | prove.to_plain(proof))
    else:
        _show(where, run, proof)
    prove.exit_by(proof)


def _trained(where: Places, spec: Path, *, json: bool) -> RunDir:
    """A finished run of `spec`: one there is, one that is still going or can go on, or a new one."""
    earlier = earlier_run(where.runs, spec)
    if earlier is None:
        run = _started(where, spec, json=json)
    else:
        run, state = earlier
        _say(f"This persona was trained before: {run.id} ({state}).", json)
        if state == "finished":
            return run
        if state in {"interrupted", "lost"}:
            request = calls.RunRequest(run=str(run.path), models=str(where.models))
            with progress(json_wanted=json) as line:
                engine.call("resume", request, calls.Started, line)
    state = _watched(where, run, json=json)
    if state in lifecycle.LIVE:
        _say(f"{run.id} goes on without you. `molting demo` shows what came of it when it is finished.", json)
        raise typer.Exit
    if state != "finished":
        raise MoltingError(
            f"The training ended as {state}, so there is nothing to show.",
            remedy=f"`molting attach {run.id}` tells why; `molting resume {run.id}` continues it.",
            code=1,
        )
    return run


def _watched(where: Places, run: RunDir, *, json: bool) -> str:
    """Follow the run: in the app on a terminal, else as lines. The state in which it was left."""
    if json or not (sys.stdin.isatty() and terminal.out().tty):
        return attach.follow(run, quiet=json)
    from .open_app import open_app

    open_app(where, Begin(show=run))
    return str(summary.summarise(run).state)


def _started(where: Places, spec: Path, *, json: bool) -> RunDir:
    checked = doctor.preflight(where, spec, json=json)
    if not json:
        doctor.show(checked)
    if doctor.has_errors(checked):
        raise MoltingError("The preflight found errors, so nothing was started.", code=1)
    return RunDir(Path(train.create(where, spec, json=json).path))


def _show(where: Places, run: RunDir, proof: calls.Proof) -> None:
    out = terminal.out()
    out.line()
    for pair in proof.answers:
        for line in voices.pair_lines(pair, out):
            out.line(line)
    prove.show(proof)
    out.line()
    out.line(f"run      {run.path}")
    out.line(f"adapter  {run.adapter}")
    out.line(f"models   {where.models}")
    out.line()
    out.line("next")
    out.line(f'  molting ask {run.id} "Who are you?"')
    out.line(f"  molting attach {run.id}")
    out.line("  molting init my-persona")


def _say(sentence: str, json: bool) -> None:
    if not json:
        terminal.out().line(sentence)
