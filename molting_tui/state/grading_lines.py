"""The form as lines of text: the answer, the rubric at the place where the rater is, the line above. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from engine.contract.rubric import Dimension, Rubric
from engine.contract.safe import safe
from engine.contract.slots import Bout
from engine.contract.verdict import Hit

from .. import text
from .grading_form import Form
from .grading_quote import MOST, Selection, Word, words
from .lines import Line, merged

_GAP = "  "


def _plain(said: str) -> str:
    return safe(" ".join(said.split()), False)


def answer_lines(form: Form, width: int, selection: Selection | None = None) -> list[Line]:
    """What is graded, and where it needs them the facts. Nothing in it tells whose answer it is, nor how it ended:
    calibration answers ended in no way, and would be known by that."""
    slot = form.slot
    if slot is None:
        return [[("Nothing is left to grade.", "bold")]]
    lines = answer_rows(slot.answer, width, selection, [span for hit in form.hits_of(slot) for span in hit.spans])
    question = form.question
    if question and question.needs_facts and form.rubric.facts:
        lines += [[], [("facts", "dim")]]
        for name, value in form.rubric.facts.items():
            said = value if isinstance(value, str) else ", ".join(value)
            lines += [[(line, "dim")] for line in text.wrap(_plain(f"{name}: {said}"), width)]
    return lines


def answer_rows(
    answer: str, width: int, selection: Selection | None = None, spans: Iterable[tuple[int, int]] = ()
) -> list[Line]:
    """The text of one answer; chosen words and those that a rule points at stand out."""
    laid = words(answer, width)
    if not laid:
        return [[("(nothing was answered)", "dim")]]
    chosen = selection.span if selection else (0, 0)
    pointed = list(spans)
    rows: list[Line] = [[] for _ in range(laid[-1].row + 1)]
    for word in laid:
        role = _role(word, chosen, pointed)
        if word.cell:
            rows[word.row].append((" ", role if rows[word.row][-1][1] == role == "cursor" else ""))
        rows[word.row].append((word.shown, role))
    if len(answer) > MOST:
        rows.append([(f"… and {len(answer) - MOST:,} characters more", "dim")])
    return [merged(row) for row in rows]


def _role(word: Word, chosen: tuple[int, int], pointed: Sequence[tuple[int, int]]) -> str:
    if chosen[0] <= word.start < chosen[1]:
        return "cursor"
    return "match" if any(start < word.end and word.start < end for start, end in pointed) else ""


def question_line(form: Form) -> str:
    """The question on one line."""
    asked = form.slot or form.bout
    return _plain(asked.question) if asked else ""


def rubric_lines(form: Form, width: int) -> list[Line]:
    """Where the rater is: levels given so far, then the texts of this dimension, or what the machine saw."""
    if form.slot is None:
        return []
    lines: list[Line] = [_cells(form), []]
    if form.held:
        lines += _check_lines(form.undecided(form.held)[0], form, width)
    elif form.dimension is None:
        lines.append([("all levels are given", "bold")])
        lines += [[(line, "dim")] for line in text.wrap("Enter commits, Backspace goes back.", width)]
    else:
        lines += dimension_lines(form.dimension, form.rubric, width, matters=_matters(form))
    return lines + _notes(form, width) + _seen_before(form, width)


def dimension_lines(dimension: Dimension, rubric: Rubric, width: int, *, matters: bool = False) -> list[Line]:
    """The level texts of a dimension behind their digits."""
    head = _plain(f"{dimension.id}  {dimension.name}") + ("  matters most here" if matters else "")
    lines: list[Line] = [[(line, "bold")] for line in text.wrap(head, width)]
    if dimension.about:
        lines += [[(line, "dim")] for line in text.wrap(_plain(dimension.about), width)]
    if not dimension.higher_is_better:
        lines.append([("here a lower level is the better one", "warning")])
    for level, said in zip(rubric.scale.levels, dimension.levels, strict=False):
        for i, line in enumerate(text.wrap(_plain(said), width - 4)):
            lines.append([(f" {level}  " if not i else "    ", "answer"), (line, "")])
    return [*lines, [("unsure? the lower one", "dim")]]


def _cells(form: Form) -> Line:
    """`D1 2  D2 2  D3 _  D4 ·`"""
    line: Line = []
    for each in form.rubric.dimensions:
        here = form.dimension is not None and form.dimension.id == each.id
        level = form.grade.levels.get(each.id)
        shown = "_" if level is None and here else "·" if level is None else str(level)
        line.append((f"{_plain(each.id)} {shown}", "match" if here else "bold" if level is not None else "dim"))
        line.append((_GAP, ""))
    flagged = [("flagged", "warning")] if form.grade.flagged else []
    skipped = [("skipped before  ", "dim")] if form.grade.skipped else []
    return line + skipped + flagged


def _matters(form: Form) -> bool:
    return bool(form.question and form.dimension and form.dimension.id in form.question.matter)


def _check_lines(hit: Hit, form: Form, width: int) -> list[Line]:
    own = form.grade.cells.get(hit.dimension)
    said = f"The machine would give {hit.dimension} {hit.level}, you gave {own}: {hit.about}."
    lines: list[Line] = [[(line, "warning")] for line in text.wrap(_plain(said), width)]
    keys = "y takes the machine's level, n keeps yours; both stay on record. Enter leaves it open."
    return lines + [[(line, "dim")] for line in text.wrap(keys, width)]


def _notes(form: Form, width: int) -> list[Line]:
    grade = form.grade
    said = [(f"{name or 'all'}: {comment}", "note") for name, comment in grade.comments.items()]
    said += [
        (f"{quote.dimension or 'all'}: “{quote.text}”" + ("" if quote.found else "  (not in the answer)"), "answer")
        for quote in grade.quotes
    ]
    lines: list[Line] = [[]] if said else []
    for words_, role in said:
        lines += [[(line, role)] for line in text.wrap(_plain(words_), width)]
    return lines


def _seen_before(form: Form, width: int) -> list[Line]:
    """Hints about the answer that was committed just before: they ask for nothing."""
    slot = form.before
    hints = [hit for hit in form.hits_of(slot) if hit.effect == "signal"] if slot else []
    if form.held:
        hints = [hit for hit in form.hits_of(form.held) if hit.effect == "signal"]
    where = "here" if form.held else "in the answer before"
    said = [f"{where}: {hit.about}" + (f" ({hit.dimension})" if hit.dimension else "") for hit in hints]
    lines: list[Line] = [[]] if said else []
    for each in said:
        lines += [[(line, "dim")] for line in text.wrap(_plain(each), width)]
    return lines


def pair_lines(bout: Bout | None, width: int) -> list[Line]:
    """Two answers beside each other."""
    if bout is None:
        return [[("Every pair is judged.", "bold")]]
    half = text.column_width(width)
    sides = [_one_role(answer_rows(answer, half)) for answer in (bout.left, bout.right)]
    heads = [[text.fit("a", half)], [text.fit("b", half)]]
    return [[(line, "bold" if not i else "")] for i, line in enumerate(
        text.columns(heads[0] + sides[0], heads[1] + sides[1], width))]  # fmt: skip


def _one_role(rows: Iterable[Line]) -> list[str]:
    return ["".join(said for said, _ in row) for row in rows]


def status_line(form: Form, saved: float) -> str:
    """`sheet 3f2a (blind)  item 4/12  1.4 a minute, ~6 min left  saved 02:31:07`"""
    done, total = form.settled, form.total
    what = "pair" if form.opened.mode == "pairs" else "item"
    blind = " (blind)" if form.opened.blind else ""
    said = [f"sheet {form.opened.sheet_hash[:4]}{blind}", f"{what} {min(done + 1, total)}/{total}"]
    if form.grading.paused:
        said.append("paused: the clock stands still")
    elif form.pace and form.seconds_left is not None:
        left = f", ~{max(1, round(form.seconds_left / 60))} min left" if done < total else ""
        said.append(f"{60 / form.pace:.1f} a minute{left}")
    if saved:
        said.append(f"saved {time.strftime('%H:%M:%S', time.localtime(saved))}")
    return _GAP.join(said)
