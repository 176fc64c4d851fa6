"""Where the app keeps what is only for looking at later: logs of crashes and of engine calls."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
import traceback
from pathlib import Path

from engine.contract.safe import redact

_KEPT = 50
_NUMBERS = itertools.count(1)  # of one process: several calls begin within a second


def folder() -> Path:
    """The private folder for logs: XDG state, or a temporary one where the home cannot be written."""
    chosen = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "molting"
    try:
        chosen.mkdir(mode=0o700, parents=True, exist_ok=True)
        return chosen
    except OSError:
        return Path(tempfile.mkdtemp(prefix="molting-"))


def new_log(kind: str) -> Path:
    """A fresh log file, `kind`-date-pid-number.log; the oldest of many are removed."""
    place = folder()
    for old in sorted(place.glob("*.log"), key=_modified)[:-_KEPT]:
        old.unlink(missing_ok=True)
    path = place / f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{next(_NUMBERS)}.log"
    path.touch(mode=0o600)
    return path


def log_crash(error: BaseException) -> Path:
    """Write the traceback, secrets removed, and say where."""
    path = new_log("crash")
    path.write_text(redact("".join(traceback.format_exception(error))), encoding="utf-8", errors="backslashreplace")
    return path


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
