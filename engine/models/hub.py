"""A model from a hub: pinned to a commit, only harmless files, resumed where it stopped, checked by hash."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import msgspec

from engine.contract.durable import free_bytes, make_private_dir
from engine.contract.errors import MoltingError
from engine.models.files import CHUNK, Progress, appearing, disk_errors, exclusive, publish, read_json_object
from engine.models.hub_errors import in_sentences
from engine.models.inspect import built_in, is_sound, require_sound

_ALLOWED = (".safetensors", ".json", ".jinja", ".txt")
_ALLOWED_NAMES = ("tokenizer.model", "spiece.model")
_CODE_KEYS = ("auto_map", "trust_remote_code", "custom_pipelines")
_REWRITTEN = ("config.json", "tokenizer_config.json")  # references to code are dropped from them
_AT_ONCE = 4
_PIECE = 256 << 10
_TRANSIENT = (408, 429, 500, 502, 503, 504)
_PATIENCE = 4


class RemoteFile(msgspec.Struct, frozen=True):
    """A file of a repository. `digest` is the sha256 of a large file, else the git blob id (sha1)."""

    name: str
    size: int
    digest: str
    large: bool


def pinned(repo: str, revision: str, token: str | None) -> str:
    """The commit that a branch, a tag or a commit of `repo` names now. Raises MoltingError; `Unreachable` offline."""
    from huggingface_hub import HfApi

    with in_sentences(repo, revision):
        found = HfApi(token=token).model_info(repo, revision=revision or None, timeout=20).sha
    if not found:
        raise MoltingError(f"The hub does not say which commit of {repo} {revision or 'main'} is.")
    return found


def folder_name(repo: str, commit: str) -> str:
    """The name of a downloaded model's folder: `org--name@commit`."""
    return f"{repo.replace('/', '--')}@{commit}"


def download(repo: str, commit: str, models_dir: Path, token: str | None, progress: Progress) -> Path:
    """Download a commit of a repository into `models_dir`; the folder appears when all of it is there.

    A download that was cut, even by kill -9, goes on from the byte it had reached. Each file is checked against the
    hub's own hash. Where the repository ships code but its architecture is built into transformers, the reference
    to the code is dropped from config.json. Raises MoltingError.
    """
    target = models_dir / folder_name(repo, commit)
    with exclusive(models_dir / ".locks" / f"{target.name}.lock", progress), disk_errors(models_dir):
        if is_sound(target):
            return target
        partial = models_dir / ".partial" / target.name
        make_private_dir(partial)
        with in_sentences(repo, commit):
            files = _wanted(repo, commit, token)
            _require_space(files, partial, models_dir)
            _transfer(repo, commit, files, partial, token, progress)
        _drop_code(partial)
        require_sound(partial)
        publish(partial, target)
    return target


def damaged(repo: str, commit: str, folder: Path, token: str | None, progress: Progress) -> list[str]:
    """Files of a downloaded folder whose hash is not the hub's; those are passed over that Molting itself changes.

    Raises MoltingError; `Unreachable` offline.
    """
    with in_sentences(repo, commit):
        files = _wanted(repo, commit, token)
    wrong, done, total = [], 0, sum(file.size for file in files)
    for file in files:
        if file.name in _REWRITTEN or not (folder / file.name).exists():
            continue
        if _size(folder / file.name) != file.size or _digest(folder / file.name, file) != file.digest:
            wrong.append(file.name)
        done += file.size
        progress("comparing hashes", done, total)
    return wrong


def adopt(snapshot: Path, target: Path) -> Path | None:
    """Make `target` of a copy that another program downloaded; None where that copy is not whole and sound.

    Weights are linked, not copied. Call it under the lock of `target`.
    """
    if is_sound(target):
        return target
    with appearing(target) as staging:
        for path in snapshot.iterdir():
            if _allowed(path.name) and path.is_file():
                _link(path.resolve(), staging / path.name)
        _drop_code(staging)
        if not is_sound(staging):
            return None
    return target


def _link(source: Path, name: Path) -> None:
    if source.suffix != ".safetensors" and name.suffix != ".safetensors":
        shutil.copyfile(source, name)
        return
    try:
        os.link(source, name)
    except OSError:  # on another disk
        name.symlink_to(source)


def _drop_code(folder: Path) -> None:
    """Take the references to a repository's own code out of a folder whose architecture is built in."""
    for name in _REWRITTEN:
        path = folder / name
        if not path.is_file():
            continue
        try:
            config = read_json_object(path, 64 << 20)
        except (OSError, ValueError):
            return  # left to the inspection, which says what is wrong with it
        if name == "config.json" and not built_in(str(config.get("model_type"))):
            return
        kept = {key: value for key, value in config.items() if key not in _CODE_KEYS}
        if kept != config:
            path.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=2))


