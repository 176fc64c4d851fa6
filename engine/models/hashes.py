"""Comparing the files of a folder with the hashes that came with them, wherever these stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from engine.contract.calls import Finding
from engine.contract.durable import MANIFEST, check_seal
from engine.models.files import Progress, read_regular, sha256_of, silent

_LISTS = ("SHA256SUMS", "SHA256SUMS.txt", "sha256sums.txt", "checksums.txt", "*.sha256")
_LINE = re.compile(r"([0-9a-fA-F]{64})[ \t]+[*]?(.+)")
_BLOB = re.compile(r"[0-9a-f]{64}")
_LIMIT = 1 << 20


def check_hashes(path: Path, progress: Progress = silent) -> list[Finding]:
    """A finding for every file whose sha256 is not the one that is known for it. Reads those files whole.

    Known hashes: a list of sha256 beside the files, names in the hub's cache (its large files are named by their
    sha256), and the manifest of a folder that Molting sealed.
    """
    if (path / MANIFEST).is_file():
        return [_differs(problem) for problem in check_seal(path)]
    found = []
    for name, expected in {**_cached(path), **_listed(path)}.items():
        file = path / name
        if not file.is_file():
            found.append(_differs(f"{name} is in the list of hashes and not in {path.name}."))
        elif sha256_of(file, progress, f"checking {name}") != expected:
            found.append(_differs(f"{name} of {path.name} is not what its sha256 says."))
    return found


def _differs(message: str) -> Finding:
    return Finding(
        id="wrong-hash",
        severity="error",
        message=message,
        why="A damaged weight loads without an error and answers nonsense.",
        remedy="Download that file again.",
    )


def _listed(path: Path) -> dict[str, str]:
    hashes: dict[str, str] = {}
    for file in sorted({found for pattern in _LISTS for found in path.glob(pattern)}):
        hashes |= dict(_lines(file))
    return hashes


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    try:
        text = read_regular(file, _LIMIT).decode("utf-8", "replace")
    except OSError:
        return
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        name = match[2].strip().removeprefix("./") if match else ""
        if match and name and Path(name).name == name:
            yield name, match[1].lower()
        elif _BLOB.fullmatch(line.strip().lower()):  # `model.safetensors.sha256` with the hash alone
            yield file.name.removesuffix(".sha256"), line.strip().lower()


def _cached(path: Path) -> dict[str, str]:
    """Files of a snapshot in the hub's cache, which are links to blobs."""
    links = {file.name: file.resolve().name for file in path.iterdir() if file.is_symlink()}
    return {name: blob for name, blob in links.items() if _BLOB.fullmatch(blob)}
