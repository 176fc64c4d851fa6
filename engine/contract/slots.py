"""What is graded, in which order. Pure, and the same on every machine.

A **slot** is one thing to grade: an answer of the sheet, the same answer once more (to see whether the rater agrees
with themselves), or a calibration answer of the rubric. Only answers count towards a score. A **bout** is a pair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Union

from . import sheets
from .errors import MoltingError
from .grades import Opened
from .rubric import Calibration, Rubric
from .sheets import Item, Sheet

_APART = 3  # slots that lie between an answer and its duplicate, where there are enough


@dataclass(frozen=True)
class Slot:
    """One thing to grade. `item` is the answer's id in the sheet, empty for a calibration answer."""

    id: str
    kind: Literal["answer", "duplicate", "calibration"]
    question: str
    answer: str
    key: str
    item: str = ""
    question_id: str = ""
    voice: str = ""
    expected: Union[Calibration, None] = None


@dataclass(frozen=True)
class Bout:
    """One pair to judge, shown left and right. `swapped`: the first voice (or run) is on the right."""

    id: str
    question: str
    left: str
    right: str
    swapped: bool
    key: str


def key(answer: str, rubric_hash: str, adapter: str) -> str:
    """What a grade belongs to: hex sha256 of answer, rubric and adapter. A grade is of no use for anything else."""
    return hashlib.sha256("\0".join((answer, rubric_hash, adapter)).encode("utf-8", "replace")).hexdigest()


def order(
    sheet: Sheet,
    rubric: Rubric,
    seed: int,
    voices: Sequence[str] = ("adapter",),
    samples: Sequence[int] = (0,),
    extras: bool = True,
) -> list[Slot]:
    """The slots in the order that `seed` gives, the same on every machine: shuffled, with one or two duplicates and
    calibration answers among them."""
    graded = [item for item in sheet.items if item.voice in voices and item.sample in samples]
    rubric_hash = rubric.fingerprint
    answers = [_slot(item, rubric_hash, sheet.header.adapter) for item in graded]
    shuffled = sorted(answers, key=lambda slot: _lot(seed, slot.id))
    if not extras or not shuffled:
        return shuffled
    some = 1 if len(shuffled) < 8 else 2
    anchors = sorted(enumerate(rubric.calibration, 1), key=lambda pair: _lot(seed, f"anchor {pair[0]}"))[:some]
    for number, anchor in anchors:
        name = f"calibration-{number}"
        slot = Slot(
            name, "calibration", anchor.question, anchor.answer, key(anchor.answer, rubric_hash, ""), expected=anchor
        )
        shuffled.insert(int(_lot(seed, name), 16) % (len(shuffled) + 1), slot)
    for slot in _to_repeat(shuffled, some):
        first = shuffled.index(slot)
        least = min(len(shuffled), first + 1 + _APART)
        again = Slot(
            f"{slot.id}+", "duplicate", slot.question, slot.answer, slot.key, slot.item, slot.question_id, slot.voice
        )
        shuffled.insert(least + int(_lot(seed, again.id), 16) % (len(shuffled) - least + 1), again)
    return shuffled


def slots(sheet: Sheet, opened: Opened) -> list[Slot]:
    """The slots of one grading. MoltingError where it was of another sheet."""
    if opened.sheet_hash != sheet.sha256:
        raise MoltingError(f"These grades are of another answer sheet than {sheet.header.name}.", code=2)
    return order(sheet, opened.rubric, opened.seed, opened.voices, opened.samples, opened.extras)


def _slot(item: Item, rubric_hash: str, adapter: str) -> Slot:
    spoken = adapter if item.voice != "base" else ""
    mine = key(item.answer, rubric_hash, spoken)
    return Slot(item.id, "answer", item.question, item.answer, mine, item.id, item.question_id, item.voice)


def _to_repeat(shuffled: list[Slot], some: int) -> list[Slot]:
    """The earliest answers: they leave the most room before they come again."""
    return [slot for slot in shuffled if slot.kind == "answer"][:some]


def _lot(seed: int, name: str) -> str:
    """A draw that no library's version changes."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def bouts(one: Iterable[Item], two: Iterable[Item], rubric_hash: str, seed: int) -> list[Bout]:
    """Pairs of answers to the same question, shuffled, their sides swapped by lot."""
    others = {(item.question, item.sample): item for item in two}
    made = []
    for item in one:
        other = others.get((item.question, item.sample))
        if other is None:
            continue
        name = f"{item.question_id}/{item.sample}"
        swapped = int(_lot(seed, f"side {name}"), 16) % 2 == 1
        left, right = (other, item) if swapped else (item, other)
        both = key(item.answer, rubric_hash, other.answer)
        made.append(Bout(name, item.question, left.answer, right.answer, swapped, both))
    return sorted(made, key=lambda bout: _lot(seed, bout.id))


def pairs(sheet: Sheet, opened: Opened) -> list[Bout]:
    """The pairs of one grading: two voices of a sheet, or the same voice of this run and another."""
    voices = opened.voices
    if opened.against_path:
        other = sheets.read(Path(opened.against_path))
        if other.sha256 != opened.against:
            raise MoltingError(f"{opened.against_path} is not the sheet that these pairs were made of.")
        one, two = sheet.of(voices[0]), other.of(voices[-1])
    else:
        one, two = sheet.of(voices[0]), sheet.of(voices[-1])
    chosen = [[item for item in side if item.sample in opened.samples] for side in (one, two)]
    return bouts(chosen[0], chosen[1], opened.rubric_hash, opened.seed)
