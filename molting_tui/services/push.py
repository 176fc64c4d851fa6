"""A spec and the files that it names, copied to another machine: by rsync where both have it, else by tar."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import tomlkit

from engine.contract import rundir, sweeps, tomlcheck
from engine.contract.errors import MoltingError
from engine.contract.mistakes import mistakes
from engine.contract.spec import Spec

from .ssh import Machine, call

FOLDER = "molting-specs"  # below the host's root
_FACTS = "facts.toml"  # beside the rows: what the answers are read against
# Makes the folder, says where it is, and whether rsync is there.
_PREPARE = """\
case $1 in "~") cd;; "~/"*) cd "$HOME/${1#"~/"}";; "") cd;; *) cd "$1";; esac || exit 94
umask 077; mkdir -p "$2" && cd "$2" && pwd && command -v rsync
exit 0
"""


@dataclass
class Parcel:
    """What is copied: the text of the spec, and files by their place beside it; `left` stays here."""

    name: str
    spec: str
    files: dict[str, Path] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def parcel(file: Path) -> Parcel:
    """All that the spec `file` needs. Paths out of its folder lead into `files/` there. MoltingError (code 2)."""
    spec = tomlcheck.load(file, Spec, also=mistakes)
    document = tomlkit.parse(file.read_text("utf-8-sig"))
    made = Parcel(rundir.slug(spec.name or file.parent.name), "")
    _place(document, "", file.parent, made)
    made.spec = tomlkit.dumps(document)
    return made


def _place(node: Any, key: str, folder: Path, made: Parcel) -> Any:
    """`node` with every path made one that holds on the other machine."""
    if isinstance(node, (dict, list)):
        for at, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
            placed = _place(value, f"{key}.{at}".lstrip(".") if isinstance(node, dict) else key, folder, made)
            if placed is not value:
                node[at] = placed
        return node
    # A sweep varies the same keys.
    key = key.removeprefix("sweep.grid.").removeprefix("sweep.runs.")
    if not isinstance(node, str) or not node:
        return node
    path = folder / Path(node).expanduser()
    if key == "model.base":
        if path.exists() or node.startswith((".", "/", "~")):
            made.left.append(node)
        return node
    template = key == "model.chat_template" and node.endswith((".jinja", ".j2"))
    if key not in sweeps.PATHS and not template:
        return node
    if not path.is_file():
        raise MoltingError(f"{key} names {path}, which is not a file.", remedy="Nothing was copied.", code=2)
    return _take(Path(os.path.normpath(path)), folder, made, node)


def _take(path: Path, folder: Path, made: Parcel, written: str) -> str:
    inside = path.is_relative_to(folder)
    place = path.relative_to(folder).as_posix() if inside else _free(path, made)
    made.files[place] = path
    facts = path.with_name(_FACTS)
    if facts.is_file():
        made.files[str(PurePosixPath(place).with_name(_FACTS))] = facts
    return written if inside and not Path(written).is_absolute() else place


def _free(path: Path, made: Parcel) -> str:
    """A place in `files/` that no other file has."""
    for number in range(len(made.files) + 1):
        place = f"files/{number or ''}{'-' if number else ''}{path.name}"
        if made.files.get(place, path) == path:
            return place
    raise AssertionError("there are more places than files")


def send(made: Parcel, machine: Machine, *, ask: bool, shown: bool) -> tuple[str, str]:
    """(folder on `machine`, how it was copied). `shown`: rsync tells its progress. MoltingError where it fails."""
    place = f"{FOLDER}/{made.name}"
    prepare = machine.raw(["exec", "sh", "-c", _PREPARE, "sh", machine.root, place], ask=ask)
    status, out, err = call(prepare)
    said = [line for line in out.splitlines() if line.startswith("/")]
    if status or not said:
        raise machine.failed(status or 3, err or f"{place} cannot be made there")
    folder, there = next((line for line in said if line.endswith(f"/{place}")), said[0]), len(said) > 1
    with tempfile.TemporaryDirectory(prefix="molting-push-") as staged:
        stage = Path(staged)
        _stage(made, stage)
        # rsync takes what follows a colon as a path, so an address with one goes the other way.
        if there and shutil.which("rsync") and ":" not in machine.ssh:
            _rsync(stage, machine, folder, ask, shown)
            return folder, "rsync"
        _tar(stage, machine, folder, ask)
        return folder, "tar"


def _stage(made: Parcel, stage: Path) -> None:
    """Links to the files, laid out as they will lie there; both programs copy what links lead to."""
    for place, path in made.files.items():
        target = stage / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    (stage / "spec.toml").write_text(made.spec, "utf-8")


def _rsync(stage: Path, machine: Machine, folder: str, ask: bool, shown: bool) -> None:
    shell = shlex.join(["ssh", *machine.options(ask=ask)])
    progress = ["--info=progress2"] if shown else []
    argv = ["rsync", "-rtLsz", "--partial", "--chmod=D700,F600", *progress, "-e", shell, "--"]
    argv += [f"{stage}/", f"{machine.ssh}:{folder}/"]
    with tempfile.TemporaryFile() as errors:
        done = subprocess.run(argv, stdout=sys.stderr if shown else errors, stderr=errors, check=False)
        errors.seek(0)
        _judge(machine, done.returncode, errors.read(1 << 16).decode("utf-8", "replace"), "rsync")


def _tar(stage: Path, machine: Machine, folder: str, ask: bool) -> None:
    argv = machine.raw(["exec", "tar", "-xf", "-", "-C", folder], ask=ask)
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors)
        assert process.stdin
        try:
            with process.stdin as pipe, tarfile.open(fileobj=pipe, mode="w|", dereference=True) as archive:
                for place in _every(stage):
                    archive.add(stage / place, place, recursive=False, filter=_private)
        except BrokenPipeError:
            pass  # it ended early; its status and its words tell why
        status = process.wait()
        errors.seek(0)
        _judge(machine, status, errors.read(1 << 16).decode("utf-8", "replace"), "tar")


def _every(stage: Path) -> Iterator[str]:
    return (path.relative_to(stage).as_posix() for path in sorted(stage.rglob("*")))


def _private(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mode = 0o700 if entry.isdir() else 0o600
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _judge(machine: Machine, status: int, err: str, program: str) -> None:
    if status == 0:
        return
    if status == 255:
        raise machine.failed(status, err)
    lines = [line for line in err.splitlines() if line.strip()]
    raise MoltingError(
        f"{program} could not copy to {machine.name}: {lines[0][:300] if lines else f'it ended with {status}'}",
        remedy="What was copied stays there; the same command goes on.",
    )
