"""The report of a run, as it was just written: to read here, and to take away as files."""

from __future__ import annotations

from pathlib import Path

from textual.app import ComposeResult

from engine.contract.errors import MoltingError
from engine.contract.plainfile import read_plain
from engine.contract.verdict import Reported

from .. import actions, text
from ..state.lines import Line
from ..state.report_lines import report_lines
from ..terminal import one_line
from ..widgets.lines_pane import LinesPane
from ..widgets.top_line import TopLine
from .page import Page

_LIMIT = 16 << 20


class ReportPane(LinesPane):
    """Where the files are, then the report."""

    def __init__(self, made: Reported, markdown: str) -> None:
        super().__init__("report")
        self._made, self._markdown = made, markdown
        self._wrapped: tuple[int, list[Line]] = (0, [])

    def lines(self, width: int) -> list[Line]:
        if self._wrapped[0] != width:  # a long report is wrapped once, not at every key
            self._wrapped = (width, [*self._head(width), [], *report_lines(self._markdown, width)])
        return self._wrapped[1]

    def _head(self, width: int) -> list[Line]:
        lines: list[Line] = [[(line, "dim")] for line in text.wrap(one_line(self._made.html), width)]
        for warning in self._made.warnings:
            lines += [[(line, "warning")] for line in text.wrap(one_line(warning), width)]
        return lines


class ReportPage(Page):
    """Reads `report.md` once; ctrl+c copies the version fit to post."""

    SCOPES = ("report", "list")
    TITLE = "Report"
    CSS_PATH = "../styles/compare.tcss"
    BINDINGS = actions.bindings("report")

    def __init__(self, made: Reported, name: str) -> None:
        """MoltingError when the report cannot be read."""
        super().__init__()
        self._made, self._name = made, name
        try:
            self._markdown = read_plain(Path(made.markdown), _LIMIT).decode("utf-8", "replace")
        except OSError as error:
            raise MoltingError(f"{made.markdown} cannot be read: {error}.") from None

    def body(self) -> ComposeResult:
        yield ReportPane(self._made, self._markdown)

    def on_mount(self) -> None:
        self.query_one(TopLine).show_title(f"Report · {self._name}")
        self.query_one(ReportPane).focus()

    def paint(self) -> None:
        super().paint()
        self.query_one(ReportPane).repaint()

    def copyable(self) -> str:
        return self._made.short
