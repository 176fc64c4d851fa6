"""Files of others are read once, whole, and only if they are plain files of a sane size."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import MoltingError

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_CHUNK = 1 << 20


def open_plain(path: Path) -> int:
    """A descriptor of a plain file. A symlink, a FIFO or a device in its place is refused, never waited for.

    FileNotFoundError where there is none, MoltingError for anything else.
    """
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise MoltingError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise MoltingError(f"{path} is not a plain file.")
    return fd


def read_plain(path: Path, limit: int) -> bytes:
    """All of a plain file of at most `limit` bytes. FileNotFoundError, or MoltingError for anything else there."""
    fd = open_plain(path)
    try:
        parts, left = [], limit + 1
        while left > 0 and (part := os.read(fd, min(left, _CHUNK))):
            parts.append(part)
            left -= len(part)
    except OSError as error:
        raise MoltingError(f"{path} cannot be read: {error.strerror}.") from None
    finally:
        os.close(fd)
    if left <= 0:
        raise MoltingError(f"{path} is far too large to be what it should be.")
    return b"".join(parts)
