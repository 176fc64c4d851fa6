"""The fields of a spec as lines: key, input, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input, Label, Static

from ..state.spec_form import USUAL, Field


class SpecInput(Input):
    """One line. Up and down, tab and enter go to the neighbours."""

    def __init__(self, field: Field, value: str) -> None:
        suggester = SuggestFromList(field.choices, case_sensitive=False) if field.choices else None
        super().__init__(value, placeholder=field.default or "–", suggester=suggester, select_on_focus=False)
        self.field = field

    def on_key(self, event: events.Key) -> None:
        if event.key in {"up", "down", "enter"}:
            event.stop()
            event.prevent_default()
            self.screen.focus_previous(SpecInput) if event.key == "up" else self.screen.focus_next(SpecInput)


class SpecField(Horizontal):
    """A key and its input; red with a sentence where something is wrong."""

    def __init__(self, field: Field, value: str) -> None:
        super().__init__(classes="usual" if field.key in USUAL else "rare")
        self.field, self._value = field, value

    def compose(self) -> ComposeResult:
        yield Label(Content(self.field.key))
        yield SpecInput(self.field, self._value)
        yield Static(classes="note")

    def say(self, problem: str) -> None:
        """Show what is wrong, or that nothing is."""
        self.set_class(bool(problem), "-wrong")
        self.query_one(".note", Static).update(Content(problem))


class SpecFields(VerticalScroll, can_focus=False):
    """All fields; the rarer ones are shown on demand."""

    class Changed(Message):
        """A value was typed."""

        def __init__(self, field: Field, value: str) -> None:
            super().__init__()
            self.field, self.value = field, value

    class Entered(Message):
        """The focus is on another field."""

        def __init__(self, field: Field) -> None:
            super().__init__()
            self.field = field

    def __init__(self, fields: Iterable[tuple[Field, str]]) -> None:
        super().__init__()
        self._fields = list(fields)

    def compose(self) -> ComposeResult:
        for field, value in self._fields:
            yield SpecField(field, value)

    def say(self, problems: dict[str, str]) -> None:
        """Show each problem at its field."""
        for line in self.query(SpecField):
            line.say(problems.get(line.field.key, ""))

    def take(self, value: Callable[[str], str]) -> None:
        """Show other values, given by key."""
        for line in self.query(SpecField):
            box = line.query_one(SpecInput)
            if box.value != value(line.field.key):
                box.value = value(line.field.key)

    def focus_on(self, key: str) -> None:
        for line in self.query(SpecField):
            if line.field.key == key:
                line.remove_class("rare")  # what is wrong is never hidden
                line.query_one(SpecInput).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if isinstance(event.input, SpecInput):
            self.post_message(self.Changed(event.input.field, event.value))

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        if isinstance(event.widget, SpecInput):
            self.post_message(self.Entered(event.widget.field))
