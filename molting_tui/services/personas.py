"""The personas that ship with Molting, and the runs that were made of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from engine.contract import places, rundir, summary, tomlcheck
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec, total_steps


def persona_folder(persona: str) -> Path:
    """Where a shipped persona lies. MoltingError (code 2) naming those there are."""
    personas = places.shipped() / "personas"
    known = sorted(path.parent.name for path in personas.glob("*/spec.toml"))
    if persona not in known:
        raise MoltingError(
            f"No persona {persona!r} ships with Molting.", remedy=f"There are: {', '.join(known)}.", code=2
        )
    return personas / persona


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
