"""`pack`: a run as one file to keep or to give away, without what is private."""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec

from engine.contract import calls, durable, outputs, summary
from engine.contract.durable import Entry
from engine.contract.errors import MoltingError
from engine.contract.plainfile import open_plain, read_plain
from engine.contract.rundir import RunDir

from . import archive
from .archive import Archived
from .private import Cleaner

Tell = Callable[[calls.Line], None]
_CHUNK = 1 << 20


@dataclass(frozen=True)
class _Member:
    """A file of the archive: its text as it will be there, or the file that holds it."""

    name: str
    source: Path
    text: bytes | None = None


def pack(request: outputs.PackRequest, tell: Tell) -> outputs.Packed:
    """Write the archive. MoltingError for a run that still works, a broken seal, or a name that is taken."""
    run, target = RunDir(Path(request.run)), Path(request.file)
    seen = summary.summarise(run)
    if seen.live:
        raise MoltingError(
            f"{run.id} is {seen.state}, so there is more to come.", remedy=f"`molting stop {run.id}` first.", code=2
        )
    if os.path.lexists(target):
        raise MoltingError(f"{target} exists already.", remedy="Give another name (`--to`), or move it away.", code=2)
    sealed = _require_seal(run)
    cleaner = Cleaner([run.path.parent, run.path.parent.parent, Path(request.models), *_base_folder(run)])
    members, left_out = _members(run, cleaner, rows=request.rows)
    try:
        _write(target, run, seen.name, sealed, members, tell)
    except OSError as error:
        raise durable.explain(error, f"write {target}") from error
    return outputs.Packed(
        path=str(target), run=run.id, size=target.stat().st_size, files=len(members), left_out=left_out
    )


def _base_folder(run: RunDir) -> list[Path]:
    base = Path(summary.load_spec(run).model.base)
    return [base.parent] if base.is_absolute() else []


def _require_seal(run: RunDir) -> dict[str, str | int | float]:
    """What the seal of the trained weights says; nothing where there are none."""
    if not run.adapter.is_dir():
        return {}
    problems = durable.check_seal(run.adapter)
    if problems:
        raise MoltingError(f"The trained weights are damaged: {problems[0]}", reason="bad_model", code=1)
    return durable.read_manifest(run.adapter).meta


def _members(run: RunDir, cleaner: Cleaner, *, rows: bool) -> tuple[list[_Member], list[str]]:
    """The files that travel, and a sentence for each that does not."""
    members, left_out = [], []
    for name, source in _files(run):
        if _is(name, archive.WEIGHTS) or (rows and _is(name, archive.ROWS)):
            members.append(_Member(name, source))
        elif _is(name, archive.TEXTS):
            members.append(_Member(name, source, _cleaned(source, cleaner)))
        elif _is(name, archive.FROZEN):
            # Grades name answers by their hash: such a file travels as it is, or not at all.
            frozen = read_plain(source, archive.TEXT_LIMIT)
            if _cleaned(source, cleaner) == frozen:
                members.append(_Member(name, source, frozen))
            else:
                left_out.append(f"{name} holds what looks like a secret or a private path.")
    if not rows:
        left_out.append("inputs/: the training rows stay here; --rows takes them along.")
    return members, left_out


def _files(run: RunDir) -> Iterator[tuple[str, Path]]:
    for source in sorted(run.path.rglob("*")):
        if source.is_file() and not source.is_symlink():
            name = source.relative_to(run.path).as_posix()
            if archive.allowed(name) and source.name != archive.MANIFEST:
                yield name, source


def _is(name: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _cleaned(source: Path, cleaner: Cleaner) -> bytes:
    return cleaner(read_plain(source, archive.TEXT_LIMIT).decode("utf-8", "surrogateescape")).encode(
        "utf-8", "surrogateescape"
    )


def _write(
    target: Path,
    run: RunDir,
    name: str,
    sealed: dict[str, str | int | float],
    members: list[_Member],
    tell: Tell,
) -> None:
    entries = {member.name: _entry(member) for member in members}
    manifest = Archived(molting=version("molting"), run=run.id, name=name, files=entries, sealed=sealed)
    total, done = sum(entry.size for entry in entries.values()), 0
    temp = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temp.open("xb") as out, tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, archive.MANIFEST, io.BytesIO(msgspec.json.encode(manifest)))
            for member in members:
                tell(calls.Progress(phase="packing", done=done, total=total, unit="bytes"))
                with _opened(member) as content:
                    _add(tar, member.name, content)
                done += entries[member.name].size
            tar.close()
            out.flush()
            os.fsync(out.fileno())
        os.link(temp, target)  # unlike a rename, never over a file that somebody just wrote
        durable.fsync_dir(target.parent)
    finally:
        temp.unlink(missing_ok=True)


def _opened(member: _Member) -> io.BufferedIOBase:
    return io.BytesIO(member.text) if member.text is not None else os.fdopen(open_plain(member.source), "rb")


def _entry(member: _Member) -> Entry:
    digest, size = hashlib.sha256(), 0
    with _opened(member) as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Entry(size, digest.hexdigest())


def _add(tar: tarfile.TarFile, name: str, content: io.BufferedIOBase) -> None:
    """Without owner, group and time: an archive tells of the run, not of who packed it."""
    info = tarfile.TarInfo(name)
    info.size = content.seek(0, os.SEEK_END)
    info.mode = 0o600
    content.seek(0)
    tar.addfile(info, content)
