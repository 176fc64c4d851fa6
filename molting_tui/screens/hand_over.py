"""A run for others: merged into one model for other programs, or packed into one file for another machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Label, Static

from engine.contract import outputs
from engine.contract.safe import safe

from .. import text
from ..services.paths import PathSuggester
from .dialog import Ask, Dialog
from .run_actions import RunActions

_FOR_ONE = frozenset({"merge", "pack"})


class Written(Dialog[None]):
    """Where something was written, and what is to be known of it."""

    def __init__(self, title: str, lines: Sequence[str]) -> None:
        super().__init__()
        self._title, self._lines = title, [safe(line, keep_newlines=False) for line in lines]

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Label(Content(self._title), classes="title")
            yield Static(Content("\n".join(self._lines)))
            yield Static(Content("esc closes, ctrl+c copies"), classes="hint")

    def copyable(self) -> str:
        """What ctrl+c copies."""
        return "\n".join(self._lines)


class HandOver(RunActions):
    """The actions of `molting merge` and `molting pack`, on the one run that keys act on."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in _FOR_ONE:
            return len(self.targets()) == 1
        return super().check_action(action, parameters)

    @work(exit_on_error=False)
    async def action_merge(self) -> None:
        (run,) = self.targets()
        name = self._names([run])
        to = await self._target(f"Merge {name} into the new folder", f"{run.id}-merged")
        if not to:
            return
        request = outputs.MergeRequest(run=run.path, models=str(self.molting.places.models), to=to)
        made = await self.wait_for(f"Merging {name}", lambda task: task.call("merge", request, outputs.Merged))
        if made is not None:
            what = f"{made.path}: {text.plural(made.files, 'file')}, {text.size(made.size)}, {made.precision}."
            self.app.push_screen(Written(f"{name} is one model now", [made.proof.sentence, what, *made.notes]))

    @work(exit_on_error=False)
    async def action_pack(self) -> None:
        (run,) = self.targets()
        name = self._names([run])
        to = await self._target(f"Pack {name} into the new file", f"{run.id}.molting.tar")
        if not to:
            return
        request = outputs.PackRequest(run=run.path, models=str(self.molting.places.models), file=to)
        made = await self.wait_for(f"Packing {name}", lambda task: task.call("pack", request, outputs.Packed))
        if made is not None:
            what = f"{made.path}: {text.plural(made.files, 'file')}, {text.size(made.size)}."
            left = [f"left out: {sentence}" for sentence in made.left_out]
            self.app.push_screen(Written(f"{name} is packed", [what, *left, "`molting unpack` opens it elsewhere."]))

    async def _target(self, title: str, name: str) -> str:
        """Where to write; empty: nowhere."""
        ask = Ask(title, str(Path.cwd() / name), hint="enter writes it, esc does not", suggester=PathSuggester())
        named = await self.app.push_screen_wait(ask)
        return str(Path(named).expanduser().absolute()) if named else ""
