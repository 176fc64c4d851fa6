"""Two answers word by word: which words only one of them has. Pure."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

_WORDS = re.compile(r"\s*\S+|\s+")
COMPARED = 1_500  # words of each answer; the comparison takes time with their product

Part = tuple[str, bool]  # (text, whether only this answer has it)


def word_diff(one: str, other: str) -> tuple[list[Part], list[Part]]:
    """Both texts in parts; the parts of each, joined, are the text. Beyond `COMPARED` words nothing is marked."""
    left, right = _WORDS.findall(one), _WORDS.findall(other)
    some, more = left[:COMPARED], right[:COMPARED]
    bare, others = [word.strip() for word in some], [word.strip() for word in more]
    matcher = SequenceMatcher(None, bare, others, autojunk=False)
    lefts: list[Part] = []
    rights: list[Part] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        _add(lefts, some[a:b], kind != "equal")
        _add(rights, more[c:d], kind != "equal")
    _add(lefts, left[COMPARED:], False)
    _add(rights, right[COMPARED:], False)
    return lefts, rights


def _add(parts: list[Part], words: list[str], differs: bool) -> None:
    if words:
        parts.append(("".join(words), differs))
