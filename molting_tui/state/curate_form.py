"""Where a person stands in a batch: which answer is shown, what a key would say. Pure."""

from __future__ import annotations

from engine.contract.curation import AnyEvent, Candidate, Choice, Choices, Keep, Reject, Undo, standing


class CurateForm:
    """The answers that are offered, in their order, and the choices so far. `at` counts the offered from 0."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.offered = choices.batch.offered
        self.at = 0
        self._decided = choices.decided
        self._to_next()

    @property
    def shown(self) -> Candidate | None:
        """The answer that a key is about; None in a batch without any."""
        return self.offered[self.at] if self.offered else None

    @property
    def choice(self) -> Choice | None:
        """What was said of it."""
        return self._decided.get(self.shown.id) if self.shown else None

    @property
    def text(self) -> str:
        """It as it would be learned."""
        if self.shown is None:
            return ""
        return (self.choice.text if isinstance(self.choice, Keep) else "") or self.shown.answer

    @property
    def decided(self) -> int:
        return len(self._decided)

    @property
    def kept(self) -> int:
        return sum(isinstance(choice, Keep) for choice in self._decided.values())

    @property
    def finished(self) -> bool:
        return self.decided == len(self.offered)

    def keep(self, text: str = "") -> Keep | None:
        """Keep it, as `text` where that is something else; None where nothing is shown."""
        if self.shown is None:
            return None
        return Keep(item=self.shown.id, text="" if text == self.shown.answer else text)

    def reject(self) -> Reject | None:
        return Reject(item=self.shown.id) if self.shown else None

    def undo(self) -> Undo | None:
        """Take back the last choice; None where there is none."""
        return Undo() if standing(self.choices.events) else None

    def take(self, event: AnyEvent) -> None:
        """Take in what was written: on to the next answer, or back to the one whose choice was taken back."""
        taken_back = standing(self.choices.events)[-1:] if isinstance(event, Undo) else []
        self.choices.events.append(event)
        self._decided = self.choices.decided
        if not isinstance(event, Undo):
            self._to_next()
        places = {each.id: place for place, each in enumerate(self.offered)}
        for choice in taken_back:
            self.at = places.get(choice.item, self.at)

    def move(self, by: int) -> None:
        """So many answers on, decided or not; stays within the batch."""
        self.at = min(max(0, self.at + by), max(0, len(self.offered) - 1))

    def skip(self) -> None:
        """To the next answer without a choice, round the end; it stays undecided."""
        if self.offered:
            self.at = (self.at + 1) % len(self.offered)
            self._to_next()

    def _to_next(self) -> None:
        """To the first undecided from here on, round the end; nowhere when all is decided."""
        order = [*range(self.at, len(self.offered)), *range(self.at)]
        self.at = next((place for place in order if self.offered[place].id not in self._decided), self.at)
