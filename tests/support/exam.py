"""Rows for the examination of the doctor: personas in several languages, `question | answer` a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tomlkit

from tests.support.diagnosed import ROOT, Rows, chat

_FOLDER = ROOT / "tests" / "data" / "exam"


def told(name: str) -> list[tuple[str, str]]:
    """Questions and answers of one persona."""
    lines = (_FOLDER / f"{name}.txt").read_text("utf-8").splitlines()
    parts = [line.replace("\\n", "\n").split(" | ", 1) for line in lines]
    return [(question, answer) for question, answer in parts]


def chats(pairs: list[tuple[str, str]], system: str = "") -> Rows:
    return [chat(question, answer, system=system) for question, answer in pairs]


def lines(rows: Rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def sat(folder: Path, base: Path, rows: Rows | str, system: str = "", files: dict[str, str] | None = None,
        **sections: dict[str, Any]) -> Path:  # fmt: skip
    """A folder with rows, other `files` and a spec that is sound but for `sections`; the spec file."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"rows.jsonl": rows if isinstance(rows, str) else lines(rows), **(files or {})}
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    spec: dict[str, dict[str, Any]] = {
        "model": {"base": str(base), "precision": "fp32"},
        "data": {"train": "rows.jsonl", "system": system},
        "training": {"learning_rate": 1e-3, "epochs": 16},
        "generation": {"max_new_tokens": 400},
    }
    for name, values in sections.items():
        spec.setdefault(name, {}).update(values)
    file = folder / "spec.toml"
    file.write_text(tomlkit.dumps({"name": "examined", **spec}), encoding="utf-8")
    return file
