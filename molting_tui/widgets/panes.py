"""Puts the panes of the Live screen where `arrange` says."""

from __future__ import annotations

from collections.abc import Callable

from textual.containers import Container

from ..state.arrange import PANES, Box, arrange


class Panes(Container):
    """Its children are the panes, named by their ids. `hidden` and `maximised` count from the next `place` on."""

    DEFAULT_CSS = """
    Panes { width: 100%; height: 1fr; }
    Panes > .pane { position: absolute; }
    """

    def __init__(self, placed: Callable[[], None]) -> None:
        super().__init__()
        self._placed = placed
        self._boxes: dict[str, Box] = {}
        self.hidden: list[str] = []
        self.maximised = ""

    @property
    def compact(self) -> bool:
        """Whether the learning rate and its neighbours have no plots of their own."""
        return "lr" not in self._boxes

    def is_pane(self, name: str) -> bool:
        """Whether it is shown as more than one line."""
        return name in self._boxes and self._boxes[name].height > 1

    def place(self) -> None:
        """Give every pane its box."""
        boxes = arrange(*self.size, self.hidden, self.maximised)
        if boxes == self._boxes:
            return
        self._boxes = boxes
        for name in PANES:
            pane, box = self.query_one(f"#{name}"), boxes.get(name)
            pane.display = box is not None
            if box is not None:
                pane.styles.offset = (box.x, box.y)
                pane.styles.width, pane.styles.height = box.width, box.height
                pane.set_class(box.height == 1, "-line")
        self.call_after_refresh(self._placed)

    def on_resize(self) -> None:
        self.place()
