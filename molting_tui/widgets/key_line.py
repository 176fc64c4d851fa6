"""The one line of footer: the keys that work here, from the registry, as many as there is room for."""

from __future__ import annotations

from collections.abc import Mapping

from textual import events
from textual.content import Content
from textual.screen import ActiveBinding, Screen
from textual.widget import Widget

from ..actions import Action, key_names, shown_key

_ALWAYS = ("back", "help", "palette")  # at the right, however little room there is


class KeyLine(Widget):
    """Follows the screen's active bindings. A click on a key does what the key does."""

    def __init__(self, registry: Mapping[str, Action]) -> None:
        super().__init__()
        self._registry = registry
        self._spans: list[tuple[int, int, ActiveBinding]] = []  # first cell, last cell, what is there

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[object]) -> None:
        self.refresh()

    def render(self) -> Content:
        """Left what works here in the registry's order, right help and palette."""
        active = {each.binding.id: each for each in self.screen.active_bindings.values() if each.enabled}
        width = self.size.width
        right = [active[id] for id in _ALWAYS if id in active]
        room = width - sum(len(self._key(each)) + len(each.binding.description) + 3 for each in right) - 1
        parts: list[Content | tuple[str, str] | str] = [" "]
        self._spans, at = [], 1
        for each in (active[id] for id in self._registry if id in active and id not in _ALWAYS):
            if not each.binding.show or self._typed(each):
                continue
            if at + len(self._key(each)) + 1 + len(each.binding.description) > room:
                break
            at = self._add(parts, at, each)
        parts.append(" " * max(0, room - at + 1))
        at = max(at, room + 1)
        for each in right:
            at = self._add(parts, at, each)
        return Content.assemble(*parts)

    def _add(self, parts: list, at: int, each: ActiveBinding) -> int:
        key, label = self._key(each), each.binding.description
        parts += [(key, "bold $primary"), " ", (label, "$muted"), "  "]
        end = at + len(key) + 1 + len(label)
        self._spans.append((at, end, each))
        return end + 2

    def _keys(self, each: ActiveBinding) -> list[str]:
        """The keys of the action, with those of the user's own keymap."""
        return key_names(self._registry[each.binding.id or ""].keys)

    def _typing(self) -> bool:
        focused = self.screen.focused
        return focused is not None and focused.check_consume_key("a", "a")

    def _typed(self, each: ActiveBinding) -> bool:
        """Whether all its keys are characters, and text is being typed."""
        return self._typing() and all(len(shown_key(key)) == 1 for key in self._keys(each))

    def _key(self, each: ActiveBinding) -> str:
        """The action's first key as it is shown; while text is typed, the first that is not a letter."""
        keys = self._keys(each)
        heard = next((key for key in keys if len(key) > 1 and key != "question_mark"), keys[0])
        return shown_key(heard if self._typing() else keys[0])

    async def on_click(self, event: events.Click) -> None:
        for first, last, each in self._spans:
            if first <= event.x < last:
                await self.app.run_action(each.binding.action, each.node)
                return
