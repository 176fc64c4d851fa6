"""Where a question is written: Enter sends, ctrl+j and alt+enter begin a new line, Esc leaves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.widgets import TextArea

from .. import actions
from ..actions import Action


class Composer(TextArea):
    """Grows with what is written, up to a few lines; the keys are those that reach a program inside tmux."""

    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("composer")]
    DEFAULT_CSS = """
    Composer { height: auto; min-height: 1; max-height: 6; border: none; padding: 0 1; background: $surface;
        scrollbar-size-vertical: 1; }
    Composer:focus { border: none; background: $panel; }
    """

    class Sent(Message):
        """Enter: `text` is to be asked."""

        def __init__(self, composer: Composer, text: str) -> None:
            super().__init__()
            self.composer, self.text = composer, text

    class Left(Message):
        """Esc: letters act again."""

    class Scrolled(Message):
        """Page up or down, which scrolls what was said and not the question."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    class Interrupted(Message):
        """ctrl+c with nothing selected."""

    def __init__(self, text: str = "", placeholder: str = "", id: str | None = None) -> None:
        super().__init__(
            text,
            soft_wrap=True,
            compact=True,
            show_line_numbers=False,
            tab_behavior="focus",
            placeholder=placeholder,
            id=id,
        )
        self.cursor_blink = False  # it would write to the terminal all the time

    async def _on_key(self, event: events.Key) -> None:
        # Here and not by a priority binding, which would overtake characters that are still on their way.
        act = self._action(event.key)
        if act is None:
            await super()._on_key(event)
            return
        event.stop()
        event.prevent_default()
        act()

    def _action(self, key: str) -> Callable[[], object] | None:
        """What a key does here that does not write."""
        for id, act in (("open", self.action_open), ("newline", self.action_newline)):
            if key in self._keys(id):
                return act
        if key == "escape":
            return partial(self.post_message, self.Left())
        if key in ("pageup", "pagedown"):
            return partial(self.post_message, self.Scrolled(-1 if key == "pageup" else 1))
        if key == "ctrl+c" and not self.selected_text:
            return partial(self.post_message, self.Interrupted())
        return None

    def _keys(self, id: str) -> list[str]:
        registry: Mapping[str, Action] = getattr(self.app, "registry", actions.BY_ID)
        return actions.key_names(registry[id].keys)

    def action_open(self) -> None:
        self.post_message(self.Sent(self, self.text))

    def action_newline(self) -> None:
        self.insert("\n")
