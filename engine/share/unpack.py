"""`unpack`: open an archive of somebody else, believing nothing in it, as a run whose weights can be used."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from engine.contract import calls, durable, outputs, rundir, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.models.safetensors_header import read_header

from . import archive
from .archive import Archived

Tell = Callable[[calls.Line], None]
_CHUNK = 1 << 20
_HEADROOM = 64 << 20  # bytes left free on the disk


def unpack(request: outputs.UnpackRequest, tell: Tell) -> outputs.Unpacked:
    """Check the archive and make the run appear, whole or not at all. MoltingError says what is wrong with it."""
    file, runs = Path(request.file), Path(request.runs)
    try:
        with file.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as tar:
            manifest = _manifest(tar, file)
            target = runs / manifest.run
            if os.path.lexists(target):
                raise MoltingError(
                    f"The run {manifest.run} is here already, in {target}.",
                    remedy="`molting runs` shows it; delete it there to unpack it anew.",
                    code=2,
                )
            _require_room(manifest, runs)
            return _open(tar, manifest, runs, file, tell)
    except FileNotFoundError:
        raise MoltingError(f"There is no file {file}.", code=2) from None
    except (tarfile.TarError, EOFError) as error:
        raise _refused(file, f"it is not a whole archive ({error})") from None
    except OSError as error:
        raise durable.explain(error, f"unpack {file}") from error


def _open(tar: tarfile.TarFile, manifest: Archived, runs: Path, file: Path, tell: Tell) -> outputs.Unpacked:
    durable.make_private_dir(runs)
    staging = runs / f".new-{manifest.run}"
    shutil.rmtree(staging, ignore_errors=True)  # of an unpacking that was cut short
    durable.make_private_dir(staging)
    try:
        _extract(tar, manifest, staging, file, tell)
        run = RunDir(staging)
        _judge(run, file)
        if run.adapter.is_dir():
            _reseal(run, manifest)
        durable.fsync_dir(staging)
        staging.rename(runs / manifest.run)
        durable.fsync_dir(runs)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return outputs.Unpacked(
        run=manifest.run,
        path=str(runs / manifest.run),
        name=manifest.name,
        files=len(manifest.files),
        weights=(runs / manifest.run / "adapter").is_dir(),
    )


def _manifest(tar: tarfile.TarFile, file: Path) -> Archived:
    first = tar.next()
    if first is None or first.name != archive.MANIFEST or not first.isreg() or first.size > archive.MANIFEST_LIMIT:
        raise _refused(file, "it does not begin with a manifest, so it is not a packed run")
    content = tar.extractfile(first)
    assert content is not None
    try:
        manifest = msgspec.json.decode(content.read(), type=Archived)
    except (ValueError, RecursionError) as error:
        raise _refused(file, f"its manifest is damaged ({error})") from None
    if manifest.v > archive.VERSION:
        raise _refused(file, f"it is of version {manifest.v}, and this Molting reads {archive.VERSION}")
    if not rundir.is_id(manifest.run):
        raise _refused(file, "its run has no proper id")
    for name, entry in manifest.files.items():
        if not archive.allowed(name):
            raise _refused(file, f"it holds {name[:80]!r}, which no packed run has")
        if entry.size < 0:
            raise _refused(file, f"it gives {name} a size below zero")
    if "spec.toml" not in manifest.files:
        raise _refused(file, "it holds no spec.toml")
    return manifest


def _require_room(manifest: Archived, runs: Path) -> None:
    needed = sum(entry.size for entry in manifest.files.values())
    free = durable.free_bytes(runs)
    if needed + _HEADROOM > free:
        raise MoltingError(
            f"The run needs {needed / 1e9:.2f} GB, and the disk of {runs} has {free / 1e9:.2f} GB free.",
            remedy="Free some space, or unpack elsewhere (`molting --runs DIR unpack …`).",
            reason="disk_full",
        )


def _extract(tar: tarfile.TarFile, manifest: Archived, staging: Path, file: Path, tell: Tell) -> None:
    total, done, missing = sum(entry.size for entry in manifest.files.values()), 0, set(manifest.files)
    while (member := tar.next()) is not None:
        if member.name not in missing or not member.isreg():
            raise _refused(file, f"it holds {member.name[:80]!r}, which its manifest does not name")
        expected = manifest.files[member.name]
        if member.size != expected.size:
            raise _refused(file, f"{member.name} has {member.size} bytes instead of {expected.size}")
        tell(calls.Progress(phase="unpacking", done=done, total=total, unit="bytes"))
        target = staging / member.name
        durable.make_private_dir(target.parent)
        content = tar.extractfile(member)
        assert content is not None
        if _copy(content, target) != expected.sha256:
            raise _refused(file, f"{member.name} has changed since it was packed (its sha256 differs)")
        missing.discard(member.name)
        done += expected.size
    if missing:
        raise _refused(file, f"{min(missing)} is missing from it")


def _copy(content: IO[bytes], target: Path) -> str:
    digest = hashlib.sha256()
    with target.open("xb") as out:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _judge(run: RunDir, file: Path) -> None:
    """A run that could not be read, or weights that could not be loaded, are better refused now than later."""
    try:
        summary.load_spec(run)
        summary.transitions(run)
    except MoltingError as error:
        raise _refused(file, error.message) from None
    for weights in sorted(run.adapter.glob("*.safetensors")):
        try:
            read_header(weights)
        except ValueError as error:
            raise _refused(file, f"{weights.name} {error}") from None


def _reseal(run: RunDir, manifest: Archived) -> None:
    """The seal says that these files are as they were when *this* user checked them."""
    arrived = run.path / ".adapter"
    run.adapter.rename(arrived)
    durable.seal(arrived, run.adapter, **manifest.sealed)


def _refused(file: Path, why: str) -> MoltingError:
    return MoltingError(f"{file.name} cannot be unpacked: {why}.", remedy="Ask for it anew.", code=1)
