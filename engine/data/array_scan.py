"""Where the items of a JSON array begin, found by looking at brackets, commas and quotes alone.

After the first idea of simdjson (Langdale and Lemire 2019, doi:10.1007/s00778-019-00578-5): nothing is parsed. Whole
blocks are classified at once, a comma that is outside all quotes and directly inside the array ends an item.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_BLOCK = 1 << 20
_QUOTE, _BACKSLASH, _COMMA = 0x22, 0x5C, 0x2C
_OPEN, _CLOSE = (0x5B, 0x7B), (0x5D, 0x7D)

_TOLD = np.zeros(256, bool)
_TOLD[[_QUOTE, _COMMA, *_OPEN, *_CLOSE]] = True
_TURN = np.zeros(256, np.int64)  # by how much a byte changes the depth
_TURN[[*_OPEN]] = 1
_TURN[[*_CLOSE]] = -1


class _Scan:
    """What is carried from block to block."""

    def __init__(self, step: int) -> None:
        self.step, self.count, self.offsets = step, 0, list[int]()
        self.depth, self.quoted, self.escaped, self.seen = 0, False, False, False

    def block(self, data: bytes, base: int) -> bool:
        """Take in a block that begins at byte `base`; False once the array has ended."""
        whole = np.frombuffer(data, np.uint8)
        if self.escaped or _BACKSLASH in data:
            whole = self._without_escaped(whole)
        at = np.flatnonzero(_TOLD[whole])
        signs = whole[at]
        quote = signs == _QUOTE
        inside = (np.cumsum(quote) + self.quoted) % 2 == 1  # behind an opening quote
        if len(inside):
            self.quoted = bool(inside[-1])
        outside = ~(inside | quote)
        at, signs = at[outside], signs[outside]
        depth = self.depth + np.cumsum(_TURN[signs])
        ended = np.flatnonzero(depth == 0)  # the array's own closing bracket; its opening one makes 1
        if len(ended):
            at, signs, depth = at[: ended[0] + 1], signs[: ended[0] + 1], depth[: ended[0] + 1]
        self._look_for_first(data, base, int(at[-1]) if len(ended) else len(data))
        commas = at[(signs == _COMMA) & (depth == 1)]
        # Item i begins behind the i-th comma; only every `step`-th is kept.
        for i in range(-(self.count + 1) % self.step, len(commas), self.step):
            self.offsets.append(base + int(commas[i]) + 1)
        self.count += len(commas)
        if len(depth):
            self.depth = int(depth[-1])
        return not len(ended)

    def _without_escaped(self, whole: Any) -> Any:
        """A copy in which no quote stands behind an odd number of backslashes."""
        whole = whole.copy()
        if self.escaped:
            whole[0] = 0x20
        slashes = np.flatnonzero(whole == _BACKSLASH)
        self.escaped = False
        if len(slashes):
            begins = np.flatnonzero(np.diff(slashes, prepend=-2) != 1)
            lengths = np.diff(begins, append=len(slashes))
            after = (slashes[begins] + lengths)[lengths % 2 == 1]
            self.escaped = bool(len(after)) and int(after[-1]) == len(whole)
            whole[after[: len(after) - self.escaped]] = 0x20
        return whole

    def _look_for_first(self, data: bytes, base: int, end: int) -> None:
        """The first item is no comma's: it begins behind the bracket, if anything stands there."""
        if self.seen:
            return
        text = data[:end]
        if not self.offsets:
            begin = text.find(b"[") + 1
            if not begin:
                return
            self.offsets.append(base + begin)
            text = text[begin:]
        self.seen = bool(text.strip())


def array_marks(file: Any, start: int, step: int, tell: Callable[[int], None]) -> tuple[int, list[int]]:
    """(items, byte behind the bracket or comma before every `step`-th item) of the array in `file` from `start` on.

    Counts what is there: a file that is no valid JSON gives numbers all the same, and is refused by whoever reads it.
    """
    scan, base = _Scan(step), start
    file.seek(start)
    while data := file.read(_BLOCK):
        if not scan.block(data, base):
            break
        base += len(data)
        tell(base)
    return (scan.count + 1, scan.offsets) if scan.seen else (0, [])
