"""What every full screen has: header, footer, and what stands there instead when the terminal is too small."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.worker import Worker

from ..widgets.key_line import KeyLine
from ..widgets.too_small import LEAST, TooSmall
from ..widgets.top_line import TopLine, gpu_line

if TYPE_CHECKING:
    from ..app import MoltingApp

WIDE = 110  # columns from which a second pane has room
# For forms. Moved before the next key is given to a field: of what arrives at once, as after a pause of the line, what
# follows a tab belongs to the next field.
TAB_AT_ONCE: list[BindingType] = [
    Binding("tab", "app.focus_next", show=False, priority=True),
    Binding("shift+tab", "app.focus_previous", show=False, priority=True),
]


class Page(Screen[Any]):
    """A full screen. `SCOPES` are those of the registry that are heard here."""

    SCOPES: tuple[str, ...] = ()
    TITLE = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny-width"), (LEAST[0], "-narrow"), (WIDE, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-tiny-height"), (LEAST[1], "-short"), (24, "-tall")]

    @property
    def molting(self) -> MoltingApp:
        from ..app import MoltingApp

        assert isinstance(self.app, MoltingApp)
        return self.app

    def compose(self) -> ComposeResult:
        yield TopLine(self.TITLE or "")
        yield from self.body()
        yield KeyLine(self.molting.registry)
        yield TooSmall(self.molting.runs)

    def body(self) -> ComposeResult:
        """What stands between header and footer."""
        yield Widget()

    def paint(self) -> None:
        """Called at every repaint while this is the topmost page: show what changed, and nothing else."""
        top = self.query_one(TopLine)
        top.show_live(self.live_line())
        if self.molting.machine is not None:
            top.show_gpu(gpu_line(self.molting.machine))
        if self.query_one(TooSmall).display:
            self.query_one(TooSmall).refresh()

    def live_line(self) -> Content:
        """What is live now, for the header."""
        return self.molting.live_line()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        self.molting.on_worker_state_changed(event)

    def back(self) -> bool:
        """Undo the innermost thing on this screen, such as a filter; False when there is nothing to undo."""
        return False

    def copyable(self) -> str:
        """What ctrl+c copies when no text is selected."""
        return ""
