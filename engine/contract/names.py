"""What a run is called: the name given to it in the app, else its spec's, else its id. Decided here for all sides.

Given names lie beside the runs in `.app/view.json`; they change nothing in a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from .errors import MoltingError
from .plainfile import read_plain
from .safe import safe

_LIMIT = 16 << 20  # bytes
_LONGEST = 200  # characters


class _View(msgspec.Struct):
    """What matters here of `view.json`."""

    names: dict[str, str] = {}


def given(runs: Path) -> dict[str, str]:
    """Run id -> the name given in the app; empty where there is none that can be read."""
    try:
        return msgspec.json.decode(read_plain(runs / ".app" / "view.json", _LIMIT), type=_View).names
    except (OSError, MoltingError, ValueError, RecursionError):
        return {}


def shown(run_id: str, own: str, given: Mapping[str, str]) -> str:
    """The name on one line and harmless; `own` is the spec's."""
    name = given.get(run_id) or own or run_id
    return safe(" ".join(name.split())[:_LONGEST], keep_newlines=False) or run_id
