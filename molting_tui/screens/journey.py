"""What is done to a run after its training, and the one key that does what comes next."""

from __future__ import annotations

from pathlib import Path

from textual import work

from engine.contract.rundir import RunDir
from engine.contract.summary import Summary

from ..actions import shown_keys
from ..state.journey import Journey, Traces, journey
from ..widgets.journey_strip import JourneyStrip
from .hand_over import HandOver

_FOR_ONE = frozenset({"prove", "report"})


class AfterTraining(HandOver):
    """For a screen with a `JourneyStrip`; it says what its keys act on and calls `show_journey` as it paints."""

    def __init__(self) -> None:
        super().__init__()
        self._known_as: object = None  # what the run's files were last looked at for
        self._traces: tuple[str, Traces] | None = None
        self._journey: Journey | None = None

    def on_screen_resume(self) -> None:
        """What was done on another screen may have left something in the run."""
        self._known_as = None

    def show_journey(self) -> None:
        """Show where the one run stands that keys act on."""
        runs = self.targets()
        run = runs[0] if len(runs) == 1 else None
        wanted = (run.id, run.state, run.score) if run else None
        if run is not None and wanted != self._known_as:
            self._known_as = wanted
            self._read_traces(run)
        known = self._traces[1] if run and self._traces and self._traces[0] == run.id else None
        found = journey(run, known, self._child(run)) if run and known else None
        key = shown_keys(self.molting.registry["next-step"].keys)
        self.query_one(JourneyStrip).show(found, key if found and self._can(found) else "")
        if found != self._journey:
            self._journey = found
            self.refresh_bindings()

    def _child(self, run: Summary) -> str:
        child = self.molting.runs.child(run.id)
        return self.molting.runs.name(child) if child else ""

    @work(thread=True, exclusive=True, group="journey", exit_on_error=False)
    def _read_traces(self, run: Summary) -> None:
        from ..services.journey import traces

        seen = traces(RunDir(Path(run.path)))
        self.app.call_from_thread(self._seen, run.id, seen)

    def _seen(self, run_id: str, seen: Traces) -> None:
        self._traces = (run_id, seen)
        self.show_journey()

    def _can(self, found: Journey) -> bool:
        return bool(found.action) and hasattr(self, f"action_{found.action}")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "next_step":
            return self._journey is not None and self._can(self._journey)
        if action in _FOR_ONE:
            return len(self.targets()) == 1
        if action == "differs":
            return len(self.targets()) in (1, 2)
        return super().check_action(action, parameters)

    def action_next_step(self) -> None:
        """What the strip names."""
        if self._journey is not None and self._can(self._journey):
            getattr(self, f"action_{self._journey.action}")()

    def action_prove(self) -> None:
        """Measure what the training changed, or show what was measured."""
        for run in self.targets()[:1]:
            self.molting.prove(RunDir(Path(run.path)))

    @work(exit_on_error=False)
    async def action_report(self) -> None:
        """Write the report and show it."""
        from engine.contract import verdict

        from .comparing import other_run
        from .report import ReportPage

        (run,) = self.targets()
        name = self._names([run])
        graded = run.score is not None and not run.parent  # which cycle came before is recorded, or asked
        other = await other_run(self.molting, run, "Report it beside", "no other run") if graded else []
        if other is None:
            return
        request = verdict.ReportRequest(run=run.path, against=other[0].path if other else "")
        made = await self.wait_for(
            f"Writing the report of {name}", lambda task: task.call("report", request, verdict.Reported)
        )
        if made is not None:
            self.app.push_screen(ReportPage(made, name))

    @work(exit_on_error=False)
    async def action_differs(self) -> None:
        """Compare two runs, or one with what is then chosen."""
        from .comparing import compare

        await compare(self.molting, self.targets())
