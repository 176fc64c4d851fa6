"""The two panes of the data screen: the rows in short, and one of them as the model sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from textual.message import Message

from engine.contract.rows import RowLine, RowView, Survey

from ..state.lines import Line
from ..state.row_lines import list_line, row_lines, survey_lines
from .lines_pane import LinesPane


class RowPane(LinesPane):
    """One row, or all of them together."""

    COMPONENT_CLASSES = {f"lines-pane--{role}" for role in ("learned", "learned-special", "special", "cut")}
    DEFAULT_CSS = """
    RowPane {
        scrollbar-size: 1 0;
        .lines-pane--learned { color: $accent; text-style: bold; }
        .lines-pane--learned-special { color: $accent; text-style: bold reverse; }
        .lines-pane--special { color: $muted; text-style: reverse; }
        .lines-pane--cut { color: $error; text-style: strike; }
    }
    """

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.view: RowView | None = None
        self.survey: Survey | None = None
        self.said: list[Line] = []  # stands there instead

    def lines(self, width: int) -> list[Line]:
        if self.said:
            return self.said
        if self.survey is not None:
            return survey_lines(self.survey, width)
        return row_lines(self.view, width) if self.view else [[("reading", "dim")]]

    def one_line(self, width: int) -> Line:
        return (self.lines(width) or [[]])[0]

    def show(self, *, view: RowView | None = None, survey: Survey | None = None, said: Iterable[Line] = ()) -> None:
        """Show one of these from its beginning."""
        self.view, self.survey, self.said = view, survey, list(said)
        self.scroll_to(y=0, animate=False, force=True)
        self.repaint()


class RowList(LinesPane):
    """As many rows as have room; the cursor goes through all of them, however many there are."""

    COMPONENT_CLASSES = {"lines-pane--cursor"}
    DEFAULT_CSS = "RowList { .lines-pane--cursor { background: $cursor; color: $ink; } }"

    class Moved(Message):
        """The cursor stands on another row."""

    def __init__(self, id: str, need: Callable[[int, int], None]) -> None:
        super().__init__(id)
        self._need = need
        self._known: dict[int, RowLine] = {}
        self._asked = (-1, -1)
        self.total = 0  # rows, as far as is known
        self.cursor = self.top = 0
        self.unit = "characters"
        self.changed: set[int] = set()

    def lines(self, width: int) -> list[Line]:
        found = []
        for number in range(self.top, min(self.total, self.top + self.size.height)):
            row = self._known.get(number)
            line = list_line(row, width, self.unit, changed=number in self.changed) if row else [(" …", "dim")]
            found.append([("".join(said for said, _ in line), "cursor")] if number == self.cursor else line)
        return found

    def one_line(self, width: int) -> Line:
        return (self.lines(width) or [[]])[0]

    def take(self, rows: Iterable[RowLine]) -> None:
        """Rows that were asked for."""
        for row in rows:
            self._known[row.number] = row
            self.total = max(self.total, row.number + 1)
        self.repaint()

    def forget(self) -> None:
        """Ask for everything anew."""
        self._known.clear()
        self._asked = (-1, -1)
        self.see()

    def see(self) -> None:
        """Keep the cursor in sight, and ask for what is missing there."""
        height = max(1, self.size.height)
        self.cursor = max(0, min(self.cursor, self.total - 1))
        self.top = max(0, min(self.top, self.cursor), self.cursor - height + 1)
        wanted = (self.top, height)
        missing = any(number not in self._known for number in range(self.top, min(self.total, self.top + height)))
        if (missing or not self.total) and wanted != self._asked:
            self._asked = wanted
            if len(self._known) > 2000:
                self._known.clear()
            self._need(self.top, height * 2)
        self.repaint()

    def move_to(self, number: int) -> None:
        """Put the cursor on a row."""
        self.cursor = number
        self.see()
        self.post_message(self.Moved())

    def resized(self) -> None:
        self._asked = (-1, -1)
        self.see()

    def action_up(self) -> None:
        self.move_to(self.cursor - 1)

    def action_down(self) -> None:
        self.move_to(self.cursor + 1)

    def action_page_up(self) -> None:
        self.move_to(self.cursor - max(1, self.size.height - 1))

    def action_page_down(self) -> None:
        self.move_to(self.cursor + max(1, self.size.height - 1))

    def action_first(self) -> None:
        self.move_to(0)

    def action_last(self) -> None:
        self.move_to(self.total - 1)
