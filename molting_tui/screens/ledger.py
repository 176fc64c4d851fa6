"""The ledger: all generations of a run's family, as a table and as curves, and whether it may go on."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import ScrollableContainer, Vertical
from textual.content import Content
from textual.widgets import Label, Static

from engine.contract.generations import Entry

from ..state import ledger
from ..state.ledger_curves import curves
from ..widgets.plot import Plot
from .dialog import Dialog


class Ledger(Dialog[None]):
    """Shows what is known now."""

    CSS_PATH = ["../styles/dialog.tcss", "../styles/ledger.tcss"]  # type: ignore[assignment]  # Textual takes both

    def __init__(self, entries: list[Entry], run: str, *, ascii: bool) -> None:
        super().__init__()
        self._entries, self._run, self._ascii = entries, run, ascii

    def compose(self) -> ComposeResult:
        with Vertical(classes="box ledger"):
            yield Label(Content("Generations"), classes="title")
            with ScrollableContainer():
                yield Static(Content("\n".join(ledger.figures(self._entries, self._run))), id="page")
            yield Static(Content("\n".join(ledger.notes(self._entries, self._run))), id="notes")
            yield Static(Content("as a percentage of generation 0"), classes="caption")
            plot = Plot(ascii=self._ascii, empty="Nothing was measured yet.")
            plot.smoothing = 0.0
            yield plot
            yield Static(Content("arrows scroll, ctrl+c copies, esc closes"), classes="hint")

    def on_mount(self) -> None:
        self.query_one(ScrollableContainer).focus()
        plot = self.query_one(Plot)
        plot.show(curves(self._entries, self._run))
        self.call_after_refresh(plot.refresh_data)

    def on_resize(self) -> None:
        self.call_after_refresh(self.query_one(Plot).refresh_data)

    def copyable(self) -> str:
        """What ctrl+c copies."""
        return "\n".join(ledger.lines(self._entries, self._run))
