"""Memory of GPUs and host: one bar for each, who holds it, and how it went over the axis of the loss."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget

from ..state import memory_lines
from ..state.curves import Curve, Drawing
from ..state.gpu import Machine, MemoryHistory, RunUse
from ..state.lines import Line
from .heading import retitle
from .plot import Plot

_STYLES = {
    "run": "$accent",
    "others": "$secondary",
    "free": "$rule",
    "mark": "bold $warning",
    "dim": "$muted",
    "bold": "bold",
    "warn": "bold $warning",
    "": "",
}
_LEAST_HISTORY = 6  # rows that the curve needs


class MemoryBars(Widget):
    """Paints the lines it is given."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[Line] = []

    def show(self, lines: list[Line]) -> None:
        if lines != self._lines:
            self._lines = lines
            self.refresh()

    def render(self) -> Content:
        return Content("\n").join(painted(line) for line in self._lines)


class MemoryPane(Vertical, can_focus=True):
    """Give it a sample with `show`; the history below follows at `repaint`. In one line where it is one high."""

    def __init__(self, *, ascii: bool, id: str) -> None:
        super().__init__(id=id, classes="pane")
        self._given: tuple[Machine | None, RunUse] = (None, RunUse())
        self.plot = Plot(ascii=ascii, empty="No samples of memory yet.")
        self.plot.can_focus = False
        self.bars = MemoryBars()

    def compose(self) -> ComposeResult:
        yield self.bars
        yield self.plot

    def follow(self, history: MemoryHistory, ends: dict[str, float]) -> None:
        """Draw this history, on axes that end where those of the loss do."""
        curves = [Curve("this run", history.run, "memory", colour=1)]
        if len(history.all):
            curves.insert(0, Curve("all", history.all, "memory", colour=5))
        self.plot.show(Drawing(curves, ends=ends))

    def show(self, machine: Machine | None, use: RunUse) -> None:
        self._given = (machine, use)
        retitle(self, memory_lines.title(machine) if machine else "memory")

    def repaint(self) -> None:
        """Fit what there is into the present size."""
        machine, use = self._given
        width, height = self.content_size
        if machine is None or not width or not height:
            return
        if height == 1:
            self.bars.show([memory_lines.short(machine, use, width)])
            self._share(1, 0)
            return
        lines = memory_lines.lines(machine, use, width, titled=True)
        history = height - len(lines)
        self.bars.show(lines[:height])
        self._share(min(height, len(lines)), history if history >= _LEAST_HISTORY else 0)
        if self.plot.display:
            self.plot.refresh_data()

    def _share(self, bars: int, history: int) -> None:
        self.bars.styles.height = bars
        self.plot.display = history > 0


def painted(line: Line) -> Content:
    """A line in the theme's colours."""
    return Content.assemble(*((said, _STYLES[role]) for said, role in line))
