"""Writes that survive a crash, and directories whose contents can be believed.

Functions that write raise OSError and leave the old content whole; `explain` makes a sentence of that error.
"""

# Calls go through `os` and file descriptors, not pathlib: the order of the system calls is what this module
# is about, and the tests make each of them fail in turn.
# ruff: noqa: PTH102, PTH104, PTH108, PTH112, PTH114, PTH116

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from .errors import MoltingError

MANIFEST = "MANIFEST.json"
VERSION = 1
# A loader may pick these up by name alone, so one that was not sealed with the rest spoils the directory.
LOADABLE = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".safetensors", ".gguf", ".py"})
_CHUNK = 1 << 20
_MANIFEST_LIMIT = 16 << 20
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class Entry(msgspec.Struct, frozen=True):
    """Size in bytes and hex sha256 of one file."""

    size: int
    sha256: str


class Manifest(msgspec.Struct, kw_only=True, frozen=True):
    """What was sealed: files by their path relative to the directory, the user who sealed, free data."""

    v: int = VERSION
    files: dict[str, Entry]
    uid: int
    meta: dict[str, Any] = {}


def explain(error: OSError, doing: str) -> MoltingError:
    """One sentence for a failed write. `doing` completes "Could not …", as in "save the checkpoint"."""
    what = f"Could not {doing}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MoltingError(f"{what}.", remedy="Free some space on that disk, then resume.", reason="disk_full")
    if error.errno == errno.EROFS:
        return MoltingError(f"{what}.", remedy="The disk is mounted read-only; use another folder.")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return MoltingError(f"{what}.", remedy="Raise the limit of open files (ulimit -n).")
    return MoltingError(f"{what}.", remedy="Look at the disk's health and the folder's permissions.")


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write on the disk of `path`, which need not exist yet."""
    path = path.absolute()
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def fsync_dir(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_private_dir(path: Path) -> None:
    """Create a directory and its missing parents, all 0700. One that exists is left as it is."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
        fsync_dir(folder.parent)


def write_new(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Create a file durably. FileExistsError if the name is taken; nothing is left behind on failure."""
    _create(path, data, mode)
    try:
        fsync_dir(path.parent)
    except OSError:
        _discard(path)
        raise


def write_replace(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Give a file new content, durably: at any moment the name shows all of the old or all of the new."""
    temp = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    _create(temp, data, mode)
    try:
        os.rename(temp, path)
    except OSError:
        _discard(temp)
        raise
    fsync_dir(path.parent)


def append(fd: int, line: bytes) -> None:
    """Append by ONE write, so that a kill never tears a line by our doing; all of it or nothing.

    A full disk shows itself as a short write first: what was written is taken back and OSError ENOSPC raised.
    The caller must be the file's only writer.
    """
    end = os.fstat(fd).st_size
    try:
        written = os.write(fd, line)
        if written < len(line):
            raise OSError(errno.ENOSPC, f"the disk is full: only {written} of {len(line)} bytes were taken")
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, end)
        raise


def seal(staging: Path, target: Path, **meta: Any) -> None:
    """Make a finished directory appear as `target`, whole or not at all, with a manifest of its files.

    Both must lie on one disk. Raises MoltingError for a taken name or anything but plain files and folders,
    OSError when the disk fails; then `staging` is left for the caller to remove.
    """
    if os.path.lexists(target):
        raise MoltingError(f"{target} exists already, so nothing was sealed over it.")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(staging / MANIFEST)
    files, folders = {}, []
    for name, kind in _walk(staging):
        if kind == "folder":
            folders.append(staging / name)
        elif kind == "file":
            files[name] = _measure(staging / name, sync=True)
        else:
            raise MoltingError(f"{staging / name} is a {kind}; only plain files can be sealed.")
    for folder in folders:
        fsync_dir(folder)
    manifest = Manifest(files=files, uid=os.getuid(), meta=meta)
    write_new(staging / MANIFEST, msgspec.json.encode(manifest))
    os.rename(staging, target)
    fsync_dir(target.parent)


