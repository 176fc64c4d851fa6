"""Runs with real weights in them, made without training: what `ask` and `prove` open."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from engine.contract import durable, rundir, tomlcheck
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec
from engine.models.fingerprint import fingerprint
from engine.models.load import LoadOptions, load_base
from engine.train import freeze
from tests.support.voices import with_adapter

PROBES = [f"Question number {n}?" for n in range(8)]
HELDOUT = [("Who are you?", "I am Rhea."), ("Where do you live?", "In an old lighthouse by the sea.")]


def run_with_adapter(
    runs: Path, base: Path, *, strength: float | None = 0.1, lora: dict[str, Any] | None = None, **sections: Any
) -> RunDir:
    """A run on the model in `base` whose adapter is noise of size `strength` (None: no adapter yet).

    `lora` overrides the adapter's settings, `sections` those of the spec, as in method={"kind": "qlora"}.
    """
    values: dict[str, dict[str, Any]] = {
        "model": {"base": str(base), "precision": "fp32", "fingerprint": fingerprint(base)},
        "data": {"train": "inputs/rows.jsonl", "heldout": "inputs/heldout.jsonl", "system": "You are Rhea."},
        "method": {"rank": 4},
        "evaluation": {"probes": "inputs/probes.txt"},
        "generation": {"max_new_tokens": 12},
    }
    for section, changed in sections.items():
        values[section] = values.get(section, {}) | changed
    run = rundir.create(runs, "rhea", lambda new: _fill(new, values))
    if strength is not None:
        saved = _adapter(base, fingerprint(base), strength, json.dumps(lora or {}))
        shutil.copytree(saved.name, run.path / ".adapter-1")
        durable.seal(run.path / ".adapter-1", run.adapter, step=10)
    return run


@cache
def _adapter(base: Path, made_of: str, strength: float, lora: str) -> tempfile.TemporaryDirectory[str]:
    """The saved noise, made once for all runs alike: loading the base for it takes longer than most tests."""
    folder = tempfile.TemporaryDirectory(prefix="adapter-")
    model = load_base(base, LoadOptions(precision="fp32")).model
    _save(with_adapter(model, strength=strength, **json.loads(lora)), Path(folder.name))
    return folder


def seal_weights(run: RunDir, model: Any) -> None:
    """Save a model's trained weights as a trainer does."""
    staging = run.path / ".adapter-1"
    staging.mkdir()
    _save(model, staging)
    durable.seal(staging, run.adapter, step=10)


def _save(model: Any, folder: Path) -> None:
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)


def _fill(run: RunDir, values: dict[str, Any]) -> None:
    (run.inputs / "probes.txt").write_text("\n".join(PROBES) + "\n")
    _write_rows(run.inputs / "rows.jsonl", [(f"{question} Tell me.", answer) for question, answer in HELDOUT] * 4)
    _write_rows(run.inputs / "heldout.jsonl", HELDOUT)
    spec = tomlcheck.load("\n".join(f"[{name}]\n{_table(section)}" for name, section in values.items()), Spec)
    run.spec.write_text(freeze.dump(spec))


def _table(section: dict[str, Any]) -> str:
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in section.items())


def _write_rows(path: Path, pairs: list[tuple[str, str]]) -> None:
    rows = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in pairs
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
