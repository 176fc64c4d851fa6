"""One row in a form: a field for each turn, its tokens and what is wrong with it told while it is typed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Label, Static, TextArea

from engine.contract.rows import RowView

from .. import actions
from ..state.row_form import Part, Shape, next_role
from ..widgets.row_panes import RowPane
from .page import TAB_AT_ONCE, Page

_PAUSE = 0.25  # seconds without a key after which the row is looked at

Look = Callable[[Any, Callable[[Any], None]], None]


class RowForm(Page):
    """Dismissed with (parts, whether another new row is wanted); None when nothing was written."""

    SCOPES = ("row",)
    TITLE = "A row"
    CSS_PATH = "../styles/data.tcss"
    BINDINGS = [*actions.bindings("row"), *TAB_AT_ONCE]

    def __init__(
        self, shape: Shape, parts: Sequence[Part], old: Any, heading: str, look: Look, draft: Callable[[Any], None]
    ) -> None:
        """`look` asks the engine what it makes of a value; `draft` is told the value as it stands."""
        super().__init__()
        self._shape, self._parts, self._old, self._heading = shape, list(parts), old, heading
        self._first = list(parts)
        self._look, self._draft = look, draft
        self._timer: Timer | None = None

    def body(self) -> ComposeResult:
        yield Static(Content(self._heading), id="count")
        with VerticalScroll(id="parts", can_focus=False):
            for part in self._parts:
                yield self._field(part)
        yield RowPane("view")

    def _field(self, part: Part) -> Vertical:
        area = TextArea(part.text, tab_behavior="focus", soft_wrap=True, compact=True, show_line_numbers=False)
        return Vertical(Label(Content(part.role)), area, classes="part", name=part.role)

    def on_mount(self) -> None:
        empty = next((area for area in self.query(TextArea) if not area.text), None)
        (empty or self.query(TextArea).first()).focus()
        self.call_after_refresh(self._ask)

    def parts(self) -> list[Part]:
        """What stands in the fields."""
        return [Part(field.name or "", field.query_one(TextArea).text) for field in self.query(".part")]

    @on(TextArea.Changed)
    def _typed(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(_PAUSE, self._ask)

    def _ask(self) -> None:
        if not self.is_mounted or not self.query(".part"):
            return
        value = self._shape.value(self.parts(), self._old)
        if self.parts() != self._first:
            self._draft(value)
        self._look(value, self._looked)

    def _looked(self, view: Any) -> None:
        if self.is_mounted and isinstance(view, RowView):
            self.query_one(RowPane).show(view=view)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self._shape.turns if action in {"add_turn", "drop_turn"} else True

    async def action_add_turn(self) -> None:
        parts = self.query_one("#parts")
        await parts.mount(self._field(Part(next_role(self.parts()))))
        self.query(TextArea).last().focus()
        self._typed()

    async def action_drop_turn(self) -> None:
        fields = self.query(".part")
        if len(fields) > 1:
            await fields.last().remove()
            self.query(TextArea).last().focus()
            self._typed()

    def action_next_row(self) -> None:
        self._leave(again=True)

    def back(self) -> bool:
        """What was written is kept; undo takes it back."""
        self._leave(again=False)
        return True

    def _leave(self, *, again: bool) -> None:
        parts = self.parts()
        written = parts != self._first and any(part.text.strip() for part in parts)
        self.dismiss((parts if written else None, again and (written or self._old is not None)))
