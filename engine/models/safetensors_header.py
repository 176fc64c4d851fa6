"""The header of a safetensors file, judged without loading a tensor.

Format: 8 bytes little-endian header length, a JSON object, then the tensors' bytes without gaps
(https://huggingface.co/docs/safetensors). The library's own checks come too late for a sentence, and only when
a tensor is loaded; ours run over every file first.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any

import msgspec

MAX_HEADER = 100_000_000
"""Bytes; the limit of the reference implementation."""

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


class Tensor(msgspec.Struct, frozen=True):
    """Where one tensor lies: `start` and `end` are byte offsets from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


class _Entry(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def read_header(path: Path) -> dict[str, Tensor]:
    """Tensors by name. Raises ValueError with what is wrong, in words that finish the sentence "FILE …"."""
    size, raw = _raw(path)
    data_start = 8 + len(raw)
    try:
        entries = msgspec.json.decode(raw, type=dict[str, Any])
        entries.pop("__metadata__", None)
        parsed = msgspec.convert(entries, dict[str, _Entry])
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise ValueError(f"has a header that cannot be read ({error})") from error
    tensors = {name: _tensor(name, entry, data_start) for name, entry in parsed.items()}
    _check_layout(tensors, data_start, size)
    return tensors


def header_bytes(path: Path) -> bytes:
    """The raw JSON header. Raises ValueError as `read_header` does for a length that cannot be."""
    return _raw(path)[1]


def _raw(path: Path) -> tuple[int, bytes]:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("is not a regular file")
        prefix = file.read(8)
        if prefix == b"version ":
            raise ValueError("is a Git LFS pointer, not the weights: run `git lfs pull` in its folder")
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or info.st_size < 10:
            raise ValueError(f"is cut short: it has {info.st_size} bytes")
        if length > MAX_HEADER:
            raise ValueError(f"claims a header of {length:,} bytes; at most {MAX_HEADER:,} are allowed")
        if 8 + length > info.st_size:
            raise ValueError(f"is cut short: its header of {length:,} bytes does not fit in {info.st_size:,}")
        return info.st_size, file.read(length)


def _tensor(name: str, entry: _Entry, data_start: int) -> Tensor:
    begin, end = entry.data_offsets
    if entry.dtype not in BITS:
        raise ValueError(f"holds tensor {name!r} of the unknown type {entry.dtype!r}")
    if len(entry.shape) > 16 or any(side < 0 for side in entry.shape):
        raise ValueError(f"holds tensor {name!r} of the impossible shape {entry.shape}")
    if not 0 <= begin <= end:
        raise ValueError(f"places tensor {name!r} at the impossible bytes {begin} to {end}")
    needed = -(-math.prod(entry.shape) * BITS[entry.dtype] // 8)
    if end - begin != needed:
        raise ValueError(f"gives tensor {name!r} {end - begin:,} bytes, but its shape {entry.shape} needs {needed:,}")
    return Tensor(entry.dtype, tuple(entry.shape), data_start + begin, data_start + end)


def _check_layout(tensors: dict[str, Tensor], data_start: int, size: int) -> None:
    position = data_start
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start < position:
            raise ValueError(f"has overlapping tensors: {name!r} begins inside the one before it")
        if tensor.start > position:
            raise ValueError(f"has a gap of {tensor.start - position:,} bytes before tensor {name!r}")
        position = tensor.end
    if position > size:
        raise ValueError(f"is cut short: it has {size:,} of {position:,} bytes")
    if position < size:
        raise ValueError(f"has {size - position:,} bytes after its last tensor that belong to nothing")
