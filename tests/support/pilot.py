"""The app driven by keys, and what stands on its screen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.app import App
from textual.pilot import Pilot

from engine.contract.settings import Settings
from molting_tui.app import Folders, MoltingApp
from molting_tui.look import Look

Scenario = Callable[[MoltingApp, Pilot[Any]], Awaitable[None]]


def drive(
    runs: Path,
    scenario: Scenario,
    *,
    size: tuple[int, int] = (120, 40),
    look: Look | None = None,
    settings: Settings | None = None,
    toasts: bool = False,
) -> MoltingApp:
    """Open the app on a folder of runs, wait until they are read, and play `scenario`; `toasts` paints them too."""
    app = MoltingApp(Folders(runs, runs.parent / "models"), settings or Settings(), look or Look(rate=20.0))

    async def play() -> None:
        async with app.run_test(size=size, notifications=toasts) as pilot:
            await until(pilot, lambda: app.runs.complete)
            await settle(app, pilot)
            await scenario(app, pilot)

    asyncio.run(play())
    return app


async def until(pilot: Pilot[Any], condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait for something to come true; fail when it does not."""
    for _ in range(int(seconds / 0.05)):
        await pilot.pause(0.02)
        if condition():
            return
        await asyncio.sleep(0.03)
    raise AssertionError(f"It did not come true within {seconds:.0f} s; there stood:\n{shown(pilot.app)}")


async def settle(app: MoltingApp, pilot: Pilot[Any]) -> None:
    """Let one repaint pass."""
    await pilot.pause(2.5 / app.look.rate)
    await pilot.pause()


def shown(app: App[Any]) -> str:
    """What stands on the screen, line by line, as it is painted."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


async def typed(pilot: Pilot[Any], text: str) -> None:
    """Type text into what has the focus."""
    names = {" ": "space", "/": "slash", ".": "full_stop", "-": "minus", "_": "underscore"}
    await pilot.press(*(names.get(character, character) for character in text))
