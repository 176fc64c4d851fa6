"""A persona folder with one thing wrong, or nothing, and what the doctor says of it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from engine.checks import preflight
from engine.contract.calls import Finding
from engine.train import freeze

ROOT = Path(__file__).resolve().parent.parent.parent
PERSONAS = ROOT / "data" / "personas"
Rows = list[dict[str, Any]]


def shipped_rows(persona: str = "rhea", count: int = 60) -> Rows:
    """The first rows of a shipped persona, which are sound."""
    lines = (PERSONAS / persona / "rows.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines[:count]]


def chat(*texts: str, system: str = "") -> dict[str, Any]:
    """A row: user, assistant, user, …"""
    turns = [{"role": "system", "content": system}] if system else []
    turns += [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return {"messages": turns}


def persona(folder: Path, base: Path, rows: Rows | str, /, **sections: dict[str, Any]) -> Path:
    """A folder with rows (or the text of a file of them) and a spec that is sound but for `sections`; the spec file."""
    folder.mkdir(parents=True, exist_ok=True)
    text = rows if isinstance(rows, str) else "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(text, encoding="utf-8")
    spec = copy.deepcopy(
        {
            "name": "somebody",
            "model": {"base": str(base), "precision": "fp32"},
            "data": {"train": "rows.jsonl", "system": (PERSONAS / "rhea" / "system.txt").read_text("utf-8").strip()},
            "training": {"learning_rate": 1e-3},
            "generation": {"max_new_tokens": 400},
        }
    )
    for name, values in sections.items():
        spec.setdefault(name, {}).update(values)  # type: ignore[attr-defined]
    file = folder / "spec.toml"
    file.write_text(tomlkit.dumps(spec), encoding="utf-8")
    return file


def diagnose(spec: Path) -> dict[str, Finding]:
    """id -> finding, of spec, model and rows; what depends on the machine has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preflight, "_of_this_machine", lambda *_: iter(()))
        checked = preflight.check(freeze.open_spec(spec), spec.parent / "models")
    return {finding.id: finding for finding in checked.findings}


def serious(found: dict[str, Finding]) -> dict[str, str]:
    """Errors and warnings: id -> sentence and evidence."""
    return {id: f"{each.message} | {each.evidence}" for id, each in found.items() if each.severity != "note"}