def read_manifest(path: Path) -> Manifest:
    """The manifest of a sealed directory. MoltingError when there is none that can be believed."""
    file = path / MANIFEST
    try:
        fd = os.open(file, _READ)
    except FileNotFoundError:
        raise MoltingError(f"{path} has no {MANIFEST}, so it was never finished.") from None
    except OSError as error:
        raise MoltingError(f"{file} cannot be read: {error.strerror}.") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MANIFEST_LIMIT:
            raise MoltingError(f"{file} is not a manifest.")
        raw = b"".join(iter(lambda: os.read(fd, _CHUNK), b""))
    finally:
        os.close(fd)
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (ValueError, RecursionError):
        raise MoltingError(f"{file} is damaged.") from None
    if manifest.v > VERSION:
        raise MoltingError(f"{file} is of version {manifest.v}; this Molting reads {VERSION}.")
    if manifest.uid != os.getuid() or found.st_uid != os.getuid():
        raise MoltingError(f"{file} was written by another user, so its files are not trusted.")
    return manifest


def check_seal(path: Path, *, hashes: bool = True) -> list[str]:
    """What is wrong with a sealed directory, a sentence each; an empty list means that it is valid.

    `hashes=False` compares names and sizes only: for lists on a screen, never before loading.
    """
    if not os.path.isdir(path) or os.path.islink(path):
        return [f"{path} is not a directory."]
    try:
        manifest = read_manifest(path)
        found = dict(_walk(path))
        damage = (_damage(path, name, kind, manifest, hashes) for name, kind in sorted(found.items()))
        problems = [sentence for sentence in damage if sentence]
    except MoltingError as error:
        return [error.message]
    except OSError as error:
        return [f"{path} cannot be read: {error.strerror}."]
    return problems + [f"{path / name} is missing." for name in sorted(manifest.files.keys() - found.keys())]


def _damage(path: Path, name: str, kind: str, manifest: Manifest, hashes: bool) -> str:
    file, expected = path / name, manifest.files.get(name)
    if kind not in ("file", "folder"):
        return f"{file} is a {kind}, not a plain file."
    if expected is None:
        stray = kind == "file" and file.suffix in LOADABLE
        return f"{file} was not there when the directory was sealed." if stray else ""
    if kind == "folder":
        return f"{file} is a folder, not a plain file."
    size = os.stat(file, follow_symlinks=False).st_size
    if size != expected.size:
        return f"{file} has {size} bytes; {expected.size} were sealed."
    if hashes and _measure(file) != expected:
        return f"{file} has changed since it was sealed (its sha256 differs)."
    return ""


def _walk(root: Path, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(relative path, "file" | "folder" | "symlink" | "special file") of everything below, manifest apart."""
    with os.scandir(root / prefix) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if entry.is_symlink():
                yield name, "symlink"
            elif entry.is_dir(follow_symlinks=False):
                yield name, "folder"
                yield from _walk(root, f"{name}/")
            elif not entry.is_file(follow_symlinks=False):
                yield name, "special file"
            elif name != MANIFEST:
                yield name, "file"


def _measure(file: Path, *, sync: bool = False) -> Entry:
    """Size and hash of one file as one open descriptor shows it, made durable first if `sync`."""
    fd = os.open(file, _READ)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise MoltingError(f"{file} is not a plain file.")
        if sync:
            os.fsync(fd)
        size, digest = 0, hashlib.sha256()
        while chunk := os.read(fd, _CHUNK):
            size += len(chunk)
            digest.update(chunk)
    finally:
        os.close(fd)
    return Entry(size, digest.hexdigest())


def _create(path: Path, data: bytes, mode: int) -> None:
    fd = os.open(path, _CREATE, mode)
    try:
        try:
            _write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        _discard(path)
        raise


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
