"""A pane of text lines that scrolls; paints only what is seen, and on a repaint only what changed."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from .. import actions
from ..state.lines import Line
from .heading import retitle

ROLES = ("dim", "bold", "answer", "match", "note", "warning", "error")


class LinesPane(ScrollView, can_focus=True):
    """What it shows comes from `lines` and, where it is one row high, from `one_line`."""

    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("list")]
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"lines-pane--{role}" for role in ROLES}
    DEFAULT_CSS = """
    LinesPane {
        scrollbar-size: 0 0;
        overflow-x: hidden;  /* rows are made as wide as the pane; the arrows are for those who read them */
        .lines-pane--dim, .lines-pane--note { color: $muted; }
        .lines-pane--bold { text-style: bold; }
        .lines-pane--answer { color: $accent; }
        .lines-pane--match { color: $background; background: $warning; }
        .lines-pane--warning { color: $warning; }
        .lines-pane--error { color: $error; text-style: bold; }
    }
    """

    def __init__(self, id: str) -> None:
        super().__init__(id=id, classes="pane")
        self.rows: list[Line] = []
        self._painted: dict[int, Strip] = {}
        self._fills = Size(0, 0)

    def lines(self, width: int) -> list[Line]:
        """All rows for this width."""
        return []

    def one_line(self, width: int) -> Line:
        """The most important in one row."""
        return []

    def heading(self) -> str:
        """The title of the pane."""
        return ""

    def follows(self) -> bool:
        """Whether the end stays in sight as rows are added."""
        return False

    def repaint(self) -> None:
        """Take in what is new and paint the rows that differ."""
        width, height = self.size
        if not width or not height:
            return
        follows = self.follows()
        self.rows = [self.one_line(width)] if height == 1 else self.lines(width)
        size = Size(width, len(self.rows))
        if self.virtual_size != size:
            self.virtual_size = size
        if height == 1:
            self.scroll_to(y=0, animate=False, force=True)
        elif follows:
            self.scroll_to(y=max(0, len(self.rows) - height), animate=False, force=True)
        retitle(self, self.heading())
        ground = self.rich_style  # worked out once: it takes as long as a row
        for y in range(height):
            if self._painted.get(y) != self._strip(y, ground):
                self.refresh(Region(0, y, width, 1))

    def on_resize(self) -> None:
        if self.size != self._fills:  # told too when only the rows are others than before
            self._fills = self.size
            self.resized()

    def resized(self) -> None:
        """What stands above may grow or go without anything new to show here."""
        self.repaint()

    def render_line(self, y: int) -> Strip:
        strip = self._painted[y] = self._strip(y, self.rich_style)
        return strip

    def notify_style_update(self) -> None:
        self._painted.clear()
        super().notify_style_update()

    def _strip(self, y: int, ground: Style) -> Strip:
        width = self.size.width
        row = y + self.scroll_offset.y
        if row >= len(self.rows):
            return Strip.blank(width, ground)
        segments = [Segment(said, ground + self._style(role)) for said, role in self.rows[row]]
        return Strip(segments).adjust_cell_length(width, ground).crop(0, width)

    def _style(self, role: str) -> Style:
        return self.get_component_rich_style(f"lines-pane--{role}", partial=True) if role else Style()

    def _go(self, y: float) -> None:
        self.scroll_to(y=y, animate=False, force=True)
        self.repaint()

    def action_up(self) -> None:
        self._go(self.scroll_offset.y - 1)

    def action_down(self) -> None:
        self._go(self.scroll_offset.y + 1)

    def action_page_up(self) -> None:
        self._go(self.scroll_offset.y - max(1, self.size.height - 1))

    def action_page_down(self) -> None:
        self._go(self.scroll_offset.y + max(1, self.size.height - 1))

    def action_first(self) -> None:
        self._go(0)

    def action_last(self) -> None:
        self._go(len(self.rows))
