"""From what a user writes as the base of a run to a model folder on this machine."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Literal

import msgspec

from engine.contract.errors import MoltingError
from engine.models import hub
from engine.models.convert import gguf_to_folder
from engine.models.demo import DEMO_NAME, ensure_demo_model
from engine.models.files import Progress, appearing, exclusive, sha256_of, silent
from engine.models.hub_errors import Unreachable
from engine.models.inspect import is_sound

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DOWNLOADED = re.compile(r"(.+?)--(.+)@([0-9a-f]{40})")
_DEMO_NAMES = ("demo", "demo:smollm2")


class ModelRef(msgspec.Struct, frozen=True):
    """A base made definite. `location` is a path ("folder", "gguf"), a hub id ("hub") or "demo".

    `revision` is the commit of a hub model, the sha256 of a GGUF file, and empty for a folder, whose contents
    `fingerprint` names. `note` is a sentence worth showing, such as that a copy on this machine stands in.
    """

    kind: Literal["folder", "gguf", "hub", "demo"]
    location: str
    revision: str = ""
    note: str = ""


def resolve(
    base: str, *, revision: str = "", models_dir: Path, token: str | None = None, progress: Progress = silent
) -> ModelRef:
    """Find out what `base` names: "demo", a folder, a GGUF file, a model in `models_dir`, or a hub id.

    A hub id is pinned to a commit. Without the hub, a copy that is on this machine is taken, if there is one.
    Raises MoltingError that names what is nearest, or here.
    """
    if base in _DEMO_NAMES:
        return ModelRef("demo", "demo")
    path = _path(base)
    if not _exists(path) and path.name == base and _exists(models_dir / base):
        path = models_dir / base
    if base and _exists(path):
        return _local(path.absolute(), progress)
    if _looks_like_path(base) or not _HUB_ID.fullmatch(base):
        raise _not_there(base, path, models_dir)
    return _on_hub(base, revision, models_dir, token)


def fetch(ref: ModelRef, *, models_dir: Path, token: str | None = None, progress: Progress = silent) -> Path:
    """The local folder of a model, downloaded or converted into `models_dir` the first time.

    Progress counts bytes or tensors. Raises MoltingError: offline, no access, damaged, disk_full.
    """
    if ref.kind == "demo":
        return ensure_demo_model(models_dir, progress)
    if ref.kind == "folder":
        return Path(ref.location)
    if ref.kind == "gguf":
        return _converted(Path(ref.location), ref.revision, models_dir, progress)
    cached = _cached_snapshot(ref.location, ref.revision, models_dir)
    return cached or hub.download(ref.location, ref.revision, models_dir, token, progress)


def local(ref: ModelRef, *, models_dir: Path) -> Path | None:
    """The folder that `fetch` would give at once, None where it has to be downloaded or converted first."""
    folder = {
        "demo": models_dir / DEMO_NAME,
        "folder": Path(ref.location),
        "gguf": models_dir / f"{Path(ref.location).stem}-{ref.revision[:12]}",
        "hub": models_dir / hub.folder_name(ref.location, ref.revision),
    }[ref.kind]
    return folder if (folder / "config.json").is_file() else None


def local_models(models_dir: Path) -> list[str]:
    """Names that `resolve` understands without a network: models in `models_dir`, and hub ids in the hub's cache."""
    names = [path.parent.name for path in sorted(models_dir.glob("[!.]*/config.json"))]
    plain = [name for name in names if not _DOWNLOADED.fullmatch(name)]
    return plain + [f"{repo} at {commit[:12]}" for repo, commit in _commits_here(models_dir)]


def _local(path: Path, progress: Progress) -> ModelRef:
    if path.is_dir():
        ggufs = sorted(path.glob("*.gguf"))
        if (path / "config.json").exists() or not ggufs:
            return ModelRef("folder", str(path))
        if len(ggufs) > 1:
            names = ", ".join(file.name for file in ggufs[:5])
            raise MoltingError(f"{path} holds {len(ggufs)} GGUF files.", remedy=f"Name one of: {names}.", code=2)
        path = ggufs[0]
    if not path.is_file():
        raise MoltingError(f"{path} is neither a folder nor a file.", remedy="Give a model folder.", code=2)
    if path.suffix.lower() != ".gguf":
        raise MoltingError(
            f"{path} is not a model: a file must be GGUF.",
            remedy="Give the folder it lies in, or a .gguf file.",
            code=2,
        )
    return ModelRef("gguf", str(path), sha256_of(path, progress, "reading the GGUF file"))


