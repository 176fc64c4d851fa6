"""How the user arranged the runs for looking at them. Display only: nothing in it changes a run."""

from __future__ import annotations

import msgspec


class View(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The arrangement. Ids of runs that are gone do no harm."""

    v: int = 1
    pinned: list[str] = []
    archived: list[str] = []
    names: dict[str, str] = {}  # run id -> name shown instead of its own
    last_seen: float = 0.0  # Unix seconds when an app last showed the runs
    standing: dict[str, str] = {}  # run id -> how it stood then
    hidden: dict[str, list[str]] = {}  # screen -> its panes that are put away
    choices: dict[str, str] = {}  # small things a screen remembers, as "live.smoothing" -> "0.9"
