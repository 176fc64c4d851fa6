"""What a grade file adds up to: the fold of its events, a pure function, and the points, which are always computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Union

from . import grades, sheets
from .errors import MoltingError
from .grades import Opened
from .rubric import OUT_OF, Rubric
from .rundir import RunDir
from .sheets import Sheet, main_voice
from .slots import Bout, Slot, pairs, slots

_IN_PLACE = (grades.Comment, grades.Quote, grades.Flag, grades.Checked)  # said without moving on
LONGEST_GAP = 300.0  # seconds without a key that still count as grading


@dataclass(frozen=True)
class Quoted:
    """Words quoted in a reason; `found` says whether they stand in the answer."""

    text: str
    start: int
    end: int
    dimension: str
    found: bool


@dataclass
class Grade:
    """All that was said of one slot. `cells` are the rater's own levels, `accepted` those of accepted pre-checks."""

    cells: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)  # rule -> accepted
    comments: dict[str, str] = field(default_factory=dict)  # dimension, or "" for the whole -> text
    quotes: list[Quoted] = field(default_factory=list)
    total: Union[tuple[float, float], None] = None  # points of how many, where there are no cells
    skipped: bool = False
    flagged: bool = False
    committed: bool = False
    stale: bool = False  # committed for another answer, rubric or adapter than the one that is here
    seconds: float = 0.0

    @property
    def levels(self) -> dict[str, int]:
        """What counts: own levels, with accepted pre-checks in their place."""
        return self.cells | self.accepted

    @property
    def counts(self) -> bool:
        """Whether it is part of a score."""
        return self.committed and not self.stale and not self.skipped


@dataclass
class Grading:
    """The state of one grading. `at` is where the rater is: slot and dimension ("" waits for the commit)."""

    opened: Opened
    slots: list[Slot]
    grades: dict[str, Grade] = field(default_factory=dict)
    bouts: list[Bout] = field(default_factory=list)
    duels: dict[str, str] = field(default_factory=dict)  # bout -> "one", "two", "tie" or "bad"
    at: Union[tuple[str, str], None] = None
    paused: bool = False
    undoable: int = 0
    ignored: int = 0  # events that name what does not exist
    last: float = 0.0  # time of the last event
    path: Union[Path, None] = None
    damaged: int = 0

    def grade(self, slot: str) -> Grade:
        return self.grades.get(slot) or Grade()

    @property
    def done(self) -> list[Slot]:
        return [slot for slot in self.slots if self.grade(slot.id).committed]

    @property
    def complete(self) -> bool:
        """Every slot is committed or skipped, and something counts; in pairs, every pair is judged."""
        if self.opened.mode == "pairs":
            return bool(self.bouts) and all(bout.id in self.duels for bout in self.bouts)
        settled = all(self.grade(slot.id).committed or self.grade(slot.id).skipped for slot in self.slots)
        return settled and any(grade.counts for grade in self.grades.values())

    @property
    def place(self) -> Union[tuple[str, str], None]:
        """Where the form continues: slot and dimension, "" for the commit; None when nothing is left.

        Skipped slots come again when all others are done.
        """
        if self.opened.mode == "pairs":
            return next(((bout.id, "") for bout in self.bouts if bout.id not in self.duels), None)
        if self.at is not None:
            return self.at
        left = [slot for slot in self.slots if not self.grade(slot.id).committed]
        left.sort(key=lambda slot: self.grade(slot.id).skipped)
        return (left[0].id, self.next_dimension(left[0].id)) if left else None

    def next_dimension(self, slot: str) -> str:
        """The first dimension without a level, "" when all have one."""
        cells = self.grade(slot).cells
        return next((each.id for each in self.opened.rubric.dimensions if each.id not in cells), "")

    @property
    def pace(self) -> Union[float, None]:
        """Seconds per committed slot; None before the first."""
        spent = [self.grade(slot.id).seconds for slot in self.done]
        return sum(spent) / len(spent) if spent else None


