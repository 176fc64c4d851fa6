"""One run, live: its loss and all that belongs to it, from its first event on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, Label

from engine.contract import summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec
from engine.contract.summary import Summary

from .. import actions
from ..services import tail
from ..services.owner import owner_pid
from ..services.tail import RunTail
from ..state.alerts import Alert, alerts
from ..state.arrange import PANES, RATES
from ..state.curves import drawing, overlaid
from ..state.gpu import Machine, MemoryHistory, RunUse, gpu_of, use_of
from ..state.live import LiveRun
from ..widgets.alert_lines import AlertLines
from ..widgets.journey_strip import JourneyStrip
from ..widgets.lines_pane import LinesPane
from ..widgets.log_pane import LogPane
from ..widgets.panes import Panes
from ..widgets.plot import Plot
from ..widgets.run_head import RunHead, about_line, numbers_line, progress_line
from ..widgets.samples_pane import SamplesPane
from ..widgets.top_line import TopLine
from ..widgets.vram import MemoryPane
from .dialog import Choice
from .log_actions import LogActions
from .plot_actions import PlotActions

_HIDDEN = "live"  # of View.hidden
_TOLD_BY_THE_APP = frozenset({"failed", "lost"})  # on whatever screen one is
_OVERLAID = 5  # runs beside this one; so many colours there are


class Live(LogActions, PlotActions):
    """Applies what the tail posts at once, and paints at the app's rate what changed."""

    SCOPES = ("live", "list")
    TITLE = "Live"
    CSS_PATH = "../styles/live.tcss"
    BINDINGS = [*actions.bindings("live")]
    VERTICAL_BREAKPOINTS = [(0, "-tiny-height"), (10, "-short"), (24, "-tall"), (30, "-full")]

    MOST = 1 + _OVERLAID  # runs in one plot

    def __init__(self, run: RunDir, beside: Sequence[str] = ()) -> None:
        """`beside`: ids of runs that are laid over this one from the start, at most `MOST` with it."""
        super().__init__()
        self._beside = beside
        self.run = run
        self.runs: dict[str, LiveRun] = {run.id: LiveRun()}  # this one first, then those beside it
        self._tails: dict[str, RunTail] = {}
        self._colours: dict[str, int] = {run.id: 0}
        self._spec: Spec | None = None
        self._history = MemoryHistory()
        self._reading: float | None = 0.0  # the share of the history that was read; None: all
        self._trouble: tail.Trouble | None = None
        self._heartbeat: float | None = None
        self._owner = 0
        self._sampled: Machine | None = None
        self._told: set[str] | None = None  # alerts that had their toast; None before the history was read
        self._changed = True
        self._offered: object = None

    @property
    def live(self) -> LiveRun:
        return self.runs[self.run.id]

    def body(self) -> ComposeResult:
        ascii = self.molting.look.ascii
        yield RunHead()
        yield AlertLines()
        with Panes(self._repaint):
            yield Plot(ascii=ascii, id="loss", classes="pane")
            for name in RATES:
                yield Plot(ascii=ascii, empty="", id=name, classes="pane")
            yield MemoryPane(ascii=ascii, id="memory")
            yield SamplesPane(id="samples")
            yield LogPane(id="log")
        with Horizontal(id="filter"):
            yield Label("filter the log")
            yield Input(placeholder="words; escape shows all")
        yield JourneyStrip()

    def on_mount(self) -> None:
        panes = self.query_one(Panes)
        panes.hidden = list(self.molting.runs.view.hidden.get(_HIDDEN, []))
        self.use_choices()
        try:
            self._spec = summary.load_spec(self.run)
        except MoltingError:
            self._spec = None  # the table of runs tells what is wrong with it
        self.suit(self._spec.training.max_steps if self._spec else 0)
        self.query_one("#loss", Plot).focus()
        self._follow(self.run)
        for run_id in self._beside:
            self._overlay(run_id)

    def on_unmount(self) -> None:
        for each in self._tails.values():
            each.stop(wait=0.2)

    def _follow(self, run: RunDir) -> None:
        smoothing = self.plots[0].smoothing
        self._tails[run.id] = RunTail(run, self.post_message, smoothing=smoothing).start()

    # What happens

    @on(tail.History)
    def _read(self, message: tail.History) -> None:
        if message.run_id not in self.runs:
            return
        message.live.owned = self.runs[message.run_id].owned
        self.runs[message.run_id] = message.live
        if message.run_id == self.run.id:
            self._history, self._trouble = MemoryHistory(), None
            self._reading = None if message.complete else self._reading or 0.0
        self._changed = True

    @on(tail.Reading)
    def _progress(self, message: tail.Reading) -> None:
        if message.run_id == self.run.id:
            self._reading = message.share

    @on(tail.News)
    def _take(self, message: tail.News) -> None:
        if message.run_id in self.runs:
            message.apply_to(self.runs[message.run_id])
            self._changed = True

    @on(tail.Pulse)
    def _pulse(self, message: tail.Pulse) -> None:
        run = self.runs.get(message.run_id)
        if run is None:
            return
        self._changed = self._changed or run.owned != message.owned
        run.owned = message.owned
        if message.run_id == self.run.id:
            self._heartbeat = message.heartbeat
            self._owner = owner_pid(self.run) if message.owned else 0

    @on(tail.Trouble)
    def _fail(self, message: tail.Trouble) -> None:
        if message.run_id == self.run.id:
            self._trouble, self._reading = message, None
            self._changed = True

    # What is shown

    def targets(self) -> list[Summary]:
        run = self.molting.runs.known.get(self.run.id)
        return [run] if run is not None else []

    def live_line(self) -> Content:
        """The others: this run has the whole screen."""
        return self.molting.live_line(without=self.run.id)

    def paint(self) -> None:
        super().paint()
        now, width = time.time(), self.size.width
        name = self.molting.runs.name(self.run.id)
        self.query_one(TopLine).show_title(f"Live · {name}")
        use = self._use()
        self._paint_head(now, width, use)
        self._take_sample(use)
        if self._changed:
            self._changed = False
            self._show_curves()
            self._repaint()
            self._offer()
        self.align()
        self.show_journey()

    def _paint_head(self, now: float, width: int, use: RunUse) -> None:
        run = self.live
        lines = [progress_line(run, now, width, self._reading)]
        compact = self.query_one(Panes).compact
        lines.append(numbers_line(run, width) if compact else about_line(run, self._spec, width))
        self.query_one(RunHead).show(lines)
        machine = self.molting.machine
        gpu = gpu_of(machine, use) if machine and run.live else None
        found = alerts(
            run,
            now,
            heartbeat=self._heartbeat,
            device_used=gpu.used if gpu else None,
            device_total=gpu.total if gpu else None,
        )
        if self._trouble:
            found.insert(0, Alert("trouble", "error", self._trouble.message, self._trouble.remedy))
        self.query_one(AlertLines).show(found, width, 4 if self.has_class("-full") else 1)
        self._toast(found)

    def _toast(self, found: list[Alert]) -> None:
        """A toast once for what is new since the run was opened; the mark above the plot stays."""
        if self._reading is not None:
            return
        if self._told is not None:
            for each in found:
                if each.id not in self._told | _TOLD_BY_THE_APP:
                    said = f"{self.molting.runs.name(self.run.id)}: {each.message}"
                    self.molting.tell(said, "information" if each.severity == "note" else each.severity)
        self._told = (self._told or set()) | {each.id for each in found}

    def _use(self) -> RunUse:
        """Nothing where the run goes on elsewhere: its memory is not this machine's."""
        return use_of(self.live, self._owner) if self.live.owned else RunUse()

    def _take_sample(self, use: RunUse) -> None:
        machine = self.molting.machine
        if machine is None or machine is self._sampled:
            return
        self._sampled = machine
        self._history.follow(self.live)
        if self.live.owned:
            self._history.saw(self.live, machine)
        pane = self.query_one(MemoryPane)
        pane.show(machine, use)
        pane.follow(self._history, overlaid([drawing(self.live)]).ends)
        pane.repaint()

    def _show_curves(self) -> None:
        """Every plot with every run, in the run's colour."""
        for what in ("loss", *RATES):
            many = len(self.runs) > 1
            drawings = [
                drawing(run, what, self.molting.runs.short(run_id) if many else "", self._colours[run_id])
                for run_id, run in self.runs.items()
            ]
            shown = overlaid(drawings)
            self.query_one(f"#{what}", Plot).show(replace(shown, title=shown.title.replace("rate", "tokens/s", 1)))
        self.query_one("#loss", Plot).empty = self._nothing()
        samples = self.query_one(SamplesPane)
        samples.empty = self._no_samples()
        samples.show(self.live)
        self.query_one(LogPane).show(self.live)

    def _repaint(self) -> None:
        """Everything that depends on the run, at the size it has now."""
        for plot in self.plots:
            if plot.display:
                plot.refresh_data()
        for pane in self.query(LinesPane):
            if pane.display:
                pane.repaint()
        self.query_one(MemoryPane).repaint()

    def _nothing(self) -> str:
        """What stands where the loss will be."""
        run = self.live
        if run.live:
            return f"No steps yet: {run.phase.name if run.phase else run.state}."
        again = actions.shown_keys(self.molting.registry["resume"].keys)
        return f"It ended before its first step; {again} starts it again." if run.stored else "Reading …"

    def _no_samples(self) -> str:
        spec = self._spec
        if spec is None or (spec.evaluation.probes and spec.evaluation.sample_every != 0):
            return "No samples yet: the probe questions are asked every few steps."
        again = actions.shown_keys(self.molting.registry["edit"].keys)
        return f"No samples: the spec names no probe questions. {again} edits a copy; see evaluation.probes."

    def _offer(self) -> None:
        """The footer follows the state of the run."""
        now = [(run.state, run.owned, run.checkpoint) for run in self.targets()]
        if now != self._offered:
            self._offered = now
            self.refresh_bindings()

    # What keys do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in {"older_sample", "newer_sample"}:
            return bool(self.live.samples)
        return super().check_action(action, parameters)

    def back(self) -> bool:
        """First the filter, then the maximised pane, the cursor and the zoom."""
        box = self.query_one("#filter")
        panes = self.query_one(Panes)
        if box.has_class("-shown"):
            self.query_one(Input).value = ""
            box.remove_class("-shown")
            self.query_one(LogPane).focus()
        elif self.query_one(LogPane).raw is not None:
            self.action_raw_log()
        elif panes.maximised:
            self.action_maximise()
        else:
            return self.undo_plot()
        return True

    def copyable(self) -> str:
        pane = self.focused
        return pane.copyable() if isinstance(pane, (LogPane, SamplesPane)) else str(self.run.path)

    def action_maximise(self) -> None:
        panes = self.query_one(Panes)
        focused = self.focused.id if self.focused and self.focused.id in PANES else "loss"
        panes.maximised = "" if panes.maximised else focused or "loss"
        panes.place()

    def action_pane_rates(self) -> None:
        self._toggle("rates")

    def action_pane_memory(self) -> None:
        self._toggle("memory")

    def action_pane_samples(self) -> None:
        self._toggle("samples")

    def action_pane_log(self) -> None:
        self._toggle("log")

    def _toggle(self, pane: str) -> None:
        panes = self.query_one(Panes)
        panes.hidden = [each for each in panes.hidden if each != pane] + ([] if pane in panes.hidden else [pane])
        panes.maximised = ""
        panes.place()
        hidden = list(panes.hidden)
        self.remember(lambda view: view.hidden.__setitem__(_HIDDEN, hidden))

    def action_older_sample(self) -> None:
        self.query_one(SamplesPane).move(-1)

    def action_newer_sample(self) -> None:
        self.query_one(SamplesPane).move(1)

    @work
    async def action_overlay(self) -> None:
        """Lay another run over this one, or take it away again."""
        names = {}
        for run_id in self.molting.runs.rows():
            if run_id != self.run.id and run_id in self.molting.runs.known:
                mark = "✓ " if run_id in self.runs else "  "
                names[f"{mark}{self.molting.runs.name(run_id)}  {run_id}"] = run_id
        if not names:
            self.molting.tell("There is no other run to lay over this one.")
            return
        chosen = await self.app.push_screen_wait(Choice("Lay a run over this one", names, next(iter(names))))
        if chosen is not None:
            self._overlay(names[chosen])

    def _overlay(self, run_id: str) -> None:
        if run_id in self.runs:
            self._tails.pop(run_id).stop(wait=0.2)
            del self.runs[run_id], self._colours[run_id]
        elif len(self.runs) > _OVERLAID:
            self.molting.tell(f"{_OVERLAID} runs are laid over this one already; take one away first.", "warning")
            return
        else:
            self._colours[run_id] = min(set(range(1, _OVERLAID + 1)) - set(self._colours.values()))
            self.runs[run_id] = LiveRun()
            self._follow(RunDir(self.molting.places.runs / run_id))
        self._changed = True
