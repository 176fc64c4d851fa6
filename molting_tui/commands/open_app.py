"""`molting` on a terminal: the app."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract import settings
from engine.contract.rundir import RunDir

if TYPE_CHECKING:
    from engine.contract.rows import DataRequest

    from ..services.grades import Wanted


def open_app(
    runs: Path | None = None,
    *,
    mouse: bool = True,
    ascii: bool = False,
    show: RunDir | None = None,
    data: DataRequest | None = None,
    chat: RunDir | None = None,
    grade: tuple[RunDir, Wanted | None] | None = None,
) -> int:
    """Show the app until the user leaves, with what is given first: the run `show`, the rows of `data`, a chat, a form
    for grading; the exit status.

    MoltingError (code 2) for settings that are wrong.
    """
    from ..app import Folders, run
    from ..look import decide

    loaded = settings.load()
    look = decide(loaded.ui)
    folders = Folders(runs.expanduser().absolute() if runs else loaded.runs, loaded.models)
    seen = replace(look, mouse=look.mouse and mouse, ascii=look.ascii or ascii)
    return run(folders, loaded, seen, show, data, chat, grade)
