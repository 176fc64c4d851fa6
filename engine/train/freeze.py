"""From a spec as a person wrote it to the frozen spec and inputs of a run."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import msgspec
import tomlkit

from engine.contract import durable, tomlcheck
from engine.contract.errors import MoltingError
from engine.contract.mistakes import mistakes
from engine.contract.rundir import RunDir, is_id
from engine.contract.spec import Data, Evaluation, Model, Spec, Sweep
from engine.contract.summary import load_spec

COPY_LIMIT = 64 << 20  # bytes; larger files stay where they are and are read as a stream
_CHUNK = 1 << 20
_SAMPLES, _SAMPLE = 64, 64 << 10


@dataclass(frozen=True)
class Opened:
    """A spec whose paths are absolute and whose texts are read in, and where it stood."""

    spec: Spec
    file: Path


def open_spec(file: Path) -> Opened:
    """Read `file` and everything it names. MoltingError (code 2) for what is wrong or missing."""
    file = file.expanduser().absolute()
    return opened(read(file), file)


def read(file: Path) -> Spec:
    """The spec as it is written. MoltingError (code 2) for everything that is wrong with it.

    Of a run's own spec, keys that are none any more are passed over.
    """
    if _run_of(file):
        with suppress(MoltingError):  # what is wrong with it is told below, with its line
            return load_spec(RunDir(file.parent))
    return tomlcheck.load(file, Spec, also=mistakes)


def opened(spec: Spec, file: Path) -> Opened:
    """`spec`, which was read from `file`, with everything it names. A run's own spec makes a child of that run."""
    folder = file.parent
    return Opened(
        msgspec.structs.replace(
            spec,
            name=spec.name or folder.name,
            parent=_run_of(file) or spec.parent,
            sweep=Sweep(grid=spec.sweep.grid, runs=spec.sweep.runs, stop_worse=spec.sweep.stop_worse),
            model=_open_model(spec.model, folder),
            data=_open_data(spec.data, folder),
            evaluation=_open_evaluation(spec.evaluation, folder),
        ),
        file,
    )


def _run_of(file: Path) -> str:
    """The id of the run whose frozen spec this is; empty for any other file."""
    run = RunDir(file.parent)
    return run.id if file == run.spec and is_id(run.id) and run.lifecycle.is_file() else ""


def _open_model(model: Model, folder: Path) -> Model:
    base = Path(model.base).expanduser()
    local = base if base.is_absolute() else folder / base
    names_a_file = model.base.startswith((".", "/", "~")) or local.exists()
    template = model.chat_template
    if template.endswith((".jinja", ".j2")):
        template = _input(folder, "model.chat_template", template).read_text("utf-8")
    return msgspec.structs.replace(
        model, base=str(local.absolute()) if names_a_file else model.base, chat_template=template
    )


def _open_data(data: Data, folder: Path) -> Data:
    if data.system and data.system_file:
        raise MoltingError("The spec gives data.system and data.system_file.", remedy="Keep one of them.", code=2)
    system = data.system
    if data.system_file:
        system = _input(folder, "data.system_file", data.system_file).read_text("utf-8").strip()
    train = _input(folder, "data.train", data.train)
    stream = train.stat().st_size > COPY_LIMIT if data.stream == "auto" else data.stream
    return msgspec.structs.replace(
        data,
        train=str(train),
        heldout=str(_input(folder, "data.heldout", data.heldout)) if data.heldout else "",
        system=system,
        system_file="",
        stream=stream,
        date=data.date or date.today().isoformat(),
    )


def _open_evaluation(evaluation: Evaluation, folder: Path) -> Evaluation:
    named = {key: getattr(evaluation, key) for key in ("probes", "ability_probes")}
    found = {key: str(_input(folder, f"evaluation.{key}", path)) for key, path in named.items() if path}
    return msgspec.structs.replace(evaluation, **found)


def _input(folder: Path, key: str, value: str) -> Path:
    """The absolute path of a file that the spec names."""
    named = Path(value).expanduser()
    path = (named if named.is_absolute() else folder / named).absolute()
    if path.is_file():
        return path
    what = "is not a plain file" if path.exists() else "does not exist"
    raise MoltingError(f"{key} names {path}, which {what}.", remedy="Paths are relative to the spec's folder.", code=2)


def probes(spec: Spec) -> list[str]:
    """The probe questions of an opened spec, one a line; empty lines and # comments do not count."""
    if not spec.evaluation.probes:
        return []
    lines = Path(spec.evaluation.probes).read_text("utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def write(run: RunDir, spec: Spec) -> None:
    """Freeze an opened and resolved spec into a run directory: copies of its inputs, then `spec.toml`."""
    train = Path(spec.data.train)
    data = msgspec.structs.replace(
        spec.data,
        train=_copy(run, train, "rows"),
        heldout=_copy(run, Path(spec.data.heldout), "heldout") if spec.data.heldout else "",
        sha256=identity(train),
    )
    evaluation = spec.evaluation
    if evaluation.probes:
        copied = _copy(run, Path(evaluation.probes), "probes")
        evaluation = msgspec.structs.replace(evaluation, probes=copied)
    if evaluation.ability_probes:
        copied = _copy(run, Path(evaluation.ability_probes), "abilities")
        evaluation = msgspec.structs.replace(evaluation, ability_probes=copied)
    facts = train.parent / "facts.toml"  # what the answers of the run are read against later
    if facts.is_file():
        _copy(run, facts, "facts")
    frozen = msgspec.structs.replace(spec, data=data, evaluation=evaluation)
    durable.fsync_dir(run.inputs)
    durable.write_new(run.spec, dump(frozen).encode())


def _copy(run: RunDir, source: Path, name: str) -> str:
    """Copy an input into the run unless it is huge; what the frozen spec calls it."""
    if source.stat().st_size > COPY_LIMIT:
        return str(source)
    target = run.inputs / (name + source.suffix)
    shutil.copyfile(source, target)
    target.chmod(0o600)
    return str(target.relative_to(run.path))


def identity(path: Path) -> str:
    """What a file's content is known by: its sha256; for files that stay outside the run, of its size and samples.

    The first step of a run over a huge file must not wait until all of it was read.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode() if size > COPY_LIMIT else b"")
    with path.open("rb") as file:
        if size <= COPY_LIMIT:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
            return digest.hexdigest()
        for i in range(_SAMPLES):
            file.seek((size - _SAMPLE) * i // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE))
    return f"sampled-{digest.hexdigest()}"


def require_same_rows(run: RunDir, spec: Spec) -> None:
    """Raise MoltingError (bad_data) when a training file outside the run is not what it was at the start."""
    train = Path(spec.data.train)
    if train.is_relative_to(run.path) or not spec.data.sha256:
        return
    if not train.is_file() or identity(train) != spec.data.sha256:
        raise MoltingError(
            f"{train} is not the file that this run was made for: it was moved or changed.",
            remedy="Put it back as it was, or start a new run.",
            reason="bad_data",
        )


def dump(spec: Spec) -> str:
    """A spec as TOML that `tomlcheck.load` reads back to the same spec."""
    head = tomlkit.comment("Frozen: what this run was made of. It is a spec itself: `molting train` repeats it.")
    document = tomlkit.document()
    document.add(head)
    for key, value in msgspec.to_builtins(spec).items():
        document.add(key, tomlkit.item(value))
    return tomlkit.dumps(document)
