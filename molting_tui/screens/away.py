"""What happened while nobody watched: the first thing seen on coming back."""

from __future__ import annotations

import time
from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Label, OptionList, Static

from .. import text
from ..state.away import Happened
from .dialog import Dialog

_MARKS = {
    "error": ("✗ error  ", "bold $error"),
    "warning": ("! warning", "bold $warning"),
    "note": ("· note   ", "$muted"),
}
_MOST = 50
_BOX, _AROUND = 96, 8  # cells of the box, as dialog.tcss has it; and of its border, padding and scrollbar
_INDENT = 18  # cells of mark and age


class Away(Dialog[str]):
    """One line for each run, failures first; the answer is the id of the run to open."""

    def __init__(self, happened: Sequence[Happened], since: float) -> None:
        super().__init__()
        self._happened, self._since = list(happened)[:_MOST], since
        self._more = len(happened) - len(self._happened)

    def compose(self) -> ComposeResult:
        with Vertical(classes="box away"):
            gone = text.age(max(0.0, time.time() - self._since))
            yield Label(Content.assemble("While you were away", (f"  {gone}", "$muted")), classes="title")
            room = min(_BOX, self.app.size.width) - _AROUND - _INDENT
            yield OptionList(*(_told(each, room) for each in self._happened))
            more = f"{self._more} more are in the table. " if self._more else ""
            yield Static(Content(f"{more}enter opens the run, esc closes"), classes="hint")

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def copyable(self) -> str:
        """What ctrl+c copies."""
        return "\n".join(f"{each.severity}: {each.message} {each.remedy}".strip() for each in self._happened)

    @on(OptionList.OptionSelected)
    def _open(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._happened[event.option_index].run_id)


def _told(each: Happened, room: int) -> Content:
    """What wraps does so beside mark and age, not under them."""
    ago = text.age(max(0.0, time.time() - each.t)) if each.t else ""
    first, *more = text.wrap(each.message, max(1, room))
    lines = [Content.assemble(_MARKS[each.severity], (f"{ago:>7}  ", "$muted"), first)]
    lines += [Content(" " * _INDENT + line) for line in more]
    if each.remedy:
        lines += [Content.assemble((" " * _INDENT + line, "$muted")) for line in text.wrap(each.remedy, max(1, room))]
    return Content("\n").join(lines)
