"""What changed between two versions of the same rows. Pure."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class RowsDiff:
    """`added` and `changed` are numbers of new rows, `removed` of old ones; all from 0."""

    added: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    same: int = 0


def compare(old: Sequence[Any], new: Sequence[Any], asked: Callable[[Any], str]) -> RowsDiff:
    """Rows that say the same are the same, wherever they stand; one with the same question is the one that changed."""
    left = Counter(map(_key, old))
    diff = RowsDiff()
    fresh = []
    for i, value in enumerate(new):
        key = _key(value)
        if left[key]:
            left[key] -= 1
            diff.same += 1
        else:
            fresh.append(i)
    gone = []
    for i in reversed(range(len(old))):  # of equal rows the last are those that are gone
        key = _key(old[i])
        if left[key]:
            left[key] -= 1
            gone.append(i)
    by_question: defaultdict[str, list[int]] = defaultdict(list)
    for i in gone:
        by_question[asked(old[i])].append(i)
    for i in fresh:
        question = asked(new[i])
        if question and by_question[question]:
            by_question[question].pop()
            diff.changed.append(i)
        else:
            diff.added.append(i)
    diff.removed = sorted(i for each in by_question.values() for i in each)
    return diff


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
