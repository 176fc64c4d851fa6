"""`molting demo`: model, preflight, training, answers and proof, from nothing to the end."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from engine.contract import calls, rundir, summary, tomlcheck
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec, total_steps

from .. import terminal, voices
from ..services import engine
from . import attach, doctor, prove, train
from .context import Json, Places, places, print_json, progress
from .init import persona_folder


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
    proof = prove.recorded_proof(run)
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
    state = attach.follow(run, quiet=json)
    if state != "finished":
        raise MoltingError(
            f"The training ended as {state}, so there is nothing to show.",
            remedy=f"`molting attach {run.id}` tells why; `molting resume {run.id}` continues it.",
            code=1,
        )
    return run


def _started(where: Places, spec: Path, *, json: bool) -> RunDir:
    checked = doctor.preflight(where, spec, json=json)
    if not json:
        doctor.show(checked)
    if doctor.has_errors(checked):
        raise MoltingError("The preflight found errors, so nothing was started.", code=1)
    return RunDir(Path(train.create(where, spec, json=json).path))


def earlier_run(runs: Path, spec: Path) -> tuple[RunDir, str] | None:
    """The best run made of exactly this spec and data, with its state: a finished one before one to go on with."""
    wanted = tomlcheck.load(spec, Spec)
    text = (spec.parent / wanted.data.train).read_bytes()
    rows, steps = hashlib.sha256(text).hexdigest(), total_steps(len(text.split(b"\n")) - 1, wanted)
    system = wanted.data.system
    if wanted.data.system_file:
        system = (spec.parent / wanted.data.system_file).read_text("utf-8").strip()
    usable = {"finished": 0, "queued": 1, "starting": 1, "training": 1, "interrupted": 2, "lost": 2}
    found = []
    for run in rundir.listed(runs):
        try:
            frozen = summary.load_spec(run)
        except MoltingError:
            continue
        same = (frozen.data.sha256, frozen.data.system) == (rows, system) and frozen.model.base == wanted.model.base
        same = same and (frozen.name, frozen.training.max_steps) == (wanted.name, steps)
        if not same or not _settled(wanted.method, frozen.method) or not _settled(wanted.training, frozen.training):
            continue
        seen = summary.summarise(run)
        if seen.state in usable and (not seen.live or seen.owned):
            found.append((usable[seen.state], -(seen.started or 0.0), run, str(seen.state)))
    found.sort(key=lambda each: each[:2])
    return found[0][2:] if found else None


def _settled(wanted: msgspec.Struct, frozen: msgspec.Struct) -> bool:
    """Whether `frozen` is what `wanted` became: "auto" was open, and max_steps follows from the epochs."""
    values = [(name, getattr(wanted, name), getattr(frozen, name)) for name in wanted.__struct_fields__]
    return all(asked in ("auto", got) for name, asked, got in values if name != "max_steps")


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
