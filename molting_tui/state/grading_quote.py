"""An answer in rows of words that keep their places in it, and the words that are chosen to be quoted. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from rich.cells import cell_len, chop_cells

from engine.contract.safe import safe

MOST = 50_000  # characters of an answer that are shown
_WORD = re.compile(r"\S+|\n")


@dataclass(frozen=True)
class Word:
    """Characters `start` to `end` of the answer, as they are `shown` in row `row` from cell `cell` on."""

    start: int
    end: int
    shown: str
    row: int
    cell: int


@lru_cache(maxsize=8)
def words(answer: str, width: int) -> tuple[Word, ...]:
    """The words of the first MOST characters in rows of at most `width` cells. Line breaks of the answer break rows."""
    found: list[Word] = []
    row = cell = 0
    for match in _WORD.finditer(answer[:MOST]):
        if match[0] == "\n":
            row, cell = row + 1, 0
            continue
        start = match.start()
        for part in _parts(match[0], max(4, width)):
            shown = safe(part, False)
            size = cell_len(shown)
            if cell and cell + 1 + size > width:
                row, cell = row + 1, 0
            cell += 1 if cell else 0
            found.append(Word(start, start + len(part), shown, row, cell))
            start, cell = start + len(part), cell + size
    return tuple(found)


def _parts(word: str, width: int) -> list[str]:
    """A word that is too long for a row in several; what is made visible in it takes more room than it has."""
    if cell_len(safe(word, False)) <= width:
        return [word]
    return chop_cells(word, max(2, width // 10)) if not word.isprintable() else chop_cells(word, width)


@dataclass(frozen=True)
class Selection:
    """Words that are chosen: from `anchor` to `at`, or only `at` before there is an anchor."""

    words: tuple[Word, ...]
    at: int = 0
    anchor: int | None = None

    @property
    def span(self) -> tuple[int, int]:
        """[start, end) in the answer."""
        low, high = sorted((self.at, self.at if self.anchor is None else self.anchor))
        return self.words[low].start, self.words[high].end

    @property
    def row(self) -> int:
        return self.words[self.at].row

    def move(self, by: int) -> Selection:
        """So many words on."""
        return replace(self, at=max(0, min(len(self.words) - 1, self.at + by)))

    def move_rows(self, by: int) -> Selection:
        """So many rows down, to the word nearest below or above."""
        here = self.words[self.at]
        rows = {word.row for word in self.words}
        wanted = max(min(rows), min(max(rows), here.row + by))
        while wanted not in rows:  # an empty row
            wanted += 1 if by > 0 else -1
        near = min((n for n, word in enumerate(self.words) if word.row == wanted),
                   key=lambda n: abs(self.words[n].cell - here.cell))  # fmt: skip
        return replace(self, at=near)

    def mark(self) -> Selection:
        """Begin here, so that moving chooses more; or let go of the beginning."""
        return replace(self, anchor=self.at if self.anchor is None else None)
