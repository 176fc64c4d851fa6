"""`molting` on a terminal: the app."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.contract import settings
from engine.contract.rundir import RunDir


def open_app(runs: Path | None = None, *, mouse: bool = True, ascii: bool = False, show: RunDir | None = None) -> int:
    """Show the app until the user leaves, with the run `show` first; the exit status.

    MoltingError (code 2) for settings that are wrong.
    """
    from ..app import Folders, run
    from ..look import decide

    loaded = settings.load()
    look = decide(loaded.ui)
    folders = Folders(runs.expanduser().absolute() if runs else loaded.runs, loaded.models)
    return run(folders, loaded, replace(look, mouse=look.mouse and mouse, ascii=look.ascii or ascii), show)
