"""What the command palette offers: the actions that are possible now, with their keys."""

from __future__ import annotations

from collections.abc import Iterator

from textual.command import DiscoveryHit, Hit, Hits, Provider

from .actions import Action, in_scope, shown_keys


class ActionProvider(Provider):
    """Finds actions of the screen below by their label and description."""

    def _possible(self) -> Iterator[Action]:
        from .app import MoltingApp

        app = self.app
        assert isinstance(app, MoltingApp)
        found: set[str] = set()
        for action in in_scope(app.scopes_of(self.screen), app.actions):
            owner = self.screen if hasattr(self.screen, f"action_{action.method}") else app
            possible = hasattr(owner, f"action_{action.method}") and owner.check_action(action.method, ())
            if possible and action.id not in found | {"palette", "suspend"}:
                found.add(action.id)
                yield action

    async def discover(self) -> Hits:
        for action in self._possible():
            yield DiscoveryHit(_title(action), self._runner(action), help=action.description)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in self._possible():
            title = _title(action)
            if (score := max(matcher.match(title), 0.6 * matcher.match(action.description))) > 0:
                yield Hit(score, matcher.highlight(title), self._runner(action), text=title, help=action.description)

    def _runner(self, action: Action):  # type: ignore[no-untyped-def]
        owner = self.screen if hasattr(self.screen, f"action_{action.method}") else self.app

        async def run() -> None:
            await owner.run_action(action.method)

        return run


def _title(action: Action) -> str:
    return f"{action.label}  ({shown_keys(action.keys)})" if action.keys else action.label