def fold(
    opened: Opened, events: Iterable[grades.AnyEvent], of: Sequence[Slot] = (), bouts: Sequence[Bout] = ()
) -> Grading:
    """What `events` add up to over the slots `of`, or the pairs `bouts`: the last word counts.

    Events about slots, dimensions or levels that there are not are counted in `ignored` and change nothing.
    """
    made = Grading(opened, list(of), bouts=list(bouts))
    standing: list[grades.AnyEvent] = []
    clock = _Clock()
    undone: Union[grades.AnyEvent, None] = None
    for event in events:
        clock.hear(event)
        if isinstance(event, grades.Undo):
            undone = standing.pop() if standing else undone
        elif isinstance(event, (grades.Pause, grades.Resume)):
            made.paused = isinstance(event, grades.Pause)
            continue
        elif isinstance(event, grades.Go):
            undone = event
        else:
            standing.append(event)
            undone = undone if isinstance(event, _IN_PLACE) else None
        made.paused = False
    _replay(made, standing)
    if undone is not None:
        _return_to(made, undone)
    for slot, seconds in clock.seconds.items():
        if slot in made.grades:
            made.grades[slot].seconds = seconds
    made.last, made.undoable = clock.last, len(standing)
    return made


def _replay(made: Grading, standing: list[grades.AnyEvent]) -> None:
    bouts = {bout.id for bout in made.bouts}
    slots = {slot.id: slot for slot in made.slots}
    for event in standing:
        if isinstance(event, grades.Duel):
            ok = event.item in bouts
            if ok:
                made.duels[event.item] = _winner(event)
        else:
            slot = slots.get(getattr(event, "item", ""))
            ok = slot is not None and _apply(made, event, slot)
        made.ignored += not ok


def _winner(event: grades.Duel) -> str:
    if event.choice in ("tie", "bad"):
        return event.choice
    return "one" if (event.choice == "left") != event.swapped else "two"


def _apply(made: Grading, event: grades.AnyEvent, slot: Slot) -> bool:
    """Take one event over; False when it makes no sense."""
    grade = made.grades.setdefault(slot.id, Grade())
    rubric = made.opened.rubric
    dimension = getattr(event, "dimension", "")
    if dimension and dimension not in [each.id for each in rubric.dimensions]:
        return False
    if isinstance(event, grades.Cell):
        if event.level not in rubric.scale.levels or not dimension:
            return False
        grade.cells[dimension] = event.level
        grade.accepted.pop(dimension, None)
        grade.committed = grade.skipped = False
        made.at = (slot.id, made.next_dimension(slot.id))
    elif isinstance(event, grades.Comment):
        grade.comments[dimension] = event.text
        if not event.text:
            del grade.comments[dimension]
    elif isinstance(event, grades.Quote):
        grade.quotes.append(
            Quoted(event.text, event.start, event.end, dimension, stands(event.text, slot.answer, event.start))
        )
    elif isinstance(event, grades.Total):
        grade.total = (event.points, event.of) if 0 < event.of < 1e9 and abs(event.points) < 1e9 else None
        return grade.total is not None
    else:
        return _mark(made, event, slot, grade)
    return True


def _mark(made: Grading, event: grades.AnyEvent, slot: Slot, grade: Grade) -> bool:
    """What says something about the slot as a whole."""
    if isinstance(event, grades.Skip):
        grade.skipped, made.at = event.on, None
    elif isinstance(event, grades.Flag):
        grade.flagged = event.on
    elif isinstance(event, grades.Checked):
        grade.checks[event.rule] = event.accepted
        if event.accepted and event.level in made.opened.rubric.scale.levels and event.dimension:
            grade.accepted[event.dimension] = event.level  # type: ignore[assignment]  # `in` a range: no None
        elif not event.accepted:
            grade.accepted.pop(event.dimension, None)
    elif isinstance(event, grades.Commit):
        person = made.opened.origin == "own" and made.opened.kind == "person"
        if person and made.next_dimension(slot.id):
            return False
        grade.committed, grade.skipped, grade.stale = True, False, event.key != slot.key
        made.at = None
    return True


