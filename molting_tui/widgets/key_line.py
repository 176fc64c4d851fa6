"""The one line of footer: the keys that work here, from the registry, as many as there is room for."""

from __future__ import annotations

from collections.abc import Mapping

from textual import events
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input

from ..actions import Action, key_names, shown_key

_ALWAYS = ("back", "help", "palette")  # at the right, however little room there is


class KeyLine(Widget):
    """Follows the screen's active bindings. A click on a key does what the key does."""

    def __init__(self, registry: Mapping[str, Action]) -> None:
        super().__init__()
        self._registry = registry
        self._spans: list[tuple[int, int, str]] = []  # first cell, last cell, action

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[object]) -> None:
        self.refresh()

    def render(self) -> Content:
        """Left what works here in the registry's order, right help and palette."""
        width = self.size.width
        right = self._items(_ALWAYS)
        room = width - sum(len(key) + len(label) + 3 for key, label, _ in right) - 1
        parts: list[Content | tuple[str, str] | str] = [" "]
        self._spans, at = [], 1
        for key, label, method in self._items(self._shown()):
            size = len(key) + 1 + len(label)
            if at + size > room:
                break
            at = self._add(parts, at, key, label, method)
        parts.append(" " * max(0, room - at + 1))
        at = max(at, room + 1)
        for key, label, method in right:
            at = self._add(parts, at, key, label, method)
        return Content.assemble(*parts)

    def _add(self, parts: list, at: int, key: str, label: str, method: str) -> int:
        parts += [(key, "bold $primary"), " ", (label, "$muted"), "  "]
        end = at + len(key) + 1 + len(label)
        self._spans.append((at, end, method))
        return end + 2

    def _shown(self) -> list[str]:
        active = {binding.binding.id for binding in self.screen.active_bindings.values() if binding.enabled}
        return [
            action.id
            for action in self._registry.values()
            if action.show and action.id in active and action.id not in _ALWAYS
        ]

    def _items(self, ids: list[str] | tuple[str, ...]) -> list[tuple[str, str, str]]:
        """(key, label, method) of actions, with the keys of the user's own keymap."""
        found = (self._registry[each] for each in ids)
        return [(shown_key(self._heard(each)), each.label, each.method) for each in found]

    def _heard(self, action: Action) -> str:
        """The action's first key; while text is typed, the first that is not a letter."""
        keys = key_names(action.keys)
        typing = isinstance(self.screen.focused, Input)
        return next((key for key in keys if len(key) > 1 and key != "question_mark"), keys[0]) if typing else keys[0]

    async def on_click(self, event: events.Click) -> None:
        for first, last, method in self._spans:
            if first <= event.x < last:
                owner = self.screen if hasattr(self.screen, f"action_{method}") else self.app
                await owner.run_action(method)
                return
