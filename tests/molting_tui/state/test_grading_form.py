"""What a key means in the form, and that nothing shown as saved is lost wherever the file ends."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import grades, rubric, sheets, slots
from engine.contract.grades import AnyEvent, Opened
from engine.contract.verdict import Hit
from molting_tui.state.grading_form import Form, grading_seconds
from molting_tui.state.grading_lines import answer_lines, pair_lines, rubric_lines, status_line
from molting_tui.state.grading_quote import Selection, words
from molting_tui.state.lines import Line
from tests.support.graded import HEADING, RHEA, answers

BY = rubric.load(RHEA)
SHEET = sheets.Sheet(
    header=sheets.Header(name="s", run="r", rubric=BY, t=1.0, rubric_hash=BY.fingerprint, adapter="a"),
    items=answers(BY),
    sha256="f" * 64,
)
OPENED = Opened(
    rater="Ana", sheet="s", sheet_hash=SHEET.sha256, rubric=BY, rubric_hash=BY.fingerprint, adapter="a", seed=7
)
SLOTS = slots.slots(SHEET, OPENED)
HITS = {
    item.id: [Hit(rule="headings", about="A heading", effect="zero", dimension="D4", spans=[(0, 9)], level=0)]
    for item in SHEET.items
    if item.answer == HEADING
}


def form(events: list[AnyEvent] | None = None) -> Form:
    made = Form(OPENED, SLOTS, events=events or [])
    made.hits = HITS
    return made


KEYS: dict[str, Callable[[Form], AnyEvent | None]] = {
    **{str(n): lambda form, n=n: form.level(n) for n in range(4)},
    "enter": lambda form: form.commit(),
    "backspace": lambda form: form.undo(),
    "tab": lambda form: form.skip(),
    "f": lambda form: form.flag(),
    "m": lambda form: form.comment("hm"),
    "v": lambda form: form.quote(2, 9),
    "p": lambda form: form.pause(),
    "y": lambda form: form.decide(accepted=True),
    "n": lambda form: form.decide(accepted=False),
    "left": lambda form: form.move(-1),
    "right": lambda form: form.move(1),
    "six": lambda form: None,  # six keys, one after the other
}


def press(form: Form, *keys: str) -> None:
    for key in keys:
        for each in ("2", "1", "2", "0", "1", "enter") if key == "six" else (key,):
            event = KEYS[each](form)
            if event is not None:
                event.t = (form.events[-1].t if form.events else 1000.0) + 2.0
                form.take(event)


def plain(lines: list[Line]) -> str:
    return "\n".join("".join(said for said, _ in line) for line in lines)


def stand(form: Form) -> tuple[object, ...]:
    """Everything that a rater sees of where they are, and what they gave."""
    held = form.held.id if form.held else ""
    return form.grading.place, form.grading.grades, held, form.settled, form.grading.paused


def test_digits_advance_enter_commits_and_nothing_else_does() -> None:
    made = form()
    first = made.slot
    press(made, "2", "3", "enter", "1", "0")  # 3 is no level; the commit waits for all five
    assert made.slot == first and made.dimension.id == "D4" and made.grade.cells == {"D1": 2, "D2": 1, "D3": 0}
    press(made, "2", "2")
    assert made.dimension is None and "all levels are given" in str(rubric_lines(made, 40))
    press(made, "1", "enter")  # a digit too many is nothing
    assert made.slot != first and made.settled == 1 and len(made.events) == 6


def test_the_pace_leaves_pauses_and_absences_out() -> None:
    made = form()
    press(made, "six", "p")
    made.events[-1].t += 1.0
    made.take(grades.Resume(t=made.events[-1].t + 100.0))
    press(made, "six")
    assert made.pace == pytest.approx(11.0)  # a key every 2 s; the first one begins the clock
    assert "5.5 a minute, ~2 min left" in status_line(made, 0.0)
    pairs = Form(OPENED, events=[grades.Flag(item="x", t=1.0), grades.Resume(t=50.0), grades.Flag(item="x", t=53.0)])
    assert grading_seconds(pairs.events) == 3.0


def test_what_the_machine_saw_is_shown_after_the_commit_only() -> None:
    made = form()
    while made.slot.answer != HEADING:
        press(made, "six")
    press(made, "2", "2", "2", "2", "2")
    assert made.held is None and "machine" not in str(rubric_lines(made, 60)) and made.hits_of(made.slot) == ()
    press(made, "enter")
    assert made.held and "The machine would give D4 0, you gave 2" in str(rubric_lines(made, 200))
    press(made, "n")
    assert made.held is None
    press(made, "backspace")
    assert made.held
    press(made, "y")
    grade = next(grade for grade in made.grading.grades.values() if grade.accepted)
    assert (grade.cells["D4"], grade.levels["D4"], grade.checks) == (2, 0, {"headings": True})


def test_skipped_answers_come_last_and_can_end_the_sitting() -> None:
    made = form()
    first = made.slot
    press(made, "tab")
    assert made.slot != first
    while made.settled < len(SLOTS) - 1:
        press(made, "enter" if made.held else "six")
    press(made, *["enter"] * bool(made.held))
    assert made.slot == first and made.grading.complete and made.skip() is None
    press(made, "six", *["enter"] * bool(made.held))
    assert made.finished and made.settled == len(SLOTS)


@given(st.lists(st.sampled_from(list(KEYS)), max_size=60), st.data())
def test_wherever_the_file_ends_the_form_goes_on_at_the_same_cell(keys: list[str], data: st.DataObject) -> None:
    made = form()
    shown = [stand(made)]  # after each event, as it was shown
    ends = [0]
    encoded = b""
    for key in keys:
        before = len(made.events)
        press(made, key)
        for n in range(before, len(made.events)):
            encoded += msgspec.json.encode(made.events[n]) + b"\n"
            ends.append(len(encoded))
            shown.append(stand(form(made.events[: n + 1])))
    assert not keys or shown[-1] == stand(made)  # the form folds anew, and so does the next start
    for cut in data.draw(st.lists(st.integers(0, len(encoded)), min_size=10, max_size=10)):  # 1,000 ends in all
        whole = [msgspec.json.decode(line, type=AnyEvent) for line in encoded[:cut].split(b"\n")[:-1]]
        saved = sum(end <= cut for end in ends) - 1
        assert len(whole) == saved and stand(form(whole)) == shown[saved]


@given(st.lists(st.sampled_from(list(KEYS)), max_size=40))
def test_undo_without_limit_leads_back_to_an_empty_form(keys: list[str]) -> None:
    made = form()
    press(made, *keys)
    for _ in range(len(made.events) + 1):
        press(made, "backspace")
    assert made.undo() is None and made.settled == 0
    assert all(not grade.cells and not grade.comments and not grade.quotes for grade in made.grading.grades.values())


@given(st.text(max_size=300), st.integers(4, 40), st.lists(st.sampled_from(["move", "rows", "mark"]), max_size=20))
def test_only_words_of_the_answer_can_be_chosen(answer: str, width: int, moves: list[str]) -> None:
    laid = words(answer, width)
    assert all(answer[word.start : word.end].strip() for word in laid)
    if not laid:
        return
    chosen = Selection(laid)
    for n, move in enumerate(moves):
        by = n % 5 - 2
        chosen = chosen.mark() if move == "mark" else chosen.move(by) if move == "move" else chosen.move_rows(by or 1)
    start, end = chosen.span
    assert 0 <= start < end <= len(answer) and answer[start:end].strip()


@given(st.integers(-50, 500), st.integers(-50, 500))
def test_a_quotation_is_of_the_answer_or_it_is_none(start: int, end: int) -> None:
    made = form()
    event = made.quote(start, end)
    assert event is None or made.slot.answer[event.start : event.start + len(event.text)] == event.text
    if event is not None:
        made.take(event)
        assert made.grade.quotes[0].found


def test_hostile_answers_are_shown_harmless() -> None:
    made = form()
    while "Rust" not in made.slot.answer:
        press(made, "six" if not made.held else "enter")
    assert "Rust ␛[2J" in plain(answer_lines(made, 60)) and "\x1b" not in plain(answer_lines(made, 60))
    bouts = slots.bouts(SHEET.of("base"), SHEET.of("adapter"), BY.fingerprint, 7)
    drawn = [plain(pair_lines(bout, 80)) for bout in bouts]
    assert any("Rust" in each for each in drawn) and not any("\x1b" in each for each in drawn)


def test_no_line_is_wider_than_its_pane() -> None:
    made = form()
    press(made, "m", "v", "f", "six", "2")
    for width in (30, 48, 78):
        for line in [*answer_lines(made, width), *rubric_lines(made, width)[1:]]:
            assert sum(len(said) for said, _ in line) <= width, line
