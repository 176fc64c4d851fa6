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
            yield OptionList(*(_told(each) for each in self._happened))
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


def _told(each: Happened) -> Content:
    ago = text.age(max(0.0, time.time() - each.t)) if each.t else ""
    lines = [Content.assemble(_MARKS[each.severity], (f"{ago:>7}  ", "$muted"), each.message)]
    if each.remedy:
        lines.append(Content.assemble((" " * 18 + each.remedy, "$muted")))
    return Content("\n").join(lines)