def _return_to(made: Grading, event: grades.AnyEvent) -> None:
    """After an undo the rater stands where that was done."""
    slot = getattr(event, "item", "")
    if slot not in {each.id for each in made.slots}:
        return
    there = event.dimension if isinstance(event, (grades.Cell, grades.Go)) else ""
    made.at = (slot, there or made.next_dimension(slot))


class _Clock:
    """Seconds spent on each slot: pauses and long silences are not work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = 0.0
        self._paused = False

    def hear(self, event: grades.AnyEvent) -> None:
        gap = event.t - self.last
        slot = getattr(event, "item", "")
        if slot and self.last and not self._paused and 0 < gap <= LONGEST_GAP:
            self.seconds[slot] = self.seconds.get(slot, 0.0) + gap
        self._paused = isinstance(event, grades.Pause)
        self.last = max(self.last, event.t)


def stands(quoted: str, answer: str, start: int = -1) -> bool:
    """Whether these very words stand in the answer: at `start`, or anywhere but for case and spacing where it is -1."""
    if not quoted.strip():
        return False
    if start >= 0:
        return answer[start : start + len(quoted)] == quoted
    return " ".join(quoted.casefold().split()) in " ".join(answer.casefold().split())


@dataclass(frozen=True)
class Points:
    """Points reached of those there were. `score` is out of 10, unrounded; None where nothing counts."""

    raw: float
    most: float

    @property
    def score(self) -> Union[float, None]:
        return self.raw / self.most * OUT_OF if self.most else None


def points(grade: Grade, rubric: Rubric) -> Points:
    """Points of one answer: of its levels, or of its total where it has no cells."""
    if grade.levels:
        return Points(rubric.raw(grade.levels), rubric.scale.span * len(grade.levels))
    return Points(*grade.total) if grade.total else Points(0, 0)


def result(grading: Grading) -> Points:
    """Points of the answers of the main voice that count; duplicates and calibration answers do not."""
    rubric, voice = grading.opened.rubric, main_voice(grading.opened.voices)
    counted = [
        points(grading.grades[slot.id], rubric)
        for slot in grading.slots
        if slot.kind == "answer" and slot.voice == voice and grading.grade(slot.id).counts
    ]
    return Points(sum(each.raw for each in counted), sum(each.most for each in counted))


def open_grading(path: Path, sheets_of_run: Sequence[Sheet]) -> Grading:
    """The grading in a grade file. MoltingError when it is damaged or its sheet is not among these."""
    recorded = grades.read(path)
    sheet = next((each for each in sheets_of_run if each.sha256 == recorded.opened.sheet_hash), None)
    if sheet is None:
        raise MoltingError(f"{path} grades the sheet {recorded.opened.sheet}, which is not in the run as it was.")
    if recorded.opened.mode == "pairs":
        made = fold(recorded.opened, recorded.events, bouts=pairs(sheet, recorded.opened))
    else:
        made = fold(recorded.opened, recorded.events, slots(sheet, recorded.opened))
    made.path, made.damaged = path, recorded.damaged
    return made


def of_run(run: RunDir) -> tuple[list[Grading], list[str]]:
    """Every grading in `run` that can be read, the one written last at the end, and a sentence for each that cannot."""
    files = grades.listed(run)
    if not files:
        return [], []
    readable, problems = sheets.readable(run)
    found = []
    for file in files:
        try:
            found.append(open_grading(file, readable))
        except MoltingError as error:
            problems.append(error.message)
    return sorted(found, key=lambda each: each.last), problems


def latest(gradings: Sequence[Grading], voice: str = "", rater: str = "") -> Union[Grading, None]:
    """The last complete grading by cells of a voice (the run's main one unless told), by one rater or by anyone.

    A judge is never the headline: its grading is taken only where its name is asked for. (What an imported file says
    was graded by a model is taken, and warned about.)
    """
    fitting = [
        each
        for each in gradings
        if each.opened.mode == "cells"
        and each.complete
        and (rater in ("", each.opened.rater))
        and (voice in each.opened.voices if voice else each.opened.voices != ["base"])
    ]
    people = [each for each in fitting if rater or each.opened.kind != "model" or each.opened.origin == "imported"]
    return people[-1] if people else None
