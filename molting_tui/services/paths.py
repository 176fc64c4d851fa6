"""Completes the path of a file while it is typed."""

from __future__ import annotations

from pathlib import Path

from textual.suggester import Suggester

_LOOKED_AT = 2000  # entries of a folder


class PathSuggester(Suggester):
    """Suggests folders, and files that may be specs."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        return complete(value)


def complete(value: str) -> str | None:
    """The first path in order that begins with `value`: folders end in `/`. None where there is none."""
    head, slash, start = value.rpartition("/")
    folder = Path(f"{head}/" if slash else ".").expanduser()
    try:
        entries = sorted(entry for _, entry in zip(range(_LOOKED_AT), folder.iterdir(), strict=False))
    except OSError:
        return None
    for entry in entries:
        name = entry.name
        if not name.startswith(start) or name == start or (name.startswith(".") and not start.startswith(".")):
            continue
        if not name.isprintable():
            continue
        if entry.is_dir():
            return f"{head}{slash}{name}/"
        if entry.suffix == ".toml":
            return f"{head}{slash}{name}"
    return None
