"""The keys that work here, from the registry."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Label, Static

from .. import text
from ..actions import SCOPES, Action, in_scope, shown_keys
from .dialog import Dialog

_LEAST = 14  # cells of the column of keys
_WIDTH, _AROUND = 78, 7  # cells of the box, as dialog.tcss has it; and of its border, padding and scrollbar


class Help(Dialog[None]):
    """Lists the actions of some scopes with the user's own keys."""

    def __init__(self, scopes: tuple[str, ...], registry: Iterable[Action]) -> None:
        super().__init__()
        self._scopes, self._registry = scopes, tuple(registry)

    def compose(self) -> ComposeResult:
        with Vertical(classes="box help"):
            yield Label(Content("Keys that work here"), classes="title")
            with VerticalScroll():
                yield Static(self._page())
            yield Static(Content("arrows scroll, esc closes; [keys] in config.toml changes them"), classes="hint")

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def _page(self) -> Content:
        lines: list[Content] = []
        width = min(_WIDTH, self.app.size.width) - _AROUND
        for scope in self._scopes:
            actions = [action for action in in_scope([scope], self._registry) if action.keys]
            if actions:
                lines += [Content(), Content.assemble((SCOPES[scope], "bold"))]
                column = max([_LEAST, *(cell_len(shown_keys(action.keys)) + 1 for action in actions)])
                lines += [_line(action, column, width) for action in actions]
        return Content("\n").join(lines[1:])


def _line(action: Action, column: int, width: int) -> Content:
    """The description wraps beside the keys, which have `column` cells, not under them."""
    keys = shown_keys(action.keys)
    said = f"\n{' ' * column}".join(text.wrap(action.description, width - column))
    return Content.assemble((keys, "bold $primary"), " " * (column - cell_len(keys)), said)
