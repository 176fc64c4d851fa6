"""One graded cycle, counted: verb `cycle`. Every number comes from the sheet and the grade file, none is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import combinations
from pathlib import Path

from engine.contract import calls, grading, rubric, sheets
from engine.contract import summary as runs
from engine.contract.errors import MoltingError
from engine.contract.grading import Grade, Grading
from engine.contract.rubric import OUT_OF, Rubric
from engine.contract.rundir import RunDir
from engine.contract.sheets import Sheet
from engine.contract.slots import Slot
from engine.contract.verdict import Anchor, AnswerScore, Cycle, CycleRequest, DimensionScore, Evaluation, Part

from . import agreement
from .precheck import precheck, was_cut
from .statistics import mean_interval

_ROWS = 200_000  # rows looked through for the questions


def cycle(request: CycleRequest, tell: Callable[[calls.Line], None]) -> Evaluation:
    """Everything that was graded in one run. MoltingError where there is no run."""
    run = RunDir(Path(request.run))
    readable, problems = sheets.readable(run)
    found, more = grading.of_run(run)
    main = grading.latest(found)
    trained = trained_questions(run)
    complete = [each for each in found if each.complete and each.opened.mode == "cells"]
    counted = {id(each): count(run, each, readable, trained) for each in complete}
    return Evaluation(
        run=run.id,
        main=counted[id(main)] if main else None,
        others=[counted[id(each)] for each in complete if each is not main],
        agreements=[agreement.agreement(*pair) for pair in _comparable(complete)],
        pairs=[agreement.judged_pairs(each) for each in found if each.opened.mode == "pairs"],
        problems=list(dict.fromkeys([*problems, *more])),
    )


def _comparable(complete: list[Grading]) -> list[tuple[Grading, Grading]]:
    """Pairs of gradings by different raters that share a rubric and answers."""
    return [
        (one, two)
        for one, two in combinations(complete, 2)
        if one.opened.rater != two.opened.rater
        and one.opened.rubric_hash == two.opened.rubric_hash
        and agreement.common_cells(one, two)
    ]


def count(run: RunDir, graded: Grading, readable: Sequence[Sheet], trained: set[str] | None, voice: str = "") -> Cycle:
    """The numbers of one grading, of one voice only if told. MoltingError where nothing of it counts."""
    by = graded.opened.rubric
    sheet = next(each for each in readable if each.sha256 == graded.opened.sheet_hash)
    answers = [
        _answer(slot, graded.grade(slot.id), sheet, by, trained)
        for slot in graded.slots
        if slot.kind == "answer" and graded.grade(slot.id).counts
    ]
    voice = voice or sheets.main_voice(graded.opened.voices)
    places = {item.id: place for place, item in enumerate(sheet.items)}  # slots are shuffled, tables are not
    answers = sorted((each for each in answers if each.voice == voice), key=lambda each: places[each.slot])
    raw, most = sum(each.raw for each in answers), sum(each.max for each in answers)
    if not most:
        raise MoltingError(f"Nothing of the voice {voice} was graded in {run.id}.", code=2)
    score = raw / most * OUT_OF
    interval = mean_interval([float(value) for value in by_question(answers).values()])
    repeated = _repeated(graded)
    return Cycle(
        run=run.id,
        name=runs.name_of(run),
        rater=graded.opened.rater,
        kind=graded.opened.kind,
        blind=graded.opened.blind,
        origin=graded.opened.origin,
        rubric=by.name,
        rubric_hash=graded.opened.rubric_hash,
        sheet=sheet.header.name,
        voice=voice,
        grades=graded.path.name if graded.path else "",
        raw=raw,
        max=most,
        score=score,
        band=by.band(score),
        interval=(max(0.0, interval[0]), min(OUT_OF, interval[1])) if interval else None,
        dimensions=_dimensions(answers, by),
        answers=answers,
        seen=_part([each for each in answers if each.seen]) if trained is not None else None,
        unseen=_part([each for each in answers if not each.seen]) if trained is not None else None,
        cut=sum(was_cut(each.answer, each.stop) for each in answers),
        cut_recorded=all(each.stop for each in answers),
        rule_hits=dict(Counter(hit.rule for each in answers for hit in precheck(each.answer, by, each.stop))),
        repeated=len(repeated),
        repeated_same=sum(repeated),
        anchors=anchors(graded),
        skipped=sum(graded.grade(slot.id).skipped for slot in graded.slots if slot.kind == "answer"),
        seconds=sum(grade.seconds for grade in graded.grades.values()),
        warnings=_warnings(graded, sheet),
    )


def _answer(slot: Slot, grade: Grade, sheet: Sheet, by: Rubric, trained: set[str] | None) -> AnswerScore:
    item = sheet.item(slot.item)
    assert item is not None  # slots are made of the sheet's items
    points = grading.points(grade, by)
    return AnswerScore(
        slot=slot.id,
        question_id=item.question_id,
        question=item.question,
        voice=item.voice,
        sample=item.sample,
        answer=item.answer,
        stop=item.stop,
        raw=points.raw,
        max=points.most,
        score=points.score,
        seen=None if trained is None else rubric.plain(item.question) in trained,
        cells=grade.levels,
        own=grade.cells if grade.cells != grade.levels else {},
        comments=grade.comments,
        flagged=grade.flagged,
        unfounded=[quote.text for quote in grade.quotes if not quote.found],
    )


def by_question(answers: Iterable[AnswerScore]) -> dict[str, Fraction]:
    """Score of every question out of 10, exactly: the mean over its samples."""
    scores: dict[str, list[Fraction]] = {}
    for each in answers:
        # Points are whole or were typed: through their text they are exact, 3.7 is 37/10.
        exact = Fraction(str(each.raw)) / Fraction(str(each.max)) * int(OUT_OF)
        scores.setdefault(rubric.plain(each.question), []).append(exact)
    return {question: sum(values, Fraction(0)) / len(values) for question, values in scores.items()}


def _dimensions(answers: Sequence[AnswerScore], by: Rubric) -> list[DimensionScore]:
    made = []
    for dimension in by.dimensions:
        levels = [each.cells[dimension.id] for each in answers if dimension.id in each.cells]
        raw, most = sum(by.points(dimension.id, level) for level in levels), by.scale.span * len(levels)
        made.append(
            DimensionScore(
                id=dimension.id,
                name=dimension.name,
                higher_is_better=dimension.higher_is_better,
                raw=raw,
                max=most,
                score=raw / most * OUT_OF if most else None,
                levels=[levels.count(level) for level in by.scale.levels],
            )
        )
    return made


def _part(answers: Sequence[AnswerScore]) -> Part:
    raw, most = sum(each.raw for each in answers), sum(each.max for each in answers)
    return Part(raw=raw, max=most, score=raw / most * OUT_OF if most else None, answers=len(answers))


def _repeated(graded: Grading) -> list[bool]:
    """For every cell of a duplicate, whether it was graded as the first time."""
    first = {slot.item: graded.grade(slot.id) for slot in graded.slots if slot.kind == "answer"}
    again = [slot for slot in graded.slots if slot.kind == "duplicate" and graded.grade(slot.id).counts]
    return [
        first[slot.item].cells[name] == level
        for slot in again
        for name, level in graded.grade(slot.id).cells.items()
        if name in first[slot.item].cells
    ]


def anchors(graded: Grading) -> list[Anchor]:
    """How the calibration answers were graded that count so far."""
    made = []
    for slot in graded.slots:
        if slot.expected is None or not graded.grade(slot.id).counts:
            continue
        given, expected = graded.grade(slot.id).cells, slot.expected.cells
        off = [abs(given[name] - level) for name, level in expected.items() if name in given]
        passed = bool(off) and max(off) <= 1 and 2 * sum(map(bool, off)) < len(off)
        made.append(Anchor(question=slot.question, expected=expected, given=given, passed=passed))
    return made


def _warnings(graded: Grading, sheet: Sheet) -> list[str]:
    said = [*graded.opened.notes, *sheet.header.notes]
    stale = sum(grade.stale for grade in graded.grades.values())
    if stale:
        said.append(f"{stale} grades were given to other answers than those that are here; they do not count.")
    if graded.damaged:
        said.append(f"{graded.damaged} damaged lines in {graded.path} were passed over.")
    return said


def trained_questions(run: RunDir) -> set[str] | None:
    """What users ask in the training rows of `run`, as `rubric.plain` compares it; None where they cannot be read."""
    from engine.data.conversation import BadRow
    from engine.data.convert import to_conversation
    from engine.data.of_spec import options
    from engine.data.prepare import data_mapping
    from engine.data.read import Record, open_records

    try:
        chosen = options(runs.load_spec(run))
        if not chosen.train.is_file():
            return None
        mapping = data_mapping(chosen)
        asked: set[str] = set()
        for number, record in enumerate(open_records(chosen.train)):
            if number >= _ROWS:
                break
            if not isinstance(record, Record):
                continue
            try:
                turns = to_conversation(record.value, mapping).turns
            except BadRow:
                continue
            asked |= {rubric.plain(turn.content) for turn in turns if turn.role == "user"}
        return asked
    except (MoltingError, OSError):
        return None
