"""Sheets that are sealed, events that add up, and gradings that survive being killed at any byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.contract import grades, grading, rubric, sheets, slots, summary
from engine.contract.errors import MoltingError
from engine.contract.grades import Cell, Checked, Comment, Commit, Flag, Go, Pause, Quote, Skip, Undo
from engine.contract.grading import Grading
from engine.contract.rundir import RunDir
from tests.support.runs import make_run

BY = rubric.load(rubric.find("general"))
NAMES = [dimension.id for dimension in BY.dimensions]


def items(count: int = 8) -> list[sheets.Item]:
    """Answers of both voices."""
    return [
        sheets.Item(
            id=f"i{n}{voice[0]}",
            question_id=f"Q{n}",
            question=f"Question {n}?",
            voice=voice,
            answer=f"{voice} says {n}.",
            stop="end",
        )
        for n in range(1, count + 1)
        for voice in ("base", "adapter")
    ]


def sheet_in(run: RunDir) -> sheets.Sheet:
    header = sheets.Header(name=sheets.new_name(run, BY), run=run.id, rubric=BY, t=1.0, adapter="abc")
    return sheets.read(sheets.write(run, header, items()))


def opened(sheet: sheets.Sheet, **more: object) -> grades.Opened:
    about = {"rater": "Ana", "sheet": sheet.header.name, "sheet_hash": sheet.sha256, "seed": 7, **more}
    return grades.Opened(rubric=BY, rubric_hash=BY.fingerprint, adapter="abc", **about)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_run(tmp_path / "runs")


@pytest.fixture
def sheet(run: RunDir) -> sheets.Sheet:
    return sheet_in(run)


def folded(sheet: sheets.Sheet, *events: grades.AnyEvent) -> Grading:
    head = opened(sheet)
    return grading.fold(head, events, slots.slots(sheet, head))


def whole(slot: slots.Slot, level: int = 1) -> list[grades.AnyEvent]:
    """Six keys: five levels and the commit."""
    return [*(Cell(item=slot.id, dimension=name, level=level) for name in NAMES), Commit(item=slot.id, key=slot.key)]


def test_a_sheet_is_what_was_sealed(sheet: sheets.Sheet, run: RunDir) -> None:
    assert len(sheet.items) == 16 and sheet.voices == ["base", "adapter"] and sheet.main_voice == "adapter"
    path = run.sheet(sheet.header.name)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"adapter says 3", b"adapter says 4"))
    with pytest.raises(MoltingError, match="changed since it was sealed"):
        sheets.read(path)


def test_a_sheet_that_was_left_early_does_not_count(run: RunDir) -> None:
    header = sheets.Header(name="x-1", run=run.id, rubric=BY, t=1.0)
    with sheets.SheetWriter(run, header) as writer:
        writer.add(items()[0])
    with pytest.raises(MoltingError, match="never sealed"):
        sheets.read(writer.path)
    assert sheets.readable(run)[0] == [] and sheets.new_name(run, BY) == "general-1"


@pytest.mark.parametrize("raw", [b"", b"\n", b"[" * 5000 + b"\n", b'{"k":"seal","items":0,"sha256":"x"}\n' * 3])
def test_damage_is_one_sentence(run: RunDir, raw: bytes) -> None:
    run.answers.mkdir()
    run.grades.mkdir()
    (run.answers / "x.jsonl").write_bytes(raw)
    (run.grades / "x.jsonl").write_bytes(raw)
    for read in (sheets.read, grades.read):
        folder = run.answers if read is sheets.read else run.grades
        with pytest.raises(MoltingError) as caught:
            read(folder / "x.jsonl")
        assert "\n" not in caught.value.message
    assert summary.summarise(run).score is None


@given(st.integers(0, 2**31))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_the_order_is_blind_shuffled_and_repeatable(sheet: sheets.Sheet, seed: int) -> None:
    found = slots.order(sheet, BY, seed)
    assert found == slots.order(sheet, BY, seed)
    kinds = [slot.kind for slot in found]
    assert (kinds.count("answer"), kinds.count("duplicate"), kinds.count("calibration")) == (8, 2, 2)
    at = {slot.id: place for place, slot in enumerate(found)}
    assert all(at[slot.id] > at[slot.item] + 1 for slot in found if slot.kind == "duplicate")
    assert {slot.answer for slot in found if slot.kind == "answer"} == {f"adapter says {n}." for n in range(1, 9)}


def test_levels_advance_and_the_commit_goes_on(sheet: sheets.Sheet) -> None:
    first, second = slots.order(sheet, BY, 7)[:2]
    assert folded(sheet).place == (first.id, "D1")
    assert folded(sheet, *whole(first)[:2]).place == (first.id, "D3")
    assert folded(sheet, *whole(first)[:5]).place == (first.id, "")
    assert folded(sheet, *whole(first)).place == (second.id, "D1")


def test_undo_goes_back_without_limit_also_into_the_answer_before(sheet: sheets.Sheet) -> None:
    first, second = slots.order(sheet, BY, 7)[:2]
    keys = [*whole(first), Cell(item=second.id, dimension="D1", level=2)]
    places = [folded(sheet, *keys, *([Undo()] * n)).place for n in range(9)]
    assert places == [
        (second.id, "D2"), (second.id, "D1"), (first.id, ""), (first.id, "D5"), (first.id, "D4"),
        (first.id, "D3"), (first.id, "D2"), (first.id, "D1"), (first.id, "D1"),
    ]  # fmt: skip
    assert folded(sheet, *keys, Undo(), Undo()).grade(first.id).committed is False


def test_a_commit_of_an_unfinished_answer_is_none(sheet: sheets.Sheet) -> None:
    first = slots.order(sheet, BY, 7)[0]
    made = folded(sheet, *whole(first)[:3], Commit(item=first.id, key=first.key))
    assert not made.grade(first.id).committed and made.ignored == 1


def test_a_grade_of_another_answer_does_not_count(sheet: sheets.Sheet) -> None:
    first = slots.order(sheet, BY, 7)[0]
    made = folded(sheet, *whole(first)[:5], Commit(item=first.id, key=slots.key("other", BY.fingerprint, "abc")))
    assert made.grade(first.id).stale and not made.grade(first.id).counts


def test_a_word_on_the_answer_moves_nobody(sheet: sheets.Sheet) -> None:
    first, second = slots.order(sheet, BY, 7)[:2]
    there = [*whole(first), Go(item=first.id, dimension="D2"), Flag(item=first.id), Comment(item=first.id, text="?")]
    assert folded(sheet, *there).place == (first.id, "D2")
    assert folded(sheet, *there, Cell(item=first.id, dimension="D2", level=0)).place == (first.id, "")
    again = [Cell(item=first.id, dimension="D2", level=0), Commit(item=first.id, key=first.key)]
    assert folded(sheet, *there, *again).place == (second.id, "D1")


def test_what_makes_no_sense_changes_nothing(sheet: sheets.Sheet) -> None:
    first = slots.order(sheet, BY, 7)[0]
    bad = [Cell(item=first.id, dimension="D1", level=3), Cell(item="?", dimension="D1", level=1), Flag(item="x")]
    made = folded(sheet, *bad, Cell(item=first.id, dimension="D9", level=1))
    assert made.ignored == 4 and not made.grade(first.id).cells


def test_an_accepted_check_and_the_own_level_are_both_kept(sheet: sheets.Sheet) -> None:
    first = slots.order(sheet, BY, 7)[0]
    accept = Checked(item=first.id, rule="headings", accepted=True, dimension="D4", level=0)
    made = folded(sheet, *whole(first, 2), accept).grade(first.id)
    assert made.cells["D4"] == 2 and made.levels["D4"] == 0 and made.committed
    overruled = folded(
        sheet, *whole(first, 2), accept, Checked(item=first.id, rule="headings", accepted=False, dimension="D4")
    )
    assert overruled.grade(first.id).levels["D4"] == 2 and overruled.grade(first.id).checks == {"headings": False}


@pytest.mark.parametrize(("text", "start", "found"), [("says", 8, True), ("says", 7, False), ("never said", -1, False)])
def test_a_quote_must_stand_where_it_is_said_to(sheet: sheets.Sheet, text: str, start: int, found: bool) -> None:
    first = next(slot for slot in slots.order(sheet, BY, 7) if slot.kind == "answer")
    made = folded(sheet, Quote(item=first.id, text=text, start=start, end=start + len(text)))
    assert made.grade(first.id).quotes[0].found is found


def test_skipped_answers_come_again_last_and_pauses_are_not_work(sheet: sheets.Sheet) -> None:
    order = slots.order(sheet, BY, 7)
    made = folded(sheet, Skip(item=order[0].id), *(event for slot in order[1:] for event in whole(slot)))
    assert made.place == (order[0].id, "D1") and made.complete
    head = [Go(item=order[0].id, t=10.0), Cell(item=order[0].id, dimension="D1", level=1, t=14.0), Pause(t=15.0)]
    made = folded(sheet, *head, Cell(item=order[0].id, dimension="D2", level=1, t=95.0))
    assert made.grade(order[0].id).seconds == 4.0 and not made.paused


def test_pairs_are_the_same_whichever_side_they_are_shown_on(sheet: sheets.Sheet) -> None:
    head = opened(sheet, mode="pairs", voices=["base", "adapter"])
    bouts = slots.pairs(sheet, head)
    assert len(bouts) == 8 and {bout.swapped for bout in bouts} == {True, False}
    better = [
        grades.Duel(item=bout.id, choice="left" if bout.left.startswith("adapter") else "right", swapped=bout.swapped)
        for bout in bouts
    ]
    made = grading.fold(head, better, bouts=bouts)
    assert set(made.duels.values()) == {"two"} and made.complete and made.place is None


def test_only_answers_count_and_the_table_of_runs_shows_the_score(sheet: sheets.Sheet, run: RunDir) -> None:
    head = opened(sheet)
    with grades.GradeFile.create(run, head) as file:
        for slot in slots.slots(sheet, head):
            for event in whole(slot, 2 if slot.kind == "answer" else 0):
                file.say(event)
        assert summary.summarise(run).score == 10.0
        with pytest.raises(MoltingError, match="another window"):
            grades.GradeFile(file.path)
    assert grades.GradeFile.create(run, opened(sheet)).path.name == "ana-2.jsonl"
    assert summary.summarise(run).score == 10.0  # the new one is not complete


@given(st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_killed_at_any_byte_the_next_start_goes_on_at_the_same_cell(
    sheet: sheets.Sheet, run: RunDir, data: st.DataObject
) -> None:
    head = opened(sheet)
    order = slots.slots(sheet, head)
    keys = [event for slot in order[:3] for event in whole(slot)] + [Undo(), Comment(item=order[0].id, text="x")]
    with grades.GradeFile.create(run, head) as file:
        ends = [file.path.stat().st_size]
        for key in keys:
            file.say(key)
            ends.append(file.path.stat().st_size)
    cut = ends[0] + (ends[-1] - ends[0]) * data.draw(st.integers(0, 1000)) // 1000
    file.path.write_bytes(file.path.read_bytes()[:cut])
    saved = sum(end - 1 <= cut for end in ends[1:])  # a line without its newline alone is closed, and counts
    before = grading.fold(head, keys[:saved], order)
    with grades.GradeFile(file.path) as again:  # closes the torn line
        again.say(Flag(item=order[0].id))
    made = grading.open_grading(file.path, [sheet])
    assert made.place == before.place and made.undoable == before.undoable + 1
    assert {name: grade.cells for name, grade in before.grades.items()}.items() <= {
        name: grade.cells for name, grade in made.grades.items()
    }.items()
    file.path.unlink()
