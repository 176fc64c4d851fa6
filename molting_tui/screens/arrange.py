"""How the user arranges runs: pins, names, archive, trash. Display only, but for the trash, which has a way back."""

from __future__ import annotations

from collections.abc import Callable

from textual import work

from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir

from .. import text
from ..actions import shown_keys
from ..services import trash
from ..state.run_list import RunList
from ..state.view import View
from .dialog import Ask, Confirm
from .journey import AfterTraining


class Arrange(AfterTraining):
    """For a screen that lists runs: it says which ones are meant and shows what changed."""

    def __init__(self) -> None:
        super().__init__()
        self._deleted: list[list[str]] = []  # what `undo` brings back, the last first
        self._go_to = ""  # a run that was just started or brought back, and is not listed yet

    @property
    def runs(self) -> RunList:
        return self.molting.runs

    def ids(self) -> list[str]:
        """The runs that a key acts on now."""
        return []

    def under_cursor(self) -> str | None:
        """The run under the cursor."""
        return None

    def started(self, run_id: str) -> None:
        self._go_to = run_id

    def rearranged(self) -> None:
        """Show what changed, now."""

    def _remember(self, edit: Callable[[View], None]) -> None:
        """Change the arrangement on disk, then on the screen."""
        try:
            self.runs.view = self.molting.store.change(edit)
        except MoltingError as error:
            self.molting.fail(error)
        self.rearranged()

    def action_pin(self) -> None:
        self._toggle("pinned")

    def action_archive(self) -> None:
        self._toggle("archived")
        self.runs.selected.clear()

    def _toggle(self, kind: str) -> None:
        ids = self.ids()

        def edit(view: View) -> None:
            present: list[str] = getattr(view, kind)
            kept = [each for each in present if each not in ids]
            setattr(view, kind, kept if set(ids) <= set(present) else [*kept, *ids])

        self._remember(edit)

    @work(exit_on_error=False)
    async def action_rename(self) -> None:
        run_id = self.under_cursor()
        if run_id is None:
            return
        hint = "Shown here and by `molting`; the run itself stays as it is. Empty gives it its own name back."
        name = await self.app.push_screen_wait(Ask("Show this run as", self.runs.name(run_id), hint=hint))
        if name is None:
            return
        clean = " ".join(name.split())[:200]

        def edit(view: View) -> None:
            view.names.pop(run_id, None)
            if clean:
                view.names[run_id] = clean

        self._remember(edit)

    @work(exit_on_error=False)
    async def action_delete(self) -> None:
        ids = self.ids()
        if live := [run.id for run in self.runs.live() if run.id in ids]:
            self.molting.tell(f"{self.runs.name(live[0])} is live: stop it first.", "warning")
            return
        what = self.runs.name(ids[0]) if len(ids) == 1 else text.plural(len(ids), "run")
        undo = shown_keys(self.molting.registry["undo"].keys)
        it = "it" if len(ids) == 1 else "them"
        said = f"{'It moves' if len(ids) == 1 else 'They move'} to the trash; {undo} brings {it} back."
        if not await self.app.push_screen_wait(Confirm(f"Delete {what}?", said, "Delete")):
            return
        done: list[str] = []
        try:
            for run_id in ids:
                trash.delete(RunDir(self.molting.places.runs / run_id))
                done.append(run_id)
        except MoltingError as error:
            self.molting.fail(error)
        if done:
            self._deleted.append(done)
            self.runs.forget(done)
            self.rearranged()
            self.molting.tell(f"{text.plural(len(done), 'run')} in the trash; {undo} brings {it} back.")

    def action_undo(self) -> None:
        if not self._deleted:
            return
        try:
            for run_id in self._deleted[-1]:
                trash.restore(run_id, self.molting.places.runs)
        except MoltingError as error:
            self.molting.fail(error)
        back = self._deleted.pop()
        self.app.clear_notifications()  # the one that says they are in the trash
        self.molting.tell(f"{text.plural(len(back), 'run')} brought back.")
        self._go_to = back[0]

    @work(exit_on_error=False)
    async def action_empty_trash(self) -> None:
        runs = self.molting.places.runs
        there = trash.contents(runs)
        if not there:
            self.molting.tell("The trash is empty.")
            return
        said = "Their checkpoints, adapters and logs are gone for good."
        title = f"Delete {text.plural(len(there), 'run')} in the trash?"
        if await self.app.push_screen_wait(Confirm(title, said, "Delete for good")):
            gone = await self.wait_for("Emptying the trash", lambda task: trash.empty(runs))
            self._deleted.clear()
            if gone is not None:
                self.molting.tell(f"{text.plural(gone, 'run')} deleted for good.")
