"""Append-only logs of JSON lines: one writer, any number of readers, each line whole or not there.

Only bytes up to the last newline count: a torn tail means wait. A complete line that cannot be used is
damage: it is skipped, counted and shown. The two are never mixed up. Lines are bytes here; what they mean is
decided in `events` and `lifecycle`.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from . import durable
from .errors import MoltingError

MAX_LINE = 1 << 20  # bytes; what is longer is damage
SYNC_EVERY = 2.0  # seconds that a crash of the machine may cost
_CHUNK = MAX_LINE + 1  # without a newline in it, the line is too long
_BLOCK = 256 << 10  # what is decoded at once of a long log: a quarter of the memory of 1 MiB, and no slower
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def whole_lines(raw: bytes) -> bytes:
    """Up to the last newline: what follows it is still being written."""
    return raw[: raw.rfind(b"\n") + 1]


class JournalWriter:
    """Appends lines, each by one system call, safe to use from several threads.

    `exclusive`: the file must not exist yet (FileExistsError), and is made durable every two seconds or when
    a line asks for it. Otherwise an existing file is continued, a line that a crash left torn is closed
    first, and every line is durable before `write` returns.
    """

    def __init__(self, path: Path, *, exclusive: bool = True) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | _FLAGS | (os.O_EXCL if exclusive else 0)
        self.path = path
        self._fd = os.open(path, flags, 0o600)
        self._sync_every = SYNC_EVERY if exclusive else 0.0
        self._synced = time.monotonic()
        self._torn = not exclusive
        # Re-entrant, because a signal handler may write while its own thread is writing.
        self._lock = threading.RLock()
        try:
            _require_plain(path, self._fd)
            durable.fsync_dir(path.parent)
        except BaseException:
            os.close(self._fd)
            raise

    def write(self, line: bytes, durable: bool = False) -> None:
        """Append one line; its newline may be given or not. OSError when the disk refuses it.

        The line is then not there at all; if syncing failed, it is there but may not survive a power cut.
        ValueError for a line that no reader would accept: longer than 1 MiB, or with a newline inside.
        """
        line = line.removesuffix(b"\n")
        if len(line) > MAX_LINE or b"\n" in line:
            raise ValueError(f"a journal line must be one line of at most {MAX_LINE} bytes")
        with self._lock:
            self._append(line + b"\n")
            if durable or time.monotonic() - self._synced >= self._sync_every:
                self.sync()

    def sync(self) -> None:
        """Return once everything written is on the disk (about 4 ms)."""
        with self._lock:
            os.fdatasync(self._fd)
            self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close; closing twice is allowed."""
        with self._lock:
            if self._fd < 0:
                return
            try:
                self.sync()
            finally:
                os.close(self._fd)
                self._fd = -1

    def _append(self, line: bytes) -> None:
        if self._torn:
            self._close_torn_line()
        # If even taking back fails after a failed write, a fragment is left: the next write ends it first.
        self._torn = True
        durable.append(self._fd, line)
        self._torn = False

    def _close_torn_line(self) -> None:
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            durable.append(self._fd, b"\n")


