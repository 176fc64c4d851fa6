"""The form for grading: what a key means where the rater stands. Pure: keys become events, events make the form.

Nothing here is stored but the events themselves, so a form made of the events on the disk is the form that was left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Union

from engine.contract import grades, grading
from engine.contract.grades import AnyEvent, Opened
from engine.contract.grading import Grade, Grading
from engine.contract.rubric import Dimension, Question, Rubric
from engine.contract.slots import Bout, Slot
from engine.contract.verdict import Hit

Choice = Literal["left", "right", "tie", "bad"]
_SETTLED = (
    grades.Commit,
    grades.Checked,
    grades.Comment,
    grades.Quote,
    grades.Flag,
)  # can be said of what is committed


class Form:
    """One grading as it stands. A key method gives the event to write, or None where the key means nothing."""

    def __init__(
        self, opened: Opened, slots: Sequence[Slot] = (), bouts: Sequence[Bout] = (), events: Iterable[AnyEvent] = ()
    ) -> None:
        self.opened, self._slots, self._bouts = opened, list(slots), list(bouts)
        self.events = list(events)
        self.hits: Mapping[str, Sequence[Hit]] = {}  # what the machine saw, by item; shown after the commit only
        self._left = ""  # a committed slot that was left with its checks undecided, at the very end
        self.grading = self._fold()

    def take(self, event: AnyEvent) -> None:
        """Take in an event that is on the disk."""
        self.events.append(event)
        self._left = ""
        self.grading = self._fold()

    def _fold(self) -> Grading:
        return grading.fold(self.opened, self.events, self._slots, self._bouts)

    # Where the rater is

    @property
    def rubric(self) -> Rubric:
        return self.opened.rubric

    @property
    def slot(self) -> Union[Slot, None]:
        """What is shown now; None when nothing is left."""
        if held := self.held:
            return held
        place = self.grading.place
        return self._slot(place[0]) if place and place[0] != self._left else None

    @property
    def grade(self) -> Grade:
        return self.grading.grade(self.slot.id) if self.slot else Grade()

    @property
    def dimension(self) -> Union[Dimension, None]:
        """The one that the next digit is for; None where only the commit is left."""
        place = self.grading.place
        if self.held or place is None or not place[1]:
            return None
        return self.rubric.dimension(place[1])

    @property
    def question(self) -> Union[Question, None]:
        """What the rubric says about the question that is shown."""
        asked = self.slot.question if self.slot else ""
        return next((each for each in self.rubric.questions if each.text == asked), None)

    @property
    def bout(self) -> Union[Bout, None]:
        """The pair that is shown now; None when all are judged."""
        place = self.grading.place
        return next((each for each in self._bouts if place and each.id == place[0]), None)

    @property
    def held(self) -> Union[Slot, None]:
        """A committed answer about which the machine disagrees: it stays until that is decided, or left with Enter."""
        last = next(
            (each for each in reversed(self.events) if not isinstance(each, (grades.Pause, grades.Resume))), None
        )
        name = last.item if isinstance(last, _SETTLED) else ""
        if isinstance(last, grades.Undo) and self.grading.place:
            name = self.grading.place[0]
        slot = self._slot(name)
        if slot is None or slot.id == self._left or not self.grading.grade(slot.id).committed:
            return None
        return slot if self.undecided(slot) else None

    def undecided(self, slot: Slot) -> list[Hit]:
        """Levels that the machine would give and the rater did not, not yet accepted or overruled."""
        grade = self.grading.grade(slot.id)
        return [
            hit
            for hit in self.hits_of(slot)
            if hit.effect == "zero" and hit.rule not in grade.checks and grade.levels.get(hit.dimension) != hit.level
        ]

    def hits_of(self, slot: Slot) -> Sequence[Hit]:
        """What the machine saw in an answer; nothing before it is committed, because it would be believed."""
        if not self.grading.grade(slot.id).committed:
            return ()
        return self.hits.get(slot.item or slot.id, ())

    @property
    def before(self) -> Union[Slot, None]:
        """The answer that was committed last, if nothing else is shown of it."""
        last = next((each for each in reversed(self.events) if isinstance(each, grades.Commit)), None)
        slot = self._slot(last.item) if last else None
        return slot if slot and slot != self.slot and self.grading.grade(slot.id).committed else None

    @property
    def total(self) -> int:
        return len(self._bouts) if self.opened.mode == "pairs" else len(self._slots)

    @property
    def settled(self) -> int:
        """How many are done."""
        return len(self.grading.duels) if self.opened.mode == "pairs" else len(self.grading.done)

    @property
    def finished(self) -> bool:
        return self.settled > 0 and self.slot is None and self.bout is None

    @property
    def pace(self) -> Union[float, None]:
        """Seconds for one, pauses apart; None before the first."""
        if self.opened.mode == "cells":
            return self.grading.pace
        return grading_seconds(self.events) / self.settled if self.settled else None

    @property
    def seconds_left(self) -> Union[float, None]:
        return None if self.pace is None else self.pace * (self.total - self.settled)

    def _slot(self, name: str) -> Union[Slot, None]:
        return next((slot for slot in self._slots if slot.id == name), None) if name else None

    # Keys

    def level(self, level: int) -> Union[AnyEvent, None]:
        if self.slot is None or self.dimension is None or level not in self.rubric.scale.levels:
            return None
        return grades.Cell(item=self.slot.id, dimension=self.dimension.id, level=level)

    def commit(self) -> Union[AnyEvent, None]:
        """Enter: the answer is graded; where the machine disagrees, on to the next without deciding."""
        slot = self.slot
        if slot is None:
            return None
        if self.held:
            following = self._next_open()
            if following is None:
                self._left = slot.id
                return None
            return grades.Go(item=following.id, dimension=self.grading.next_dimension(following.id))
        if self.grading.next_dimension(slot.id):
            return None
        return grades.Commit(item=slot.id, key=slot.key)

    def undo(self) -> Union[AnyEvent, None]:
        return grades.Undo() if self.grading.undoable else None

    def skip(self) -> Union[AnyEvent, None]:
        """Later. Skipped ones come again when the others are done; then the key goes from one to the next."""
        slot = self.slot
        if slot is None or self.held:
            return None
        if not self.grade.skipped:
            return grades.Skip(item=slot.id)
        others = [each for each in self._slots if not self.grading.grade(each.id).committed]
        following = others[(others.index(slot) + 1) % len(others)]
        if following is slot:
            return None
        return grades.Go(item=following.id, dimension=self.grading.next_dimension(following.id))

    def flag(self) -> Union[AnyEvent, None]:
        return grades.Flag(item=self.slot.id, on=not self.grade.flagged) if self.slot else None

    def comment(self, text: str) -> Union[AnyEvent, None]:
        """Replaces the comment on the dimension, or on the whole answer at its end; empty takes it away."""
        said = text.strip()[:20_000]
        if self.slot is None or said == self.commented:
            return None
        return grades.Comment(item=self.slot.id, text=said, dimension=self.about)

    @property
    def about(self) -> str:
        """What a comment or a quotation belongs to: the dimension, "" for the whole answer."""
        return self.dimension.id if self.dimension else ""

    @property
    def commented(self) -> str:
        return self.grade.comments.get(self.about, "")

    def quote(self, start: int, end: int) -> Union[AnyEvent, None]:
        """Words of the answer by their place in it, so that nothing else can be quoted."""
        if self.slot is None:
            return None
        text = self.slot.answer[max(0, start) : end]
        if not text.strip() or len(text) > 20_000:
            return None
        return grades.Quote(item=self.slot.id, text=text, start=max(0, start), end=end, dimension=self.about)

    def move(self, by: int) -> Union[AnyEvent, None]:
        """To the dimension before or after."""
        if self.slot is None or self.held:
            return None
        names = [*(each.id for each in self.rubric.dimensions), ""]
        at = names.index(self.about) + by
        if not 0 <= at < len(self.rubric.dimensions):
            return None
        return grades.Go(item=self.slot.id, dimension=names[at])

    def pause(self) -> Union[AnyEvent, None]:
        if self.slot is None and self.bout is None:
            return None
        return grades.Resume() if self.grading.paused else grades.Pause()

    def decide(self, *, accepted: bool) -> Union[AnyEvent, None]:
        """Take over the machine's level, or keep one's own; both stay readable."""
        if self.held is None:
            return None
        hit = self.undecided(self.held)[0]
        return grades.Checked(
            item=self.held.id, rule=hit.rule, accepted=accepted, dimension=hit.dimension, level=hit.level
        )

    def duel(self, choice: Choice) -> Union[AnyEvent, None]:
        return grades.Duel(item=self.bout.id, choice=choice, swapped=self.bout.swapped) if self.bout else None

    def _next_open(self) -> Union[Slot, None]:
        left = [slot for slot in self._slots if not self.grading.grade(slot.id).committed]
        return min(left, key=lambda slot: self.grading.grade(slot.id).skipped, default=None)


def grading_seconds(events: Iterable[AnyEvent]) -> float:
    """Seconds between keys, without pauses and long silences."""
    spent, last, paused = 0.0, 0.0, False
    for event in events:
        gap = event.t - last
        if last and not paused and not isinstance(event, grades.Resume) and 0 < gap <= grading.LONGEST_GAP:
            spent += gap
        last, paused = event.t, isinstance(event, grades.Pause)
    return spent
