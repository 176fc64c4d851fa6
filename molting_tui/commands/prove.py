"""`molting prove`: does the adapter change the model?"""

from __future__ import annotations

import typer

from engine.contract import calls
from engine.contract.rundir import RunDir

from .. import terminal, voices
from ..services import engine
from .context import Json, Places, Run, places, print_json, progress


def prove(ctx: typer.Context, run: Run, json: Json = False) -> None:
    """Show, with numbers, whether the adapter is applied and has an effect. Exits 1 if it has none."""
    where = places(ctx)
    found = where.find(run)
    proof = proof_of(where, found, json=json)
    if json:
        print_json({"run": found.id} | to_plain(proof))
    else:
        show(proof)
    exit_by(proof)


def proof_of(where: Places, run: RunDir, *, json: bool) -> calls.Proof:
    """Ask the engine for the proof."""
    request = calls.RunRequest(run=str(run.path), models=str(where.models))
    with progress(json_wanted=json) as line:
        return engine.call("prove", request, calls.Proof, line)


def to_plain(proof: calls.Proof) -> dict[str, object]:
    return {name: getattr(proof, name) for name in proof.__struct_fields__}


def show(proof: calls.Proof) -> None:
    out = terminal.out()
    for line in voices.proof_lines(proof, out):
        out.line(line)


def exit_by(proof: calls.Proof) -> None:
    if proof.verdict != "effective":
        raise typer.Exit(1)
