"""The form without a screen, for scripts and pipes: a line for each answer, and what is printed before it."""

from __future__ import annotations

from collections.abc import Iterator

from engine.contract import grades
from engine.contract.errors import MoltingError
from engine.contract.grades import AnyEvent
from engine.contract.rubric import Rubric
from engine.contract.safe import safe

from . import text
from .services.grades import Sitting
from .state.grading_form import Choice, Form
from .state.grading_lines import dimension_lines
from .terminal import one_line

_WIDTH = 100
_SIDES: dict[str, Choice] = {"a": "left", "b": "right", "tie": "tie", "bad": "bad"}
_PAIR_WORDS = "a, b, tie, bad or undo"
_CELL_WORDS = "levels as 21021, skip, flag, undo, comment [DIMENSION] TEXT, or quote [DIMENSION] WORDS"


def enter(sitting: Sitting, line: str) -> None:
    """Do what a line says. MoltingError (code 2) where it means nothing here; then nothing of it was written."""
    said, form = line.strip(), sitting.form
    word, _, rest = said.partition(" ")
    if word == "undo":
        event = form.undo()
    elif form.opened.mode == "pairs":
        event = form.duel(_SIDES[word]) if said in _SIDES else None
    elif form.held:
        event = form.decide(accepted=word == "y") if said in ("y", "n") else None
    elif said and set(said) <= set("0123456789 "):
        _levels(sitting, [int(digit) for digit in said if digit != " "])
        return
    elif word in ("skip", "flag"):
        event = form.skip() if word == "skip" else form.flag()
    else:
        event = _words(form, word, rest.strip())
    if not sitting.say(event):
        raise MoltingError(f"{one_line(said)[:80]!r} means nothing here.", remedy=f"Write {_expected(form)}.", code=2)


def _expected(form: Form) -> str:
    if form.opened.mode == "pairs":
        return _PAIR_WORDS
    return "y, n or undo" if form.held else _CELL_WORDS


def _levels(sitting: Sitting, levels: list[int]) -> None:
    """The levels of the dimensions that have none yet, in their order; with the last one the answer is graded."""
    form = sitting.form
    left = [each.id for each in form.rubric.dimensions if each.id not in form.grade.cells]
    scale = form.rubric.scale.levels
    if form.slot is None or len(levels) != len(left) or any(level not in scale for level in levels):
        wanted = f"{text.plural(len(left), 'level')} from {scale[0]} to {scale[-1]}"
        raise MoltingError(f"{text.plural(len(levels), 'level')} given.", remedy=f"Write {wanted}.", code=2)
    item = form.slot.id
    for name, level in zip(left, levels, strict=True):
        sitting.say(grades.Cell(item=item, dimension=name, level=level))
    sitting.say(form.commit())


def _words(form: Form, word: str, rest: str) -> AnyEvent | None:
    """A comment or a quotation, on the dimension that is named first, or on the whole answer."""
    slot, (first, _, more) = form.slot, rest.partition(" ")
    dimension = first if first in [each.id for each in form.rubric.dimensions] else ""
    said = more.strip() if dimension else rest
    if slot is None or not said or len(said) > 20_000:
        return None
    if word == "comment":
        return grades.Comment(item=slot.id, text=said, dimension=dimension)
    if word != "quote":
        return None
    start = slot.answer.find(said)
    if start < 0:
        raise MoltingError("The answer does not say that, so it cannot be quoted.", remedy="Copy its words.", code=2)
    return grades.Quote(item=slot.id, text=said, start=start, end=start + len(said), dimension=dimension)


def rubric_page(rubric: Rubric) -> Iterator[str]:
    """The texts of all levels, once."""
    for dimension in rubric.dimensions:
        yield from ("".join(part for part, _ in line) for line in dimension_lines(dimension, rubric, _WIDTH))
        yield ""


def place_lines(form: Form) -> Iterator[str]:
    """What is to be graded now, or what the machine would have given."""
    if form.held:
        hit = form.undecided(form.held)[0]
        own = form.grade.cells.get(hit.dimension)
        yield f"The machine would give {hit.dimension} {hit.level}, you gave {own}: {one_line(hit.about)}. y or n?"
        return
    shown = form.slot or form.bout
    if shown is None:
        return
    yield f"{form.settled + 1}/{form.total}  {one_line(shown.question)}"
    answers = [("", form.slot.answer)] if form.slot else []
    if form.bout:
        answers = [("a", form.bout.left), ("b", form.bout.right)]
    for name, answer in answers:
        yield from ([name] if name else [])
        yield from (f"  {line}" for line in text.wrap(safe(answer).strip() or "(nothing was answered)", _WIDTH - 2))
    if form.question and form.question.needs_facts:
        for name, value in form.rubric.facts.items():
            yield f"  fact  {one_line(name)}: {one_line(value if isinstance(value, str) else ', '.join(value))}"
    if form.slot and form.grade.cells:  # graded in part, and left: only the other levels are wanted
        given = "  ".join(f"{each.id} {form.grade.cells.get(each.id, '_')}" for each in form.rubric.dimensions)
        yield f"  so far  {given}"
    yield ""
