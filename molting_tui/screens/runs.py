"""All runs: the table, the pane beside it, and what can be done to them."""

from __future__ import annotations

from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Center, Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Label, Static

from engine.contract.rundir import RunDir
from engine.contract.summary import Summary

from .. import actions
from ..actions import shown_keys
from ..services.glance import glance
from ..state.glance import Glance
from ..state.run_tree import together
from ..widgets.journey_strip import JourneyStrip
from ..widgets.run_detail import RunDetail
from ..widgets.run_table import RunTable
from .distant import ELSEWHERE, Distant

_HIDDEN = "runs"  # of View.hidden
_NEEDS_ONE = frozenset({"open", "pin", "rename", "archive", "delete", "select", "edit"})


class Runs(Distant):
    """The first screen. The table follows the watch; this screen only arranges it."""

    SCOPES = ("runs", "list")
    TITLE = "Runs"
    CSS_PATH = "../styles/runs.tcss"
    AUTO_FOCUS = ""  # it would find the hidden filter while the table is hidden
    BINDINGS = actions.bindings("runs")

    def __init__(self) -> None:
        super().__init__()
        self._version = -1
        self._read: tuple[str | None, int] = (None, -1)  # run and step that the pane was read for
        self._glance: Glance | None = None

    def body(self) -> ComposeResult:
        with Horizontal(id="filter"):
            yield Label("filter")
            yield Input(placeholder="words in name, state, base, method; -word for those without it")
            yield Label("", id="count")
        with Horizontal(id="middle"):
            yield RunTable(self.runs)
            with VerticalScroll(id="side", can_focus=False):
                yield RunDetail()
        with Center(id="empty"):
            yield Static()
        yield Label(id="hosts")
        yield JourneyStrip()

    @property
    def table(self) -> RunTable:
        return self.query_one(RunTable)

    def on_mount(self) -> None:
        self.set_class("details" in self.runs.view.hidden.get(_HIDDEN, []), "-no-details")
        self.query_one("#empty Static", Static).update(self._nothing())
        self.table.focus()

    def paint(self) -> None:
        super().paint()
        if self._version != self.runs.version:
            self._version = self.runs.version
            self.table.show(self.runs.rows())
            self.set_class(self.runs.complete and not (self.runs.known or self.runs.distant), "-empty")
            self.show_away()
            if self.focused is None:
                self.table.focus()  # it could not hold the focus while there was nothing to show
            self._count()
            self._arrive()
            self.refresh_bindings()
        self.table.repaint()
        self._show_detail()
        self.show_journey()

    def _arrive(self) -> None:
        if self._go_to in self.table.rows:
            self.table.move_to(self._go_to)
            self._go_to = ""

    def _count(self) -> None:
        shown = sum(each in self.runs.known for each in self.table.rows)  # a sweep has a row too
        hidden = len(set(self.runs.view.archived) & self.runs.known.keys())
        said = f"{shown} of {len(self.runs.known)}"
        if hidden and not self.runs.archived:
            said += f", {hidden} archived"
        self.query_one("#count", Label).update(Content.assemble((said, "$muted")))

    def _nothing(self) -> Content:
        keys = {each: shown_keys(self.molting.registry[each].keys) for each in ("demo", "init", "new", "help")}
        where = str(self.molting.places.runs)
        return Content.assemble(
            ("No runs yet", "bold"), (f" in {where}\n\n", "$muted"),
            (keys["demo"], "bold $primary"), "   see it once: a shipped persona, trained on this machine\n",
            (keys["init"], "bold $primary"), "   make a persona of your own, from nothing or from a shipped one\n",
            (keys["new"], "bold $primary"), "   start a run from a spec file\n",
            (keys["help"], "bold $primary"), "   all keys",
        )  # fmt: skip

    @on(RunTable.Moved)
    def _moved(self) -> None:
        self.refresh_bindings()
        self._show_detail()

    @on(RunTable.Opened)
    def _double_clicked(self) -> None:
        self.action_open()

    def _show_detail(self) -> None:
        run = self.runs.get(self.table.cursor)
        if run is None:
            self.query_one(RunDetail).show(None, "", None)
            return
        wanted = (run.id, run.step)
        if wanted != self._read:
            if run.id != self._read[0]:
                self._glance = None
            self._read = wanted
            if run.id in self.runs.known:
                self._look(run)  # the log of a run elsewhere is not here
        self.query_one(RunDetail).show(run, self.runs.name(run.id), self._glance)

    @work(thread=True, exclusive=True, group="glance", exit_on_error=False)
    def _look(self, run: Summary) -> None:
        seen = glance(RunDir(Path(run.path)))
        self.app.call_from_thread(self._looked, run.id, seen)

    def _looked(self, run_id: str, seen: Glance) -> None:
        if run_id == self.table.cursor:
            self._glance = seen
            self._show_detail()

    def targets(self) -> list[Summary]:
        found = (self.runs.known.get(run_id) for run_id in self.ids())
        return [run for run in found if run is not None]

    def ids(self) -> list[str]:
        return [each for each in self.meant() if each in self.runs.known]

    def meant(self) -> list[str]:
        return self.runs.targets(self.table.cursor, self.table.rows) if self.is_mounted else []

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in _NEEDS_ONE and not (self.meant() if action in ELSEWHERE else self.ids()):
            return False
        if action == "demo":
            return not self.runs.known
        if action == "sweep":
            return any(run.sweep for run in self.targets())
        if action == "overlay":
            return len(together(self.ids(), self.runs.known)) > 1
        if action == "undo":
            return bool(self._deleted)
        return super().check_action(action, parameters)

    def back(self) -> bool:
        """First the selection, then the filter."""
        box = self.query_one("#filter")
        if self.runs.selected:
            self.runs.selected.clear()
        elif self.runs.query or box.has_class("-shown"):
            self.query_one(Input).value = ""
            box.remove_class("-shown")
        else:
            return False
        self.table.focus()
        self.rearranged()
        return True

    def copyable(self) -> str:
        return "\n".join(run.path for run in self.targets())

    def action_filter(self) -> None:
        self.query_one("#filter").add_class("-shown")
        self.query_one(Input).focus()

    @on(Input.Changed)
    def _filter(self, event: Input.Changed) -> None:
        self.runs.query = event.value
        self.rearranged()

    @on(Input.Submitted)
    def _filtered(self) -> None:
        self.table.focus()

    def under_cursor(self) -> str | None:
        return self.table.cursor

    def rearranged(self) -> None:
        self.runs.touch()
        self.paint()

    def action_select(self) -> None:
        self.runs.selected ^= set(self.runs.meant(self.table.cursor or ""))
        self.table.action_down()
        self.rearranged()

    def action_select_all(self) -> None:
        every = (self.runs.known.keys() | self.runs.distant.keys()) & set(self.table.rows)
        self.runs.selected = set() if every <= self.runs.selected else every
        self.rearranged()

    def action_sort(self) -> None:
        self.runs.next_sort()
        self.molting.tell(f"Sorted by {self.runs.sort}.")
        self.paint()

    def action_reverse(self) -> None:
        self.runs.reverse = not self.runs.reverse
        self.rearranged()

    def action_archived(self) -> None:
        self.runs.archived = not self.runs.archived
        self.molting.tell("Archived runs are shown." if self.runs.archived else "Archived runs are hidden.")
        self.rearranged()

    def action_details(self) -> None:
        hide = not self.has_class("-no-details")
        self.set_class(hide, "-no-details")
        self._remember(lambda view: view.hidden.__setitem__(_HIDDEN, ["details"] if hide else []))

    def action_open(self) -> None:
        from .live import Live

        if self.table.cursor in self.runs.distant:
            self.open_there(self.table.cursor)
        elif self.table.cursor in self.runs.known:
            self.app.push_screen(Live(RunDir(self.molting.places.runs / self.table.cursor)))
        elif self.table.cursor is not None:
            self.action_sweep()

    def action_tree(self) -> None:
        self.runs.tree = not self.runs.tree
        self.molting.tell("Below the runs they came from." if self.runs.tree else "One list again.")
        self.rearranged()

    def action_sweep(self) -> None:
        """The table of the sweep that is meant."""
        from .sweep import Sweep

        sweep = next((run.sweep for run in self.targets() if run.sweep), "")
        if sweep:
            self.app.push_screen(Sweep(self.runs, sweep, ascii=self.molting.look.ascii))

    def action_overlay(self) -> None:
        """The selected runs in one plot; else those of the sweep, else the run over its parent."""
        from .live import Live

        ids = together(self.ids(), self.runs.known)
        if len(ids) > Live.MOST:
            self.molting.tell(f"{Live.MOST} of {len(ids)} are shown: those with the lowest held-out loss.", "warning")
        if ids:
            first, *others = ids[: Live.MOST]
            self.app.push_screen(Live(RunDir(self.molting.places.runs / first), others))

    @work(exit_on_error=False)
    async def action_new(self) -> None:
        from .new_run import NewRun, ask_for_spec

        file = await self.app.push_screen_wait(ask_for_spec())
        if file is None:
            return
        started = await self.app.push_screen_wait(NewRun.of_file(file))
        if started:
            self.started(started)

    @work(exit_on_error=False)
    async def action_init(self) -> None:
        from .new_persona import new_persona
        from .new_run import NewRun

        folder = await new_persona(self.molting)
        if folder is not None:
            started = await self.app.push_screen_wait(NewRun.of_file(folder))
            if started:
                self.started(started)

    def action_bench(self) -> None:
        from .bench import Bench

        self.app.push_screen(Bench())

    @work(exit_on_error=False)
    async def action_demo(self) -> None:
        from ..services.demo import start

        place = self.molting.places
        run = await self.wait_for(
            "The demo: a persona on a small model", lambda task: start(place.runs, str(place.models), "rhea", task)
        )
        if run is not None:
            from .live import Live

            self.started(run.id)
            self.app.push_screen(Live(run))
            self.molting.follow_demo(run)