class JournalReader:
    """Follows one journal by polling, in memory bounded by its longest line and by what is asked for.

    `damaged` counts the complete lines that could not be used (the caller adds those it cannot decode), and
    `restarted` says that the last `read` found the file replaced or shrunk and began anew: what was known
    before no longer holds. MoltingError if the path is not a plain file that can be read. For one thread.
    """

    _fd = -1

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        self.restarted = False
        self._offset = 0  # where the next unread line begins
        self._skipping = False  # inside a line that is too long
        self._start = 0  # what lies before has not been given yet
        self._left_over: list[bytes] = []  # read by `tail` in its block, but more than was asked for
        self._epoch = 0  # counts how often all of this began anew

    def count_damage(self, lines: int = 1) -> None:
        """Report lines that turned out not to decode."""
        self.damaged += lines

    def read(self) -> list[bytes]:
        """The complete lines added since the last call, without newlines. No file yet: none."""
        self.restarted = False
        if not self._open():
            return []
        lines: list[bytes] = []
        while (chunk := self._next_chunk()) is not None:
            lines += self.usable(chunk.split(b"\n"))
        return lines

    def blocks(self) -> Iterator[bytes]:
        """Like `read` in blocks of about 256 KiB: lines with newlines between them, for a log too long for memory.

        Damage is still in them; `usable` takes it out and counts it.
        """
        self.restarted = False
        if self._open():
            while (block := self._next_chunk(_BLOCK)) is not None:
                yield block

    def tail(self, lines: int) -> list[bytes]:
        """The last `lines` usable lines, oldest first. `read` goes on from here, `iter_backwards` back."""
        self._forget()
        if not self._open():
            return []
        self._offset = self._start = self._end_of_last_line()
        found: list[bytes] = []
        for block in self.iter_backwards():
            found = block + found
            if len(found) >= lines:
                break
        split = max(0, len(found) - lines)
        self._left_over = found[:split]
        return found[split:]

    def iter_backwards(self) -> Iterator[list[bytes]]:
        """What lies before the lines that `tail` gave: blocks of about 1 MiB going back, each in file order.

        May be left and called again; ends early when a `read` meanwhile restarts.
        """
        epoch = self._epoch
        if self._left_over:
            block, self._left_over = self._left_over, []
            yield block
        blocks = self._blocks_before(self._start)
        while epoch == self._epoch and (found := next(blocks, None)):
            self._start, lines = found
            yield self.usable(lines)

    def close(self) -> None:
        """Let go of the file, as a reader that is no longer used does by itself; a later call begins anew."""
        self._forget()

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def _forget(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._offset, self._start, self._skipping = -1, 0, 0, False
        self._left_over, self.damaged, self.restarted = [], 0, False
        self._epoch += 1

    def _open(self) -> bool:
        """Hold open the file that the path names now; False when there is none."""
        try:
            if self._fd >= 0 and not self._same(os.lstat(self.path)):
                self._forget()
                self.restarted = True
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_RDONLY | _FLAGS)
                _require_plain(self.path, self._fd)
        except FileNotFoundError:
            return False
        except MoltingError:
            self._forget()
            raise
        except OSError as error:
            raise MoltingError(f"{self.path} cannot be read: {error.strerror}.") from None
        return True

    def _same(self, named: os.stat_result) -> bool:
        """Whether the open file is the named one and still holds what was read from it."""
        if not os.path.samestat(named, os.fstat(self._fd)) or named.st_size < self._offset:
            return False
        # A log cut short and grown again past our place shows by what now lies before that place.
        return not self._offset or self._skipping or os.pread(self._fd, 1, self._offset - 1) == b"\n"

    def _next_chunk(self, size: int = _CHUNK) -> bytes | None:
        """Complete lines from here on, about `size` bytes without the last newline; None while there are none."""
        while data := os.pread(self._fd, size, self._offset):
            end = data.find(b"\n") if self._skipping else data.rfind(b"\n")
            if end >= 0 and not self._skipping:
                self._offset += end + 1
                return data[:end]
            if end >= 0:
                self._skipping = False
                self.damaged += 1
                self._offset += end + 1
            elif not self._skipping and len(data) == size < _CHUNK:
                size = _CHUNK  # a long line, or one that is damage
            elif self._skipping or len(data) == _CHUNK:
                self._skipping = True
                self._offset += len(data)
            else:
                return None
        return None

    def _end_of_last_line(self) -> int:
        at = os.fstat(self._fd).st_size
        while at:
            begin = max(0, at - _CHUNK)
            end = os.pread(self._fd, at - begin, begin).rfind(b"\n")
            if end >= 0:
                return begin + end + 1
            at = begin
        return 0

    def _blocks_before(self, at: int) -> Iterator[tuple[int, list[bytes]]]:
        """(offset of the first line, lines) going back from the line end at `at`."""
        rest = b""  # the end of a line that begins further back
        too_long = False
        while at:
            begin = max(0, at - _CHUNK)
            data = os.pread(self._fd, at - begin, begin)
            if len(data) < at - begin:
                return  # cut short under us: the next read restarts
            at, block = begin, data + rest
            first = block.find(b"\n", 0, -1) + 1
            if at and not first:
                too_long = too_long or len(block) > _CHUNK
                rest = b"\n" if too_long else block
                continue
            first = first if at else 0
            lines = block[first:-1].split(b"\n")
            if too_long:
                lines.pop()
                self.damaged += 1
                too_long = False
            rest = block[:first]
            yield at + first, lines

    def usable(self, lines: list[bytes]) -> list[bytes]:
        """Without blank lines, and without damage, which is counted: a NUL (lost by the disk) or too long."""
        usable = [line for line in lines if line and len(line) <= MAX_LINE and b"\0" not in line]
        self.damaged += len(lines) - len(usable) - lines.count(b"")
        return usable


def _require_plain(path: Path, fd: int) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise MoltingError(f"{path} is not a plain file, so it is not read as a log.")
