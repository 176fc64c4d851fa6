"""The runs of a sweep in one table, which follows them."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Label, Static

from ..state import sweep_table
from ..state.run_list import RunList
from .dialog import Dialog

_EVERY = 1.0  # seconds


class Sweep(Dialog[None]):
    """Shows what is known of a sweep now, again every second."""

    def __init__(self, runs: RunList, sweep: str, *, ascii: bool) -> None:
        super().__init__()
        self._runs, self._sweep, self._ascii = runs, sweep, ascii

    def compose(self) -> ComposeResult:
        with Vertical(classes="box proof"):
            yield Label(Content(self._runs.name(self._sweep)), classes="title")
            with VerticalScroll():
                yield Static(self.page(), id="page")
            yield Static(Content("arrows scroll, ctrl+c copies, esc closes"), classes="hint")

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()
        self.set_interval(_EVERY, self._follow)

    def _follow(self) -> None:
        self.query_one("#page", Static).update(self.page())

    def page(self) -> Content:
        """Title, rows and notes; the best row stands out."""
        runs = sweep_table.members(self._runs.known.values(), self._sweep)
        head, *rest = sweep_table.lines(runs, self._ascii, ids=False)
        table, notes = rest[: len(runs)], rest[len(runs) :]
        best = sweep_table.best_row(runs)
        rows = [Content.assemble((line, "bold $success" if at == best else "")) for at, line in enumerate(table)]
        said = [Content.assemble((line, "$muted")) for line in notes]
        return Content("\n").join([Content.assemble((head, "$muted")), *rows, *([Content()] if said else []), *said])

    def copyable(self) -> str:
        """What ctrl+c copies."""
        return self.page().plain
