"""Why a run changed nothing: the cause on top, the questions that led to it, what the training's record says."""

from __future__ import annotations

from collections.abc import Iterable

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Label, Static

from engine.contract import calls

from .. import why_lines
from ..terminal import MARKS
from .dialog import Dialog

_COLOURS = {
    "finished": "$success",
    "failed": "$error",
    "lost": "$warning",
    "queued": "$muted",
    "error": "$error",
    "warning": "$warning",
    "note": "$muted",
}


class Why(Dialog[None]):
    """Shows an investigation; scrolls, and copies as text."""

    def __init__(self, name: str, found: calls.Investigation) -> None:
        super().__init__()
        self._investigated, self._found = name, found

    def compose(self) -> ComposeResult:
        with Vertical(classes="box help"):
            yield Label(Content(f"Why {self._investigated} does what it does"), classes="title")
            with VerticalScroll():
                yield Static(self.page(), id="page")
            yield Static(Content("arrows scroll, ctrl+c copies, esc closes"), classes="hint")

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def page(self) -> Content:
        """The whole page."""
        record = list(why_lines.findings(self._found))
        parts = [*self._rows([why_lines.cause(self._found)]), Content(), *self._rows(why_lines.steps(self._found))]
        if record:
            parts += [Content(), Content.assemble(("The training's record", "bold")), *self._rows(record)]
        return Content("\n").join(parts)

    def copyable(self) -> str:
        """What ctrl+c copies."""
        return self.page().plain

    def _rows(self, rows: Iterable[why_lines.Row]) -> list[Content]:
        return [line for row in rows for line in self._row(row)]

    def _row(self, row: why_lines.Row) -> list[Content]:
        mark = MARKS[row.state][0] if row.state in MARKS else row.state
        head = Content.assemble((mark, f"bold {_COLOURS[row.state]}"), " ", row.text)
        return [head, *(Content.assemble("  ", (detail, "$muted")) for detail in row.details)]