def _path(base: str) -> Path:
    try:
        return Path(base).expanduser()
    except RuntimeError:  # ~somebody without a home
        return Path(base)


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (OSError, ValueError):  # also a name that is too long, or holds a NUL
        return False
    return True


def _looks_like_path(base: str) -> bool:
    return base.startswith(("/", ".", "~")) or base.endswith((".gguf", "/")) or base.count("/") > 1


def _not_there(base: str, path: Path, models_dir: Path) -> MoltingError:
    parent = path.absolute().parent
    while not parent.is_dir():
        parent = parent.parent
    missing = path.absolute().relative_to(parent).parts[0] if path.name else base
    beside = (
        {entry.name: str(parent / entry.name) for entry in os.scandir(parent)} if os.access(parent, os.R_OK) else {}
    )
    known = beside | {name: name for name in (*local_models(models_dir), *_DEMO_NAMES)}
    near = difflib.get_close_matches(missing, known, n=1, cutoff=0.5)
    nearest = f" The nearest there is: {known[near[0]]}." if near else ""
    return MoltingError(
        f"There is no model {base!r}.{nearest}",
        remedy=f'Give "demo", a folder, a GGUF file, or a hub id such as org/name. {_inventory(models_dir)}',
        code=2,
    )


def _inventory(models_dir: Path) -> str:
    names = local_models(models_dir)
    return f"On this machine: {', '.join(names[:8])}." if names else "No model is on this machine yet."


def _on_hub(repo: str, revision: str, models_dir: Path, token: str | None) -> ModelRef:
    if _COMMIT.fullmatch(revision) and (models_dir / hub.folder_name(repo, revision)).is_dir():
        return ModelRef("hub", repo, revision)
    try:
        return ModelRef("hub", repo, hub.pinned(repo, revision, token))
    except Unreachable as error:
        commit = _commit_here(repo, revision, models_dir)
        if commit:
            note = f"{error.message} The copy on this machine is used: {repo} at {commit[:12]}."
            return ModelRef("hub", repo, commit, note)
        raise MoltingError(
            f"{error.message} It is not on this machine either.",
            remedy=f"{_inventory(models_dir)} Use one of them, or go online once.",
        ) from error


def _commit_here(repo: str, revision: str, models_dir: Path) -> str:
    """The commit of a copy on this machine that answers to `revision` (empty: any, the newest first)."""
    here = [commit for name, commit in _commits_here(models_dir) if name == repo]
    if revision in ("", "main"):
        return here[0] if here else ""
    wanted = revision if _COMMIT.fullmatch(revision) else _cached_branch(repo, revision)
    return wanted if wanted in here else ""


def _commits_here(models_dir: Path) -> list[tuple[str, str]]:
    """Hub ids and commits on this machine: ours, the newest first, then those in the hub's own cache."""
    folders = sorted(models_dir.glob("*--*@*/config.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    matches = [match for path in folders if (match := _DOWNLOADED.fullmatch(path.parent.name))]
    ours = [(f"{match[1]}/{match[2]}", match[3]) for match in matches]
    return list(dict.fromkeys(ours + _cached_snapshots()))


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _cached_snapshots() -> list[tuple[str, str]]:
    found = []
    for folder in sorted(_cache().glob("models--*--*/snapshots/*")):
        if (folder / "config.json").exists() and any(folder.glob("*.safetensors")):
            repo = folder.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
            found.append((repo, folder.name))
    return found


def _cached_branch(repo: str, branch: str) -> str:
    path = _cache() / f"models--{repo.replace('/', '--')}" / "refs" / branch
    return path.read_text().strip() if path.is_file() and ".." not in branch else ""


def _cached_snapshot(repo: str, commit: str, models_dir: Path) -> Path | None:
    """A sound copy of this commit that another program left in the hub's cache, linked into `models_dir`."""
    target = models_dir / hub.folder_name(repo, commit)
    snapshot = _cache() / f"models--{repo.replace('/', '--')}" / "snapshots" / commit
    if not snapshot.is_dir():
        return None
    with exclusive(models_dir / ".locks" / f"{target.name}.lock"):
        return hub.adopt(snapshot, target)


def _converted(gguf: Path, digest: str, models_dir: Path, progress: Progress) -> Path:
    target = models_dir / f"{gguf.stem}-{digest[:12]}"
    with exclusive(models_dir / ".locks" / f"{target.name}.lock", progress):
        if not is_sound(target):
            with appearing(target) as staging:
                gguf_to_folder(gguf, staging, progress)
    return target
