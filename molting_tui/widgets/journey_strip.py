"""The steps from an idea to the next cycle, in one line: what is done, what is next, and the key that does it."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from ..state.journey import Journey, strip

_STYLES = {"done": "$success", "now": "bold $accent", "dim": "$muted", "key": "bold $primary", "": ""}


class JourneyStrip(Widget):
    """Shows what it is given; asks for nothing."""

    DEFAULT_CSS = """
    JourneyStrip { height: 1; width: 100%; padding: 0 1; }
    .-short JourneyStrip, .-empty JourneyStrip { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[Journey | None, str] = (None, "")

    def show(self, found: Journey | None, key: str) -> None:
        """`key` is the one that does the next step; nothing is shown of no run."""
        if self._shown != (found, key):
            self._shown = (found, key)
            self.refresh()

    def render(self) -> Content:
        found, key = self._shown
        if found is None:
            return Content()
        line = strip(found, key, max(1, self.content_size.width))
        return Content.assemble(*((said, _STYLES[role]) for said, role in line))
