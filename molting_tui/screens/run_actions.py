"""What can be done to runs, on every screen that shows some: stop, save, resume, a copy of the spec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from textual import work

from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.summary import Summary

from .. import text
from ..services import control
from .dialog import Confirm
from .page import Page

if TYPE_CHECKING:
    from ..services.control import Command
    from ..services.task import Task

T = TypeVar("T")


class RunActions(Page):
    """Asks `targets` what to act on. Long work shows its progress and can be cancelled."""

    def targets(self) -> list[Summary]:
        """The runs that a key acts on now."""
        return []

    def elsewhere(self, verb: str) -> None:
        """Do the same to the runs on other machines, where a screen lists some: `stop`, `stop-now` or `resume`."""

    def started(self, run_id: str) -> None:
        """A run was started from here; it will be listed in a moment."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Footer and palette offer only what is possible with the runs at hand."""
        if action in {"stop", "stop_now"}:
            return any(_stoppable(run) for run in self.targets())
        if action == "save_now":
            return any(run.state == "training" for run in self.targets())
        if action == "resume":
            return any(_resumable(run) for run in self.targets())
        if action in {"edit", "why", "rows", "chat", "grade", "curate", "generations"}:
            return len(self.targets()) == 1
        return super().check_action(action, parameters)

    @work(exit_on_error=False)
    async def action_stop(self) -> None:
        self.elsewhere("stop")
        runs = [run for run in self.targets() if _stoppable(run)]
        if not runs:
            return
        if all(control.stopping(RunDir(Path(run.path)), run.state) for run in runs):
            await self._end_now(runs, "It was asked to stop already, and is saving. Ending it now leaves that out.")
            return
        said = "The step is finished and saved first; r continues it later."
        if all(run.state == "queued" for run in runs):
            said = "It waits for its turn and has not begun; r queues it again."
        if await self.app.push_screen_wait(Confirm(f"Stop {self._names(runs)}?", said, "Stop", "Let it run")):
            self._ask(runs, "stop")

    @work(exit_on_error=False)
    async def action_stop_now(self) -> None:
        self.elsewhere("stop-now")
        runs = [run for run in self.targets() if _stoppable(run)]
        if runs:
            await self._end_now(runs, "It ends at once, without saving.")

    async def _end_now(self, runs: list[Summary], why: str) -> None:
        said = f"{why} {_lost(runs)}"
        if await self.app.push_screen_wait(Confirm(f"End {self._names(runs)} now?", said, "End now", "Let it run")):
            self._ask(runs, "stop-now")

    def action_save_now(self) -> None:
        self._ask([run for run in self.targets() if run.state == "training"], "save-now")

    def _ask(self, runs: list[Summary], command: Command) -> None:
        words = {"stop": "asked to save and stop", "stop-now": "asked to end now", "save-now": "asked to save"}
        try:
            for run in runs:
                control.ask(RunDir(Path(run.path)), command)
        except MoltingError as error:
            self.molting.fail(error)
            return
        if runs:
            self.molting.tell(f"{self._names(runs)}: {words[command]}.")
        jobs = [run for run in runs if run.slurm]
        if jobs and command != "save-now":
            self._tell_slurm(jobs, now=command == "stop-now")

    @work(exit_on_error=False)
    async def _tell_slurm(self, runs: list[Summary], *, now: bool) -> None:
        """Slurm takes a waiting run out of its queue; one that runs finds its order sooner."""
        from engine.contract import calls

        def tell(task: Task) -> None:
            for run in runs:
                task.call("stop-job", calls.StopJobRequest(run=run.path, now=now), calls.Started)

        await self.wait_for(f"Telling Slurm to stop {self._names(runs)}", tell)

    @work(exit_on_error=False)
    async def action_resume(self) -> None:
        from engine.contract import calls

        self.elsewhere("resume")
        runs = [run for run in self.targets() if _resumable(run)]
        models = str(self.molting.places.models)

        def resume(task: Task) -> list[str]:
            requests = [calls.RunRequest(run=run.path, models=models) for run in runs]
            return [task.call("resume", request, calls.Started).run for request in requests]

        if runs and await self.wait_for(f"Resuming {self._names(runs)}", resume) is not None:
            self.molting.tell(f"{self._names(runs)}: queued again; it starts when its device is free.")

    @work(exit_on_error=False)
    async def action_edit(self) -> None:
        from .new_run import NewRun

        started = await self.app.push_screen_wait(NewRun.like(self.targets()[0]))
        if started:
            self.started(started)

    @work(exit_on_error=False)
    async def action_why(self) -> None:
        from engine.contract import calls

        from .why import Why

        (run,) = self.targets()
        request = calls.WhyRequest(run=run.path, models=str(self.molting.places.models))
        name = self._names([run])
        found = await self.wait_for(
            f"Why {name} changed nothing, if so", lambda task: task.call("why", request, calls.Investigation)
        )
        if found is not None:
            await self.app.push_screen_wait(Why(name, found))

    def action_chat(self) -> None:
        """Base and adapter of the run, asked side by side."""
        from .chat import Chat

        for run in self.targets()[:1]:
            self.app.push_screen(Chat(RunDir(Path(run.path))))

    @work(exit_on_error=False)
    async def action_grade(self) -> None:
        from .grading import grade

        for run in self.targets()[:1]:
            await grade(self.molting, RunDir(Path(run.path)))

    @work(exit_on_error=False)
    async def action_curate(self) -> None:
        """Its answers for the next set; made now where there are none."""
        from .curating import curate

        for run in self.targets()[:1]:
            await curate(self.molting, RunDir(Path(run.path)))

    def action_generations(self) -> None:
        """The ledger of the run's family."""
        from engine.contract import generations

        from .ledger import Ledger

        for run in self.targets()[:1]:
            entries = generations.ledger(RunDir(Path(run.path)))
            self.app.push_screen(Ledger(entries, run.id, ascii=self.molting.look.ascii))

    def action_rows(self) -> None:
        """The frozen rows of the run, as its model sees them."""
        from engine.contract.rows import DataRequest

        from .data import Data

        for run in self.targets()[:1]:
            if run.imported:
                self.molting.tell(f"{self._names([run])} was imported: its rows were not recorded.", "warning")
                return
            spec = RunDir(Path(run.path)).spec
            self.app.push_screen(Data(DataRequest(file=str(spec), models=str(self.molting.places.models))))

    async def wait_for(self, title: str, work: Callable[[Task], T]) -> T | None:
        """Do `work` behind a dialog; its result, or None when it failed, which is then told, or was cancelled."""
        from .job import Job

        result: T | MoltingError | None = await self.app.push_screen_wait(Job(title, work))
        if isinstance(result, MoltingError):
            self.molting.fail(result)
            return None
        return result

    def _names(self, runs: list[Summary]) -> str:
        return self.molting.runs.name(runs[0].id) if len(runs) == 1 else text.plural(len(runs), "run")


def _stoppable(run: Summary) -> bool:
    return run.live and run.owned is not False


def _resumable(run: Summary) -> bool:
    """Ended before its time, or waiting for a supervisor that is gone."""
    return run.state in {"interrupted", "failed", "lost"} or (run.state == "queued" and run.owned is False)


def _lost(runs: list[Summary]) -> str:
    steps = sum(max(0, run.step - (run.checkpoint or 0)) for run in runs)
    return f"{text.plural(steps, 'step')} since the last checkpoint {'is' if steps == 1 else 'are'} lost."
