"""Questions around a grading: a comment, and at its end what it adds up to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Label, Static

from engine.contract.safe import safe

from .dialog import Dialog


class GradeNote(Dialog[str]):
    """One line on a dimension. Up and down put in the texts of its levels, to start from."""

    BINDINGS = [("up", "template(-1)", "template"), ("down", "template(1)", "template")]

    def __init__(self, about: str, value: str, templates: Sequence[str]) -> None:
        super().__init__()
        self._about, self._value = about, value
        self._texts = [value, *(safe(" ".join(each.split()), False) for each in templates)]
        self._at = 0

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Label(Content(f"Comment on {safe(self._about, False)}"), classes="title")
            yield Input(self._value, select_on_focus=False, max_length=20_000)
            more = "; up and down put in the texts of the levels" if len(self._texts) > 1 else ""
            yield Static(Content(f"enter keeps it{more}, esc leaves it as it was"), classes="hint")

    def action_template(self, by: int) -> None:
        self._at = (self._at + by) % len(self._texts)
        field = self.query_one(Input)
        field.value = self._texts[self._at]
        field.cursor_position = len(field.value)

    @on(Input.Submitted)
    def _submit(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)


LEAVES = "enter leaves, V then writes the report; esc goes back to the form: Backspace there undoes"
CLOSES = "enter or esc closes; V then writes the report"


class GradeEnd(Dialog[bool]):
    """What a grading adds up to, as lines: a person's, with the next step, or a judge's. True: leave the form."""

    CSS_PATH = ["../styles/dialog.tcss", "../styles/grade.tcss"]  # type: ignore[assignment]  # Textual takes both
    BINDINGS = [("enter", "leave", "leave")]

    def __init__(self, title: str, lines: Iterable[str], hint: str = CLOSES) -> None:
        super().__init__()
        self._title, self._lines, self._hint = safe(title, False), list(lines), hint

    def compose(self) -> ComposeResult:
        with Vertical(classes="box graded"):
            yield Label(Content(self._title), classes="title")
            with VerticalScroll():
                yield Static(Content("\n").join([Content(line) for line in self._lines]))
            yield Static(Content(self._hint), classes="hint")

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def action_leave(self) -> None:
        self.dismiss(True)

    def copyable(self) -> str:
        return "\n".join(self._lines)
