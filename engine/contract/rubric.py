"""Rubrics: what answers are judged by. TOML under `data/rubrics/`, or any file a person writes (docs/grading.md).

A rubric is frozen whole into every answer sheet and every grade file, so an old grading can be read for ever. Two
rubrics are the same only if their `fingerprint` is: any edit of what they say changes it (comments do not count).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Union

import msgspec
from msgspec import Meta

from . import places, tomlcheck
from .errors import MoltingError
from .tomllines import KeyPath

OUT_OF = 10.0  # every score is told out of this

Check = Literal["template_tokens", "agent_opening", "headings", "task", "cut_off", "repetition", "language"]
Name = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[\w.-]+$")]
Text = Annotated[str, Meta(min_length=1, max_length=4000)]


class _Part(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    pass


class Scale(_Part, frozen=True):
    """Whole levels, each one key: 0, 1, 2 unless told otherwise."""

    low: Annotated[int, Meta(ge=0, le=8)] = 0
    high: Annotated[int, Meta(ge=1, le=9)] = 2

    def __post_init__(self) -> None:
        if self.high <= self.low:
            raise ValueError("high must be above low")

    @property
    def levels(self) -> range:
        return range(self.low, self.high + 1)

    @property
    def span(self) -> int:
        """Points that one dimension can give."""
        return self.high - self.low


class Dimension(_Part, frozen=True):
    """One criterion. `levels` are the texts from the lowest level to the highest, whichever of them is good."""

    id: Name
    name: Text
    levels: Annotated[list[Text], Meta(min_length=2, max_length=10)]
    higher_is_better: bool = True
    about: str = ""


class Band(_Part, frozen=True):
    """Scores from `at_least` up to, and not including, where the next band begins; the last one includes 10."""

    name: Text
    at_least: Annotated[float, Meta(ge=0.0, lt=OUT_OF)]


class Question(_Part, frozen=True):
    """One question. `matter` names the dimensions that matter most here; facts are looked up if they are needed."""

    id: Name
    text: Text
    matter: list[Name] = []
    needs_facts: bool = False


class Rule(_Part, frozen=True):
    """A machine check of an answer: a built-in `check`, a regular expression, or phrases (any case).

    `zero`: the dimension gives no points; `signal`: the grader is only told. Either is shown after the commit.
    """

    id: Name
    effect: Literal["zero", "signal"]
    about: Text
    dimension: Union[Name, Literal[""]] = ""
    check: Union[Check, Literal[""]] = ""
    pattern: Annotated[str, Meta(max_length=1000)] = ""
    phrases: list[Text] = []

    def __post_init__(self) -> None:
        if sum(map(bool, (self.check, self.pattern, self.phrases))) != 1:
            raise ValueError("a rule has exactly one of check, pattern and phrases")
        if self.effect == "zero" and not self.dimension:
            raise ValueError("a rule with the effect zero names its dimension")
        try:
            re.compile(self.pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"the pattern is not a regular expression: {error}") from None


class Calibration(_Part, frozen=True):
    """An answer whose level in every dimension is known, mixed in to see how the grader grades."""

    question: Text
    answer: Text
    cells: dict[str, int]
    why: str = ""


class Rubric(_Part, frozen=True):
    """The whole of it. Ids of dimensions and questions are unique; both keep their order."""

    name: Name
    dimensions: Annotated[list[Dimension], Meta(min_length=1, max_length=12)]
    questions: Annotated[list[Question], Meta(min_length=1, max_length=500)]
    language: str = ""
    about: str = ""
    version: str = ""
    scale: Scale = Scale()
    bands: list[Band] = []
    facts: dict[str, Union[str, list[str]]] = {}
    rules: list[Rule] = []
    calibration: list[Calibration] = []

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of all that the rubric says, in one normal form."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()

    @property
    def most(self) -> int:
        """Points that one answer can get."""
        return self.scale.span * len(self.dimensions)

    def dimension(self, wanted: str) -> Dimension:
        """By its id. KeyError."""
        return next((each for each in self.dimensions if each.id == wanted), None) or _missing(wanted)

    def points(self, dimension: str, level: int) -> int:
        """What a level is worth, 0 to `scale.span`: where lower is better it is turned before anything is summed."""
        better_above = self.dimension(dimension).higher_is_better
        return level - self.scale.low if better_above else self.scale.high - level

    def no_points(self, dimension: str) -> int:
        """The level that is worth nothing."""
        return self.scale.low if self.dimension(dimension).higher_is_better else self.scale.high

    def raw(self, cells: Mapping[str, int]) -> int:
        """Points of all these levels together, by dimension id."""
        return sum(self.points(dimension, level) for dimension, level in cells.items())

    def band(self, score: float) -> str:
        """The name of the band in which a score out of 10 lies; empty where the rubric has none."""
        return next((band.name for band in reversed(self.bands) if score >= band.at_least), "")


def _missing(wanted: str) -> Dimension:
    raise KeyError(wanted)


def load(path_or_text: Union[Path, str]) -> Rubric:
    """The rubric in a TOML file (a Path) or text. tomlcheck.SpecError (code 2) naming all that is wrong."""
    return tomlcheck.load(path_or_text, Rubric, also=mistakes)


def mistakes(rubric: Rubric) -> Iterator[tuple[KeyPath, str]]:
    """What types cannot say: (where, a sentence) for everything in `rubric` that does not fit together."""
    names = [dimension.id for dimension in rubric.dimensions]
    yield from _twice("dimensions", names)
    yield from _twice("questions", [question.id for question in rubric.questions])
    yield from _twice("rules", [rule.id for rule in rubric.rules])
    for place, dimension in enumerate(rubric.dimensions):
        if len(dimension.levels) != len(rubric.scale.levels):
            told = f"{len(dimension.levels)} level texts, but the scale has {len(rubric.scale.levels)} levels"
            yield ("dimensions", place, "levels"), f"{dimension.id} has {told}."
    yield from _band_mistakes(rubric.bands)
    for place, question in enumerate(rubric.questions):
        for wrong in [name for name in question.matter if name not in names]:
            yield ("questions", place, "matter"), f"{question.id} names the dimension {wrong}, which there is not."
    for place, rule in enumerate(rubric.rules):
        if rule.dimension and rule.dimension not in names:
            where = ("rules", place, "dimension")
            yield where, f"The rule {rule.id} names the dimension {rule.dimension}, which there is not."
    for place, anchor in enumerate(rubric.calibration):
        said = f"Calibration answer {place + 1}"
        if set(anchor.cells) != set(names):
            yield ("calibration", place, "cells"), f"{said} must give a level for each of {', '.join(names)}."
        if any(level not in rubric.scale.levels for level in anchor.cells.values()):
            least, most = rubric.scale.low, rubric.scale.high
            yield ("calibration", place, "cells"), f"{said} has a level outside {least} to {most}."


def _twice(section: str, ids: list[str]) -> Iterator[tuple[KeyPath, str]]:
    for each, times in Counter(ids).items():
        if times > 1:
            last = len(ids) - 1 - ids[::-1].index(each)
            yield (section, last, "id"), f"The id {each} stands {times} times in [[{section}]]."


def _band_mistakes(bands: list[Band]) -> Iterator[tuple[KeyPath, str]]:
    if bands and bands[0].at_least != 0:
        yield ("bands", 0, "at_least"), "The first band must begin at 0, so that every score has one."
    for place in range(1, len(bands)):
        if bands[place].at_least <= bands[place - 1].at_least:
            yield ("bands", place, "at_least"), f"The band {bands[place].name} begins before the one above it ends."


def shipped() -> dict[str, Path]:
    """Rubrics that come with Molting, by the name of their file."""
    return {file.stem: file for file in sorted((places.shipped() / "rubrics").glob("*.toml"))}


def find(wanted: str) -> Path:
    """The file meant by a path or by the name of a shipped rubric. MoltingError (code 2) naming those there are."""
    path = Path(wanted).expanduser()
    if path.suffix == ".toml" or path.exists():
        return path.absolute()
    known = shipped()
    if wanted not in known:
        raise MoltingError(
            f"There is no rubric called {wanted!r}.",
            remedy=f"Give a .toml file, or one of {', '.join(known) or '(none is shipped)'}.",
            code=2,
        )
    return known[wanted]


def for_persona(name: str) -> Path:
    """The shipped rubric called like a run or persona (rhea-7 is of rhea), the general one otherwise."""
    known, first = shipped(), re.split(r"[\W_]", name.strip().lower(), maxsplit=1)[0]
    return known.get(name) or known.get(first) or known["general"]


def seen(questions: Iterable[str], trained: Iterable[str]) -> set[str]:
    """Those of `questions` that stand in the training rows, word for word but for case, spacing and punctuation."""
    known = {plain(text) for text in trained}
    return {question for question in questions if plain(question) in known}


def plain(text: str) -> str:
    """Text as it is compared: case-folded words with single spaces, no punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold()))
