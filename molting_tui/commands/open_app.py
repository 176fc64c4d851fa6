"""`molting` on a terminal: the app."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.contract import settings

from ..begin import Begin

if TYPE_CHECKING:
    from .context import Places  # not at run time: `molting` alone opens the app without the command line


def open_app(where: Places | None = None, begin: Begin | None = None) -> int:
    """Show the app until the user leaves; the exit status. MoltingError (code 2) for settings that are wrong."""
    from ..app import Folders, run
    from ..look import decide

    loaded = settings.load()
    look = decide(loaded.ui)
    folders = Folders(where.runs, where.models) if where else Folders(loaded.runs, loaded.models)
    seen = replace(look, mouse=look.mouse and where.mouse, ascii=look.ascii or where.ascii) if where else look
    return run(folders, loaded, seen, begin or Begin())
