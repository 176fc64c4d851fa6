"""Alerts in words, with what to do."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from .. import text
from ..state.alerts import Alert

_MARKS = {"error": ("✗ error", "bold $error"), "warning": ("! warning", "bold $warning"), "note": ("· note", "$muted")}


class AlertLines(Widget):
    """At most `most` rows; the last tells how many alerts more there are."""

    def __init__(self) -> None:
        super().__init__()
        self._given: tuple[list[Alert], int, int] = ([], 0, 0)
        self._rows: list[Content] = []

    def show(self, alerts: list[Alert], width: int, most: int) -> None:
        if (alerts, width, most) == self._given:
            return
        self._given = (alerts, width, most)
        self._rows = rows(alerts, width, most)
        self.styles.height = len(self._rows)
        self.display = bool(self._rows)
        self.refresh()

    def render(self) -> Content:
        return Content("\n").join(self._rows)


def rows(alerts: list[Alert], width: int, most: int) -> list[Content]:
    """`! warning  what is  what to do`, gravest first: one row each where they fit, else as many as they need."""
    found: list[Content] = []
    for place, alert in enumerate(alerts):
        left = most - len(found)
        if left <= 0 or (left == 1 and place and len(alerts) > place + 1):
            found[-1] = _with_more(found[-1], len(alerts) - place, width)
            break
        found += _rows(alert, width, left)[:left]
    return found


def _rows(alert: Alert, width: int, most: int) -> list[Content]:
    mark, style = _MARKS[alert.severity]
    room = max(10, width - len(mark) - 4)
    head = Content.assemble(" ", (mark, style), "  ")
    remedy = f"  {alert.remedy}" if alert.remedy else ""
    if most == 1 or len(alert.message) + len(remedy) <= room:
        kept = remedy if len(alert.message) + len(remedy) <= room else ""
        said = alert.message if len(alert.message) <= room else text.fit(alert.message, room).rstrip()
        return [Content.assemble(head, said, (kept, "$muted"))]
    first, *more = text.wrap(alert.message, room)
    indent = " " * (len(mark) + 3)
    told = [Content.assemble(head, first), *(Content(indent + row) for row in more)]
    return told + [Content.assemble((indent + row, "$muted")) for row in text.wrap(alert.remedy, room) if row]


def _with_more(row: Content, count: int, width: int) -> Content:
    tail = f"  +{count} more"
    return Content.assemble(row.truncate(max(1, width - len(tail) - 1), ellipsis=True), (tail, "$muted"))
