"""The Chat screen on a scripted host: opening it, asking, waiting for what it says."""

from __future__ import annotations

from molting_tui.screens.chat import Chat
from tests.support.chat_host import fake_host
from tests.support.pilot import drive, settle, shown, typed, until


def chatting(place, play, script, **how):
    """Open Chat on the run and play; the app afterwards."""
    run, socket = place

    async def scenario(app, pilot):
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, Chat) and app.screen.opened is not None)
        await settle(app, pilot)
        await play(app, pilot, hosted)

    with fake_host(socket, script) as hosted:
        return drive(run.path.parent, scenario, **how)


async def ask(app, pilot, text="Who are you?"):
    await typed(pilot, text.replace("?", ""))
    await pilot.press("enter")
    await until(pilot, lambda: app.screen.answering is None and app.screen.saved > 0)
    await settle(app, pilot)


async def says(app, pilot, text):
    await until(pilot, lambda: text in " ".join(shown(app).split()))
