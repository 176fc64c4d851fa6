"""The header of a GGUF file, judged before a library that trusts its counts walks over it.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian). A count of 2^60
would keep the reader of the `gguf` package busy for ever; here every count is held against the file's size first.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any

import msgspec

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_DEPTH = 4
_MAX_KEYS = 1 << 16
_MAX_TENSORS = 1 << 20


class GgufHeader(msgspec.Struct):
    """`fields`: scalars and strings by key, arrays as their length. `shapes`: tensors. `types`: their ggml types."""

    fields: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    types: set[int]


def read_gguf_header(path: Path) -> GgufHeader:
    """Read and check. Raises ValueError with what is wrong, in words that finish the sentence "FILE …"."""
    size = path.stat().st_size
    if not path.is_file() or size < 24:
        raise ValueError("is not a GGUF file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != b"GGUF":
            raise ValueError("is not a GGUF file")
        try:
            return _Walker(data, size).header()
        except struct.error:
            raise ValueError("is cut short or damaged: its header runs past the end") from None


class _Walker:
    def __init__(self, data: mmap.mmap, size: int) -> None:
        self.data, self.size, self.at = data, size, 4

    def header(self) -> GgufHeader:
        version = self.take("I")
        if version not in (2, 3):
            raise ValueError(f"is of GGUF version {version}; 2 and 3 are known")
        tensors, keys = self.take("Q"), self.take("Q")
        if keys > _MAX_KEYS or tensors > _MAX_TENSORS:
            raise ValueError(f"claims {keys:,} keys and {tensors:,} tensors")
        fields = {self.string(): self.value(self.take("I"), 0) for _ in range(keys)}
        infos = [(self.string(), *self.tensor()) for _ in range(tensors)]
        self._check_data(fields, infos)
        return GgufHeader(fields, {name: shape for name, shape, _, _ in infos}, {kind for _, _, kind, _ in infos})

    def take(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def skip(self, count: int) -> None:
        self.at += count
        if self.at > self.size:
            raise struct.error

    def string(self) -> str:
        length = self.take("Q")
        begin = self.at
        self.skip(length)
        return self.data[begin : self.at].decode(errors="replace")

    def value(self, kind: int, depth: int) -> Any:
        if kind in _SCALARS:
            return self.take(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY or depth >= _MAX_DEPTH:
            raise ValueError(f"holds a value of the unknown type {kind}")
        inner, length = self.take("I"), self.take("Q")
        if inner in _SCALARS:
            self.skip(length * struct.calcsize("<" + _SCALARS[inner]))
            return length
        if length > (self.size - self.at) // 8:
            raise struct.error
        for _ in range(length):
            self.value(inner, depth + 1)
        return length

    def tensor(self) -> tuple[tuple[int, ...], int, int]:
        sides = self.take("I")
        if sides > 8:
            raise ValueError(f"holds a tensor of {sides} dimensions")
        shape = tuple(self.take("Q") for _ in range(sides))
        return shape, self.take("I"), self.take("Q")

    def _check_data(self, fields: dict[str, Any], infos: list[tuple[str, tuple[int, ...], int, int]]) -> None:
        from gguf.constants import GGML_QUANT_SIZES

        alignment = fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise ValueError(f"claims an alignment of {str(alignment)[:40]}")
        start = -(-self.at // alignment) * alignment
        sizes = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
        for name, shape, kind, offset in infos:
            if kind not in sizes:
                raise ValueError(f"holds tensor {name[:80]!r} of the unknown type {kind}")
            block, width = sizes[kind]
            end = start + offset + -(-math.prod(shape) // block) * width
            if end > self.size:
                raise ValueError(f"is cut short: tensor {name[:80]!r} ends at byte {end:,} of {self.size:,}")
