"""The two panes of a bench: figures in a table with a cursor, and the answers to one prompt beside each other."""

from __future__ import annotations

from textual.message import Message

from engine.contract.bench import Bench

from .. import text
from ..state import bench_view
from ..state.lines import Line, clipped
from .lines_pane import LinesPane


class BenchTable(LinesPane):
    """The rows in the order of `order`; the cursor stays with its row when they are sorted."""

    class Moved(Message):
        """The cursor is on another row."""

    def __init__(self) -> None:
        super().__init__("table")
        self.found: Bench | None = None
        self.sorted_by: int | None = None
        self.reverse = False
        self.order: list[int] = []
        self.row = 0

    def show(self, found: Bench) -> None:
        self.found, self.row, self.sorted_by, self.reverse = found, 0, None, False
        self.resort()

    def resort(self) -> None:
        """Sort anew."""
        if self.found is not None:
            self.order = bench_view.ordered(self.found, self.sorted_by, self.reverse)
            self.row = self.row if self.row in self.order else next(iter(self.order), 0)
        self.styles.height = len(self.order) + 1
        self.repaint()

    @property
    def at(self) -> int:
        """The place of the cursor among the rows shown."""
        return self.order.index(self.row) if self.row in self.order else 0

    def lines(self, width: int) -> list[Line]:
        if self.found is None:
            return []
        head, *rows = bench_view.table(self.found, self.order, self.sorted_by, width - 2)
        lines: list[Line] = [clipped([(f"  {head}", "dim")], width)]
        for place, (number, said) in enumerate(zip(self.order, rows, strict=True)):
            mark = "▸ " if place == self.at else "  "
            role = "error" if self.found.rows[number].error else "answer" if place == self.at else ""
            lines.append(clipped([(mark, "answer"), (said, role)], width))
        return lines

    def _move(self, place: int) -> None:
        if not self.order:
            return
        self.row = self.order[max(0, min(len(self.order) - 1, place))]
        line, top, height = self.at + 1, round(self.scroll_offset.y), self.size.height
        if line >= top + height or line <= top:
            self.scroll_to(y=max(0, line - height + 1) if line >= top + height else line - 1, animate=False, force=True)
        self.repaint()
        self.post_message(self.Moved())

    def action_up(self) -> None:
        self._move(self.at - 1)

    def action_down(self) -> None:
        self._move(self.at + 1)

    def action_page_up(self) -> None:
        self._move(self.at - max(1, self.size.height - 1))

    def action_page_down(self) -> None:
        self._move(self.at + max(1, self.size.height - 1))

    def action_first(self) -> None:
        self._move(0)

    def action_last(self) -> None:
        self._move(len(self.order) - 1)


class AnswersPane(LinesPane):
    """The answers to prompt number `prompt`, of the row under the cursor and of as many others as have room."""

    def __init__(self, table: BenchTable) -> None:
        super().__init__("answers")
        self._table = table
        self.prompt = 0

    def lines(self, width: int) -> list[Line]:
        found = self._table.found
        if found is None:
            return []
        prompts = found.header.prompts
        prompt = prompts[self.prompt]
        count = f"prompt {self.prompt + 1} of {len(prompts)}, {bench_view.plain(prompt.id)}; [ and ] go on"
        shown = bench_view.window(self._table.order, self._table.at, width)
        head: list[Line] = [[(text.fit(count, width).rstrip(), "dim")], *bench_view.question_lines(prompt, width), []]
        return [*head, *bench_view.answer_lines(found, shown, prompt, width, self._table.row)]

    def turn(self, by: int) -> None:
        """To another prompt; after the last comes the first."""
        if self._table.found is not None:
            self.prompt = (self.prompt + by) % len(self._table.found.header.prompts)
            self._go(0)
