"""What a terminal too small for the screens still shows: state and loss. The stylesheet decides when."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from .. import text
from ..state.run_list import RunList
from ..terminal import MARKS
from ..themes import KIND
from .run_table import loss

LEAST = (40, 10)  # columns and rows that the screens need


class TooSmall(Widget):
    """Lies over a screen and hides it."""

    def __init__(self, runs: RunList) -> None:
        super().__init__()
        self._runs = runs

    def render(self) -> Content:
        lines: list[Content] = []
        shown = self._runs.live() or [
            run for run_id in self._runs.rows()[:1] if (run := self._runs.known.get(run_id)) is not None
        ]
        for run in shown:
            mark = (MARKS[run.state][0], f"$state-{KIND[run.state]}")
            lines.append(Content.assemble(mark, f" {run.state} {run.step}/{run.steps or '?'} loss {loss(run)}"))
            left = f" {text.clock(run.eta)} left" if run.eta is not None else ""
            lines.append(Content.assemble((f"  {self._runs.name(run.id)}{left}", "$muted")))
        lines = lines[: max(1, self.size.height - 1)] or [Content("no runs")]
        needs = Content.assemble(
            (f"needs {LEAST[0]}x{LEAST[1]}, is {self.app.size.width}x{self.app.size.height}", "$muted")
        )
        return Content("\n").join([*lines, needs])