def _wanted(repo: str, commit: str, token: str | None) -> list[RemoteFile]:
    from huggingface_hub import HfApi, RepoFile

    files = []
    for entry in HfApi(token=token).list_repo_tree(repo, revision=commit, recursive=False):
        if not isinstance(entry, RepoFile) or not _allowed(entry.path):
            continue
        digest = entry.lfs.sha256 if entry.lfs else entry.blob_id
        files.append(RemoteFile(entry.path, entry.size, digest, entry.lfs is not None))
    if not any(file.name.endswith(".safetensors") for file in files):
        raise MoltingError(
            f"{repo} has no weights as safetensors at {commit[:12]}.",
            remedy="Choose a repository that has .safetensors files; Molting opens no others.",
            reason="bad_model",
        )
    return sorted(files, key=lambda file: file.size)


def _allowed(name: str) -> bool:
    return (
        PurePosixPath(name).name == name
        and not name.startswith(".")
        and (name.endswith(_ALLOWED) or name in _ALLOWED_NAMES)
    )


def _require_space(files: list[RemoteFile], partial: Path, models_dir: Path) -> None:
    missing = sum(file.size - _size(partial / file.name) - _size(_part(partial, file)) for file in files)
    free = free_bytes(models_dir)
    if missing > free:
        raise MoltingError(
            f"{models_dir} has {free / 2**30:.1f} GiB free; the model needs {missing / 2**30:.1f} GiB more.",
            remedy="Free space there, or point MOLTING_MODELS at a folder on another disk.",
            reason="disk_full",
        )


def _transfer(
    repo: str, commit: str, files: list[RemoteFile], folder: Path, token: str | None, progress: Progress
) -> None:
    total = sum(file.size for file in files)
    meter = _Meter(sum(_size(folder / file.name) + _size(_part(folder, file)) for file in files), total, progress)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        jobs = [pool.submit(_fetch, repo, commit, file, folder, token, meter) for file in files]
        try:
            for job in as_completed(jobs):
                job.result()
        except BaseException:
            meter.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(repo: str, commit: str, file: RemoteFile, folder: Path, token: str | None, meter: _Meter) -> None:
    """Bring one file, from where its `.part` ends. huggingface_hub's own download starts again after a kill."""
    if (folder / file.name).exists():
        return
    part = _part(folder, file)
    if _size(part) > file.size:
        part.unlink()
    with part.open("ab") as output:
        _stream(repo, commit, file, output, token, meter)
    if _digest(part, file) != file.digest:
        part.unlink()
        raise MoltingError(
            f"{file.name} of {repo} arrived damaged: its hash is not the one that the hub names.",
            remedy="Run the same command again; only this file is downloaded anew.",
            reason="bad_model",
        )
    part.replace(folder / file.name)


def _stream(repo: str, commit: str, file: RemoteFile, output: BinaryIO, token: str | None, meter: _Meter) -> None:
    """Append what is missing of a file, over as many connections as it takes while bytes still come."""
    from huggingface_hub import errors, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    # Compressed on the way, a range would be counted in bytes that are not the file's.
    headers = {**build_hf_headers(token=token), "Accept-Encoding": "identity"}
    url = hf_hub_url(repo, file.name, revision=commit)
    failures = 0
    while (reached := output.tell()) < file.size:
        try:
            _append(url, headers, output, file.size, meter)
        except errors.HTTPError as error:
            response = getattr(error, "response", None)
            if response is not None and response.status_code not in _TRANSIENT:
                raise
            failures = 1 if output.tell() > reached else failures + 1
            if failures > _PATIENCE:
                raise
            time.sleep(failures)


def _append(url: str, headers: dict[str, str], output: BinaryIO, size: int, meter: _Meter) -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session, hf_raise_for_status

    reached = output.tell()
    if reached:
        headers = {**headers, "Range": f"bytes={reached}-"}
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
        hf_raise_for_status(response)
        if reached and response.status_code != 206:  # the server does not know ranges: all of it comes again
            output.truncate(0)
            meter.update(-reached)
        for chunk in response.iter_bytes(_PIECE):
            if output.tell() + len(chunk) > size:
                raise OSError(f"{url.rpartition('/')[2]} is longer than the hub says")
            output.write(chunk)
            output.flush()
            meter.update(len(chunk))


class _Meter:
    """Adds up the bytes of all files, from any thread."""

    def __init__(self, done: int, total: int, progress: Progress) -> None:
        self._done, self._total, self._progress = done, total, progress
        self._lock = threading.Lock()
        self._stopped = False
        self.update(0)

    def stop(self) -> None:
        """End the other downloads at their next byte: one of them has failed."""
        self._stopped = True

    def update(self, count: int) -> None:
        if self._stopped:
            raise InterruptedError("another file of this model failed")
        with self._lock:
            self._done += count
            self._progress("downloading the model", self._done, self._total)


def _part(folder: Path, file: RemoteFile) -> Path:
    return folder / f"{file.name}.part"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest(path: Path, file: RemoteFile) -> str:
    digest = hashlib.sha256() if file.large else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with path.open("rb") as content:
        while chunk := content.read(8 * CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
