"""The table of runs: paints only the lines that are seen and, on a refresh, only those that changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from engine.contract.safe import safe
from engine.contract.summary import Summary

from .. import actions, text
from ..state import spark
from ..state.hosts import split
from ..state.run_list import RunList, age
from ..terminal import MARKS
from ..themes import KIND

_LEAD = 4  # cursor, pin or selection, mark, a blank
_TREND = 8
_NAME = (14, 40)  # least and greatest width of the name


@dataclass(frozen=True)
class Column:
    """`rank` says which columns stay where there is little room: the lowest do."""

    title: str
    width: int
    rank: int
    cell: Callable[[Summary], str]
    right: bool = True


def base_name(run: Summary) -> str:
    """The base without its folders and owner, harmless."""
    return safe(run.base.rstrip("/").rpartition("/")[2], keep_newlines=False)


def loss(run: Summary, number: Callable[[float | None], str] = text.number) -> str:
    """The last loss; one that was not finite says so."""
    return "nan" if run.loss is None and run.trend else number(run.loss)


def steps(run: Summary) -> str:
    """Steps made and planned; empty where neither is known, as in a history that was imported."""
    return f"{run.step}/{run.steps or '?'}" if run.step or run.steps else ""


def host_name(run: Summary) -> str:
    """The machine that it runs on; a dash for this one."""
    return split(run.id)[0] or text.DASH


COLUMNS = (
    Column("host", 10, 2, host_name, right=False),
    Column("state", 11, 0, lambda run: run.state, right=False),
    Column("step", 9, 1, lambda run: steps(run) or text.DASH),
    Column("eta", 7, 3, lambda run: text.clock(run.eta)),
    Column("loss", 5, 2, lambda run: loss(run, text.short)),
    Column("trend", _TREND, 4, lambda run: spark.blocks(run.trend, _TREND), right=False),
    Column("eval", 5, 5, lambda run: text.short(run.eval_loss)),
    Column("score", 5, 6, lambda run: text.short(run.score)),
    Column("age", 6, 7, lambda run: text.age(age(run))),
    Column("base", 16, 9, base_name, right=False),
    Column("method", 6, 8, lambda run: run.method, right=False),
)
_DIM = frozenset({"host", "eta", "score", "age", "base", "method"})


def fitting(width: int, scored: bool = True, hosts: bool = False) -> tuple[int, list[Column]]:
    """(width of the name, columns that fit into `width` cells), the least important left out.

    `scored`: whether any run has a score; else its column gives room to others. `hosts`: so for several machines.
    """
    left = width - _LEAD - _NAME[0]
    kept: list[Column] = []
    for column in sorted(COLUMNS, key=lambda each: each.rank):
        if (column.title == "score" and not scored) or (column.title == "host" and not hosts):
            continue
        if left < column.width + 2:
            break
        kept.append(column)
        left -= column.width + 2
    return min(_NAME[0] + max(0, left), _NAME[1]), [column for column in COLUMNS if column in kept]


class RunTable(ScrollView, can_focus=True):
    """Shows `runs` in the order given to `show`. The cursor stays with its run, whatever moves around it."""

    BINDINGS = actions.bindings("list")
    COMPONENT_CLASSES = {
        "run-table--head",
        "run-table--cursor",
        "run-table--selected",
        "run-table--dim",
        *(f"run-table--{kind}" for kind in set(KIND.values())),
    }

    class Moved(Message):
        """The cursor is on another run, or on none."""

        def __init__(self, run_id: str | None) -> None:
            super().__init__()
            self.run_id = run_id

    class Opened(Message):
        """A run was double-clicked."""

    def __init__(self, runs: RunList) -> None:
        super().__init__()
        self.runs = runs
        self.rows: list[str] = []
        self.cursor: str | None = None
        self._index = 0
        self._settled = False  # whether the cursor belongs to its run: the user moved it, or all runs are read
        self._scored = False  # whether any of them has a score
        self._painted: dict[int, tuple[object, ...]] = {}  # line on the screen -> what was painted there

    def show(self, rows: list[str]) -> None:
        """Show these runs; cursor and scrolling stay where they are."""
        self.rows = rows
        self._scored = any(run is not None and run.score is not None for run in self.runs.known.values())
        if not self._settled:
            self._index = 0  # while the runs are being read, the first row is another every moment
        elif self.cursor in rows:
            self._index = rows.index(self.cursor)
        self._settled = self._settled or self.runs.complete
        self._set_cursor(self._index)
        self.virtual_size = Size(self.size.width, len(rows) + 1)

    def repaint(self) -> None:
        """Paint the lines that no longer show what they should: few bytes, over a slow line too."""
        for y in range(self.size.height):
            if self._painted.get(y) != self._shown_at(y):
                self.refresh(Region(0, y, self.size.width, 1))

    def move_to(self, run_id: str) -> None:
        """Put the cursor on a run that is shown."""
        if run_id in self.rows:
            self._go(self.rows.index(run_id))

    def _set_cursor(self, index: int) -> None:
        self._index = max(0, min(index, len(self.rows) - 1))
        now = self.rows[self._index] if self.rows else None
        if now != self.cursor:
            self.cursor = now
            self.post_message(self.Moved(now))

    def _go(self, index: int) -> None:
        self._settled = True
        self._set_cursor(index)
        self.scroll_to_region(Region(0, self._index, 1, 2), animate=False, force=True)  # its line and the head
        self.repaint()

    def action_up(self) -> None:
        self._go(self._index - 1)

    def action_down(self) -> None:
        self._go(self._index + 1)

    def action_page_up(self) -> None:
        self._go(self._index - max(1, self.size.height - 2))

    def action_page_down(self) -> None:
        self._go(self._index + max(1, self.size.height - 2))

    def action_first(self) -> None:
        self._go(0)

    def action_last(self) -> None:
        self._go(len(self.rows) - 1)

    def on_click(self, event: events.Click) -> None:
        row = event.y - 1 + self.scroll_offset.y
        if event.y >= 1 and row < len(self.rows):
            self._go(row)
            if event.chain == 2:
                self.post_message(self.Opened())

    def _shown_at(self, y: int) -> tuple[object, ...]:
        """All that a line's look depends on, and cheaper than painting it."""
        row = y - 1 + self.scroll_offset.y
        if y == 0 or row >= len(self.rows):
            return (y == 0, self.runs.sort, self._scored, bool(self.runs.hosts))
        run_id = self.rows[row]
        run = self.runs.get(run_id)
        told = text.age(age(run)) if run else ""
        return (
            run_id,
            row == self._index,
            run_id in self.runs.selected,
            self._pin(run_id),
            run,
            self.runs.title(run_id),
            told,
            self._scored,
            bool(self.runs.hosts),
            self._away(run_id),
        )

    def render_line(self, y: int) -> Strip:
        self._painted[y] = self._shown_at(y)
        name_width, columns = fitting(self.size.width, self._scored, bool(self.runs.hosts))
        if y == 0:
            return self._finish(self._head(name_width, columns), self._style("head"))
        row = y - 1 + self.scroll_offset.y
        if row >= len(self.rows):
            return Strip.blank(self.size.width, self.rich_style)
        run_id = self.rows[row]
        on_it = row == self._index
        ground = self._style("cursor") if on_it else self.rich_style
        if run_id in self.runs.selected and not on_it:
            ground = self._style("selected")
        return self._finish(self._cells(run_id, on_it, name_width, columns), ground)

    def _finish(self, segments: list[Segment], ground: Style) -> Strip:
        width = self.size.width
        return Strip(Segment.apply_style(segments, ground)).adjust_cell_length(width, ground).crop(0, width).simplify()

    def _style(self, name: str, *, partial: bool = False) -> Style:
        return self.get_component_rich_style(f"run-table--{name}", partial=partial)

    def _head(self, name_width: int, columns: list[Column]) -> list[Segment]:
        order = self.runs.sort
        titles = [" " * _LEAD + text.fit(_marked("name", order), name_width)]
        titles += [_placed(_marked(column.title, order), column) for column in columns]
        return [Segment("  ".join(titles))]

    def _cells(self, run_id: str, on_it: bool, name_width: int, columns: list[Column]) -> list[Segment]:
        run = self.runs.get(run_id)
        dim = Style() if on_it else self._style("dim", partial=True)
        kind = self._style(KIND[run.state], partial=True) if run and not self._away(run_id) else dim
        lead = ("▸" if on_it else " ") + ("+" if run_id in self.runs.selected else self._pin(run_id))
        name = text.fit(self.runs.title(run_id), name_width)
        if run is None:
            return [Segment(f"{lead}  {name}", dim)]
        cells = [Segment(lead), Segment(MARKS[run.state][0], kind), Segment(f" {name}")]
        for column in columns:
            style = kind if column.title == "state" else dim if column.title in _DIM else None
            if column.title == "trend":
                style = kind if run.live else dim
            cells.append(Segment("  "))
            cells.append(Segment(_placed(column.cell(run), column), style))
        return cells

    def _away(self, run_id: str) -> bool:
        """Whether what is known of the run is old, because its machine is not there."""
        return run_id in self.runs.distant and self.runs.hosts[split(run_id)[0]].away

    def _pin(self, run_id: str) -> str:
        if run_id in self.runs.view.archived:
            return "."
        return "▴" if run_id in self.runs.view.pinned else " "


def _marked(title: str, order: str) -> str:
    return f"{title}▾" if title == order else title


def _placed(cell: str, column: Column) -> str:
    cell = text.fit(cell, column.width) if len(cell) > column.width else cell
    return cell.rjust(column.width) if column.right else text.fit(cell, column.width)
