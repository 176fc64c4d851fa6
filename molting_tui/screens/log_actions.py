"""The keys of the log of one run: filter it, and look at what the engine itself printed."""

from __future__ import annotations

import asyncio

from textual import on, work
from textual.widgets import Input

from engine.contract.rundir import RunDir

from ..services import raw_log
from ..widgets.log_pane import LogPane
from ..widgets.panes import Panes
from .page import Page

_RAW_EVERY = 1.0  # seconds between looks at engine.log while it is shown


class LogActions(Page):
    """Of a screen with one LogPane among its Panes, and an Input in `#filter`."""

    run: RunDir

    def action_filter(self) -> None:
        self._uncover_log()
        self.query_one("#filter").add_class("-shown")
        self.query_one(Input).focus()

    @on(Input.Changed)
    def _filter(self, event: Input.Changed) -> None:
        self.query_one(LogPane).search(event.value)

    @on(Input.Submitted)
    def _filtered(self) -> None:
        self.query_one(LogPane).focus()

    async def _read_raw_log(self) -> None:
        pane = self.query_one(LogPane)
        pane.show_raw(await asyncio.to_thread(raw_log.last_lines, self.run))
        pane.repaint()

    def action_raw_log(self) -> None:
        """Between the log of events and what the engine printed."""
        pane = self.query_one(LogPane)
        if pane.raw is not None:
            pane.show_raw(None)
            pane.repaint()
            return
        self._uncover_log()
        pane.focus()
        self._follow_raw_log()

    @work(exclusive=True, group="raw log", exit_on_error=False)
    async def _follow_raw_log(self) -> None:
        await self._read_raw_log()
        while self.query_one(LogPane).raw is not None:
            await asyncio.sleep(_RAW_EVERY)
            if self.query_one(LogPane).raw is not None:
                await self._read_raw_log()

    def _uncover_log(self) -> None:
        panes = self.query_one(Panes)
        if not panes.is_pane("log"):
            panes.maximised = "log"
            panes.place()
