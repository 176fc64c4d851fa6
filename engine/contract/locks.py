"""POSIX locks on files: held for life, freed by the kernel the moment their process dies.

The trap they carry: closing ANY descriptor of a locked file in the process that holds the lock drops it,
silently. So a lock file is opened here only, once, and nothing here opens a file that this process has
locked. Do not open, copy or read a lock file by other means either.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import threading
import time
from pathlib import Path

from .errors import MoltingError

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FLOCK = "hhqqi"  # struct flock of 64-bit Linux: type, whence, start, length, pid

_Key = tuple[int, int]  # device and inode: one file under whatever name
_held: set[_Key] = set()  # files that this process has locked
_guard = threading.Lock()  # of every step between opening a lock file and having or closing it


def _after_fork() -> None:
    global _guard
    _held.clear()  # a forked child inherits no POSIX lock
    _guard = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class FileLock:
    """A lock on `path`, one holder among all processes and within this one too.

    The file is created 0600, opened when acquired, held open until `release`, and never deleted here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._key: _Key = (0, 0)
        self._owner = 0

    @property
    def held(self) -> bool:
        """Whether this object, in this process, has the lock."""
        return self._fd >= 0 and self._owner == os.getpid()

    def acquire(self, blocking: bool = False) -> bool:
        """Take the lock; False if another has it. `blocking` waits for as long as it takes.

        MoltingError when the file cannot be made or is not a plain file.
        """
        while not self._try():
            if not blocking:
                return False
            time.sleep(0.05)
        return True

    def release(self) -> None:
        """Give the lock back; without having it, nothing happens."""
        with _guard:
            if self.held:
                os.close(self._fd)
                _held.discard(self._key)
            self._fd = -1

    def holder_pid(self) -> int | None:
        """The process that has the lock; None when free, or when it cannot be seen from this container."""
        return _holder(self.path)[1]

    def _try(self) -> bool:
        with _guard:
            if _key(self.path) in _held:
                return self.held
            fd = _open(self.path, os.O_RDWR | os.O_CREAT)
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise MoltingError(f"{self.path} is not a plain file, so it cannot be a lock.")
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return False
            except BaseException:
                os.close(fd)
                raise
            key = (status.st_dev, status.st_ino)
            if _key(self.path) != key:
                os.close(fd)  # deleted or replaced between opening and locking: a lock on nothing
                return False
            _held.add(key)
            self._fd, self._key, self._owner = fd, key, os.getpid()
            return True


def is_locked(path: Path) -> bool:
    """Whether any process, this one included, has the lock. Takes nothing; no file means no.

    MoltingError when that cannot be known, as for a symlink or a file of another user.
    """
    return _holder(path)[0]


def _key(path: Path) -> _Key | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | _FLAGS, 0o600)
    except OSError as error:
        raise MoltingError(f"The lock {path} cannot be used: {error.strerror}.") from None


def _holder(path: Path) -> tuple[bool, int | None]:
    with _guard:
        key = _key(path)
        if key is None:
            return False, None
        if key in _held:
            return True, os.getpid()
        fd = _open(path, os.O_RDONLY)
        try:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, *_, pid = struct.unpack_from(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        finally:
            os.close(fd)
    if kind == fcntl.F_UNLCK:
        return False, None
    return True, pid if pid > 0 else None
