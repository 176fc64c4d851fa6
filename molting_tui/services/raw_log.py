"""What the engine printed, as it stands in the newest attempt's engine.log: tracebacks, and words of libraries."""

from __future__ import annotations

import os

from engine.contract.errors import MoltingError
from engine.contract.plainfile import open_plain
from engine.contract.rundir import RunDir
from engine.contract.safe import safe

_TAIL = 64 << 10  # bytes from the end


def last_lines(run: RunDir) -> list[str]:
    """The last lines, safe to show; what a progress bar wrote over is left out. MoltingError if it cannot be read."""
    attempts = run.attempts()
    if not attempts:
        return []
    try:
        fd = open_plain(attempts[-1].log)
    except FileNotFoundError:
        return []
    try:
        size = os.fstat(fd).st_size
        raw = os.pread(fd, _TAIL, max(0, size - _TAIL))
    except OSError as error:
        raise MoltingError(f"{attempts[-1].log} cannot be read: {error.strerror}.") from None
    finally:
        os.close(fd)
    lines = raw.decode("utf-8", "replace").split("\n")[1 if size > _TAIL else 0 :]
    return [_shown(line) for line in lines if line.strip()]


def _shown(line: str) -> str:
    return safe(line.rstrip("\r").rpartition("\r")[2].expandtabs(4), keep_newlines=False)
