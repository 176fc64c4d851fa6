"""What happened in the run, a line each: follows the end, and shows only what is searched for."""

from __future__ import annotations

import time

from .. import text
from ..state.lines import Line, clipped
from ..state.live import LOG_LINES, LiveRun
from ..state.logbook import LogLine
from .lines_pane import LinesPane

_STAMP = 9  # cells of the time and a blank
_KIND = 12


class LogPane(LinesPane):
    """Follows the end until it is scrolled away from it, and again when it is back there."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._run = LiveRun()
        self._words: list[str] = []
        self._sticks = True  # kept, not worked out: while the pane's size changes, its place tells nothing
        self.raw: list[str] | None = None  # what the engine printed, shown in place of the events
        self._shown: list[LogLine] = []  # those that match
        self._broken: list[Line] = []  # the same, in rows of the width `_width`
        self._taken = 0  # lines of the run that were looked at
        self._width = 0

    def show(self, run: LiveRun) -> None:
        """Show this run's log from the next repaint on."""
        if run is not self._run:
            self._run = run
            self._forget()

    def show_raw(self, lines: list[str] | None) -> None:
        """Show these lines, safe to show, in place of the events; None: the events again."""
        if lines is None or self.raw is None:
            self.action_last()
        self.raw = lines
        self._forget()

    def search(self, query: str) -> None:
        """Only lines in which all words of `query` occur."""
        self._words = query.casefold().split()
        self._forget()
        self.action_last()

    def follows(self) -> bool:
        return self._sticks

    def _go(self, y: float) -> None:
        self._stick(max(0, y))
        super()._go(y)

    def _stick(self, y: float) -> None:
        self._sticks = y >= len(self.rows) - self.size.height

    def on_mouse_scroll_up(self) -> None:
        self.call_later(lambda: self._stick(self.scroll_offset.y))  # once it has scrolled

    def on_mouse_scroll_down(self) -> None:
        self.call_later(lambda: self._stick(self.scroll_offset.y))

    def heading(self) -> str:
        if self.raw is not None:
            return f"engine.log  {text.plural(len(self.raw), 'line')}" + ("" if self.follows() else ", end: newest")
        total = text.plural(self._run.logged, "line")
        said = f"log  {len(self._shown):,} of {total}" if self._words else f"log  {total}"
        return said if self.follows() else f"{said}, end: newest"

    def lines(self, width: int) -> list[Line]:
        if self.raw is not None:
            return self._raw_lines(self.raw, width)
        run = self._run
        if width != self._width or len(self._shown) > 2 * LOG_LINES:
            self._forget()
            self._width = width
        new = min(run.logged - self._taken, len(run.log))
        for place in range(len(run.log) - new, len(run.log)):
            line = run.log[place]
            if self._matches(line):
                self._shown.append(line)
                self._broken += self._rows(line, width)
        self._taken = run.logged
        if not self._broken:
            return [[("Nothing matches." if self._words else "Nothing has happened yet.", "dim")]]
        return self._broken

    def one_line(self, width: int) -> Line:
        if not self._run.log:
            return clipped([("log  ", "bold"), ("nothing has happened yet", "dim")], width)
        line = self._run.log[-1]
        said = f"{line.kind}  {line.text}"
        return clipped([("log  ", "bold"), (f"{stamp(line.t)} ", "dim"), (said, _role(line))], width)

    def copyable(self) -> str:
        """The lines that are shown, as text."""
        if self.raw is not None:
            return "\n".join(self.raw)
        return "\n".join(f"{stamp(line.t)}  {line.kind:<{_KIND}}{line.text}" for line in self._shown)

    def _raw_lines(self, raw: list[str], width: int) -> list[Line]:
        shown = [each for each in raw if all(word in each.casefold() for word in self._words)]
        if not shown:
            return [[("Nothing matches." if raw else "The engine has printed nothing.", "dim")]]
        return [self._marked(row, "") for each in shown for row in text.wrap(each, max(10, width - 1))]

    def _forget(self) -> None:
        self._shown, self._broken, self._taken = [], [], 0

    def _matches(self, line: LogLine) -> bool:
        if not self._words:
            return True
        said = f"{line.kind} {line.text}".casefold()
        return all(word in said for word in self._words)

    def _rows(self, line: LogLine, width: int) -> list[Line]:
        narrow = width < 50
        indent = _STAMP if narrow else _STAMP + _KIND
        said = f"{line.kind}  {line.text}" if narrow else line.text
        room = max(10, width - indent - 1)
        # Answers have a pane of their own; here one row tells that there were some.
        first, *more = [text.fit(said, room).rstrip()] if line.kind == "sample" else text.wrap(said, room)
        role = _role(line)
        head: Line = [(f"{stamp(line.t)} ", "dim")]
        if not narrow:
            head.append((text.fit(line.kind, _KIND - 1) + " ", "dim" if line.severity == "note" else role))
        rows = [[*head, *self._marked(first, role)]]
        return rows + [[(" " * indent, ""), *self._marked(each, role)] for each in more]

    def _marked(self, said: str, role: str) -> Line:
        """With what is searched for marked."""
        low = said.casefold()
        if not self._words or len(low) != len(said):
            return [(said, role)]
        found, at = [], 0
        while at < len(said):
            hits = [(place, word) for word in self._words if (place := low.find(word, at)) >= 0]
            if not hits:
                break
            place, word = min(hits)
            found += [(said[at:place], role), (said[place : place + len(word)], "match")]
            at = place + len(word)
        return [*found, (said[at:], role)]


def stamp(t: float) -> str:
    """The time of day here."""
    return time.strftime("%H:%M:%S", time.localtime(t)) if 0 < t < 2**33 else "--:--:--"


def _role(line: LogLine) -> str:
    return "" if line.severity == "note" else line.severity
