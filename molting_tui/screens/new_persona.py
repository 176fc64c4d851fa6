"""A new persona folder, made from the app: its name, and what it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.errors import MoltingError

from ..commands.init import make, name_problem
from .dialog import Ask, Choice

if TYPE_CHECKING:
    from ..app import MoltingApp

_EMPTY = "nothing: a folder to fill"


async def new_persona(app: MoltingApp) -> Path | None:
    """The folder that was made, or None. Called in a worker; failures are told."""
    name = await app.push_screen_wait(
        Ask("A new persona called", hint=f"a folder in {Path.cwd()}", problem=name_problem)
    )
    if not name:
        return None
    starts = {_EMPTY: "", "rhea: the radio of a lighthouse": "rhea", "zeca: an elevator, in Portuguese": "zeca"}
    chosen = await app.push_screen_wait(Choice("It starts from", starts, _EMPTY))
    if chosen is None:
        return None
    try:
        return make(Path.cwd() / name, name, starts[chosen])
    except MoltingError as error:
        app.fail(error)
        return None
