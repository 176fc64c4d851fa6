"""Compare: is the second better than the first, and could that have been seen at all?"""

from __future__ import annotations

from pathlib import Path

from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal

from engine.contract.rundir import RunDir
from engine.contract.summary import Summary
from engine.contract.verdict import Comparison

from .. import actions
from ..services.grades import Wanted, rubric_of
from ..state.compare_view import plain
from ..widgets.dots import DiffersPane, DotsPane
from ..widgets.top_line import TopLine
from .page import Page


class Compare(Page):
    """Shows a comparison that was computed; what differs stands beside it, or below where there is no room."""

    SCOPES = ("compare", "list")
    TITLE = "Compare"
    CSS_PATH = "../styles/compare.tcss"
    BINDINGS = actions.bindings("compare")

    def __init__(self, found: Comparison, title: str, runs: tuple[Summary, Summary] | None = None) -> None:
        """`runs`: before and after, where they are two."""
        super().__init__()
        self.found, self._title, self._runs = found, title, runs

    def body(self) -> ComposeResult:
        with Horizontal(id="both"):
            yield DotsPane(self.found, "dots")
            yield DiffersPane(self.found, "differs")

    def on_mount(self) -> None:
        self.query_one(TopLine).show_title(f"Compare · {self._title}")
        self.query_one(DotsPane).focus()

    def paint(self) -> None:
        super().paint()
        dots, differs = self.query_one(DotsPane), self.query_one(DiffersPane)
        dots.alone = not differs.display
        for pane in (dots, differs):
            pane.repaint()

    def copyable(self) -> str:
        return plain(self.found)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "grade":
            return bool(self.found.regrade)
        if action == "reverse":
            return self._runs is not None
        return super().check_action(action, parameters)

    @work(exit_on_error=False)
    async def action_reverse(self) -> None:
        """The other way round: the second becomes the one before."""
        from .comparing import compared

        if self._runs is not None:
            page = await compared(self.molting, *reversed(self._runs))
            if page is not None:
                self.app.switch_screen(page)

    @work(exit_on_error=False)
    async def action_grade(self) -> None:
        """Grade the first by the rubric of the second, so that they can be compared."""
        from .grading import grade

        a, b = self.found.a, self.found.b
        if a is None or b is None:
            return
        one, two = (RunDir(self.molting.places.runs / Path(each.run)) for each in (a, b))
        await grade(self.molting, one, Wanted("", rubric=rubric_of(two)))
