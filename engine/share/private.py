"""What must not travel: tokens, and paths that tell who somebody is and how their machine is laid out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from engine.contract.safe import redact

_HOMES = r"(?:/home/|/Users/|[A-Za-z]:\\+Users\\+)(?:[^/\\\s\"']|\\u[0-9a-f]{4})+"


class Cleaner:
    """Takes secrets, and the names of private folders, out of a text; what lies below a folder stays readable."""

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        known = {str(folder) for folder in [Path.home(), *folders] if folder != Path("/")}
        known |= {json.dumps(folder)[1:-1] for folder in known}  # as PEFT's files have them: \u00e9 for é
        longest_first = sorted(known, key=len, reverse=True)
        # A folder ends where its name ends: /home/ana must not touch /home/anabel.
        names = "|".join(re.escape(name) for name in longest_first)
        self._private = re.compile(f"(?:{names})(?![\\w.-])|{_HOMES}")

    def __call__(self, text: str) -> str:
        return redact(self._private.sub("~", text))
