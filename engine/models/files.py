"""Small file habits the model rooms share: bounded reads, one maker at a time, folders that appear whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from engine.contract.durable import free_bytes, fsync_dir, make_private_dir
from engine.contract.errors import MoltingError
from engine.contract.locks import FileLock

Progress = Callable[[str, "float | None", "float | None"], None]
"""`progress(phase, done, total)`: what is being done, and how far in units of `total` (bytes or steps) if known."""

CHUNK = 1 << 20


def silent(phase: str, done: float | None = None, total: float | None = None) -> None:
    """A `Progress` that says nothing."""


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes.

    Raises OSError for a file that is missing, too big, or not a regular file: reading a FIFO would wait for ever.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(f"{path.name} is not a regular file")
        if info.st_size > limit:
            raise OSError(f"{path.name} has {info.st_size:,} bytes, more than the {limit:,} such a file may have")
        return file.read(limit)


def read_json_object(path: Path, limit: int = 1 << 20) -> dict[str, Any]:
    """A JSON object from a bounded regular file. Raises OSError or ValueError with a reason fit for a sentence."""
    try:
        value = msgspec.json.decode(read_regular(path, limit))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is not JSON ({error})") from error
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds a {type(value).__name__} where an object was expected")
    return value


def sha256_of(path: Path, progress: Progress = silent, phase: str = "hashing") -> str:
    """Hex sha256 of a whole file."""
    digest = hashlib.sha256()
    total, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(8 * CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress(phase, done, total)
    return digest.hexdigest()


@contextlib.contextmanager
def exclusive(lock: Path, progress: Progress = silent) -> Iterator[None]:
    """Hold the lock file while the body runs, after waiting for whoever has it; freed when its process dies."""
    make_private_dir(lock.parent)
    holder = FileLock(lock)
    if not holder.acquire():
        progress("waiting for another process that prepares the same model", None, None)
        holder.acquire(blocking=True)
    try:
        yield
    finally:
        holder.release()


@contextlib.contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Yield an empty staging folder that becomes `target` when the body succeeds, and vanishes when it fails.

    Call it under `exclusive`: the staging folder has a fixed name, so what a killed process left is cleared away.
    Raises MoltingError (disk_full) where the disk is full.
    """
    staging = target.parent / ".staging" / target.name
    shutil.rmtree(staging, ignore_errors=True)
    make_private_dir(staging)
    try:
        with disk_errors(target.parent):
            yield staging
            publish(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish(staging: Path, target: Path) -> None:
    """Make everything in `staging` durable and private (but for files that
    another program's cache shares), then rename it to `target`, replacing a damaged one."""
    for path in sorted(staging.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1:
            _seal(path)
    fsync_dir(staging)
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)
    fsync_dir(target.parent)


def _seal(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fchmod(fd, 0o600)
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a failed write into a sentence that says disk; libraries report it in many other words."""
    try:
        yield
    except MoltingError:
        raise
    except Exception as error:
        free = free_bytes(folder)
        if not _says_full(error) and free > CHUNK:
            raise
        raise MoltingError(
            f"The disk of {folder} is full: {free / CHUNK:,.0f} MiB are free.",
            remedy="Free space there, or point MOLTING_MODELS at a folder on another disk.",
            reason="disk_full",
        ) from error


def _says_full(error: BaseException) -> bool:
    """True for ENOSPC and EDQUOT, also as safetensors (Rust) and torch put them: only in the text."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(words in str(error) for words in ("os error 28", "os error 122", "No space left", "unexpected pos"))
