"""The format of a packed run: a plain tar whose first member, MANIFEST.json, names and hashes all others.

Nothing in it needs to be executed or unpickled to be read: text, JSON and safetensors.
"""

from __future__ import annotations

import re

import msgspec

from engine.contract.durable import Entry

VERSION = 1
MANIFEST = "MANIFEST.json"
MANIFEST_LIMIT = 16 << 20
TEXT_LIMIT = 1 << 30  # bytes of one text file

TEXTS = (
    "spec.toml",
    "lifecycle.jsonl",
    "proof.json",
    "report.md",
    "report.html",
    "generation.json",
    r"curation/measures\.json",
    r"attempts/\d{1,6}/events\.jsonl",
    r"attempts/\d{1,6}/death\.json",
    r"adapter/[\w-]{1,80}\.json",
)
FROZEN = (r"answers/[\w.-]{1,120}\.jsonl", r"grades/[\w.-]{1,120}\.jsonl", r"curation/\d{1,6}(?:\.choices)?\.jsonl")
ROWS = (r"inputs/[\w.-]{1,120}\.(?:jsonl?|csv|txt|jinja|parquet|toml)",)
WEIGHTS = (r"adapter/[\w.-]{1,120}\.safetensors",)

_ALLOWED = re.compile("|".join([*TEXTS, *FROZEN, *ROWS, *WEIGHTS]))


class Archived(msgspec.Struct, kw_only=True):
    """What MANIFEST.json says. `sealed` is what the seal of `adapter/` said beside its files."""

    v: int = VERSION
    molting: str
    run: str
    name: str
    files: dict[str, Entry]
    sealed: dict[str, str | int | float] = {}


def allowed(name: str) -> bool:
    """Whether a file of this name may lie in an archive: a closed list, so nothing can climb out or be run."""
    return bool(_ALLOWED.fullmatch(name)) and ".." not in name
