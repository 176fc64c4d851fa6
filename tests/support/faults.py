"""Makes the n-th call to the operating system fail, as SQLite tests its own writes."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest

CALLS = {"open", "write", "fsync", "fdatasync", "ftruncate", "rename", "close", "unlink", "mkdir"}
CALLS |= {"fstat", "read", "pread", "scandir", "statvfs", "stat", "lstat"}
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE)


class FaultyOs:
    """Stands in for the module `os`: call number `fail_at` raises; with `lasting`, so does every later one.

    With "kill" for an error the process kills itself there; with `short` a write takes half of its bytes
    instead of raising, as the first one on a full disk does.
    """

    def __init__(
        self, fail_at: int, error: int | Literal["kill"], *, lasting: bool = False, short: bool = False
    ) -> None:
        self.fail_at, self.error, self.lasting, self.short = fail_at, error, lasting, short
        self.count = 0
        self.failed = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._wrapped(name, real) if name in CALLS else real

    def _wrapped(self, name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            now = self.count == self.fail_at or (self.lasting and self.count > self.fail_at)
            if not now:
                return real(*args, **kwargs)
            self.failed = True
            if self.error == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if name == "close":
                real(*args)  # Linux closes the descriptor even when it reports an error
            if name == "write" and self.short:
                fd, data = args
                return real(fd, bytes(data)[: len(data) // 2])
            raise OSError(self.error, os.strerror(self.error))

        return call


def install(monkeypatch: pytest.MonkeyPatch, faulty: FaultyOs, *modules: ModuleType) -> None:
    """Let these modules call `faulty` where they call `os`."""
    for module in modules:
        monkeypatch.setattr(module, "os", faulty)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
