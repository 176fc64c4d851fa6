"""A cheap name for the exact weights of a model folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from engine.models.safetensors_header import header_bytes

SAMPLE = 64 * 1024
SAMPLES = 16
_TEXT_FILES = ("config.json", "tokenizer.json")


def fingerprint(folder: Path) -> str:
    """32 hex digits of sha256 over what makes a model itself; milliseconds even for 100 GB.

    Hashed are config.json and tokenizer.json whole, and of each weight file its name, size, safetensors header and
    16 evenly spread chunks of 64 KiB. Another fine-tune, another quantisation, a cut or re-saved file all change it;
    an edit made on purpose between two samples does not, so it identifies, it does not authenticate. Times, the
    folder's name and other files do not count. Raises OSError for a missing file, ValueError for a damaged header.
    """
    digest = hashlib.sha256()
    for name in _TEXT_FILES:
        path = folder / name
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    for path in sorted(folder.glob("*.safetensors")):
        _weights(digest, path)
    return digest.hexdigest()[:32]


def _weights(digest: hashlib._Hash, path: Path) -> None:
    size = path.stat().st_size
    digest.update(f"{path.name}\0{size}\0".encode())
    digest.update(header_bytes(path))
    with path.open("rb") as file:
        for offset in _offsets(size):
            file.seek(offset)
            digest.update(file.read(SAMPLE))


def _offsets(size: int) -> list[int]:
    last = max(0, size - SAMPLE)
    return sorted({last * index // (SAMPLES - 1) for index in range(SAMPLES)})
