"""Models side by side: what each took, and what each said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Center, Vertical
from textual.content import Content
from textual.widgets import Input, Label, Static

from engine.contract import bench as benches
from engine.contract.bench import Bench as Found
from engine.contract.bench import Benched
from engine.contract.errors import MoltingError
from engine.contract.presets import Preset
from engine.contract.safe import safe

from .. import actions, text
from ..actions import shown_keys
from ..services import bench as service
from ..services import bench_out
from ..services.paths import PathSuggester
from ..services.task import Task
from ..state import bench_view
from ..widgets.bench_panes import AnswersPane, BenchTable
from ..widgets.top_line import TopLine
from .dialog import Ask, Choice, Dialog
from .job import Job
from .page import Page

_LABEL = 58  # cells of a line in a dialog


class Bench(Page):
    """Shows a bench that was kept, the newest first; a new one is run in front of it."""

    SCOPES = ("bench", "list")
    TITLE = "Models"
    CSS_PATH = "../styles/bench.tcss"
    BINDINGS = actions.bindings("bench")

    def body(self) -> ComposeResult:
        table = BenchTable()
        with Vertical():
            yield table
            yield AnswersPane(table)
        with Center(id="empty"):
            yield Static()

    @property
    def table(self) -> BenchTable:
        return self.query_one(BenchTable)

    @property
    def answers(self) -> AnswersPane:
        return self.query_one(AnswersPane)

    def on_mount(self) -> None:
        self.table.focus()
        self._nothing()
        self._read(None)

    def paint(self) -> None:
        super().paint()
        self.table.repaint()
        self.answers.repaint()

    def _nothing(self) -> None:
        key = shown_keys(self.molting.registry["new"].keys)
        said = Content.assemble(
            ("No models were compared yet\n\n", "bold"), (key, "bold $primary"), "   ask several the same"
        )
        self.query_one("#empty Static", Static).update(said)
        self.set_class(True, "-empty")

    @work(thread=True, exclusive=True, exit_on_error=False)
    def _read(self, path: Path | None) -> None:
        """One that was kept; None: the newest."""
        every = benches.listed(self.molting.places.runs)
        if path or every:
            self.app.call_from_thread(self._show, benches.load(path or every[0]))

    def _show(self, found: Found) -> None:
        self.set_class(False, "-empty")
        state = "" if found.complete else ", not complete"
        self.query_one(TopLine).show_title(f"Models · {', '.join(map(bench_view.plain, found.header.sets))}{state}")
        self.answers.prompt = 0
        self.table.show(found)
        self.paint()
        self.refresh_bindings()

    @on(BenchTable.Moved)
    def _moved(self) -> None:
        self.answers.repaint()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("sort", "reverse", "write", "benches", "older_sample", "newer_sample"):
            return self.is_mounted and self.table.found is not None
        return super().check_action(action, parameters)

    def action_sort(self) -> None:
        """By the next column; after the last as they were asked."""
        column = 0 if self.table.sorted_by is None else self.table.sorted_by + 1
        self.table.sorted_by = column if column < len(bench_view.COLUMNS) else None
        self.table.resort()
        self.paint()

    def action_reverse(self) -> None:
        self.table.reverse = not self.table.reverse
        self.table.resort()
        self.paint()

    def action_older_sample(self) -> None:
        self.answers.turn(-1)

    def action_newer_sample(self) -> None:
        self.answers.turn(1)

    def copyable(self) -> str:
        found = self.table.found
        return "\n".join(bench_view.table(found, self.table.order)) if found else ""

    @work(exit_on_error=False)
    async def action_write(self) -> None:
        found = self.table.found
        assert found is not None
        hint = ".csv for a spreadsheet, .md to read; enter writes it"
        name = await self.app.push_screen_wait(Ask("Write figures and answers to", f"bench-{found.id}.md", hint=hint))
        if name:
            self.molting.tell(f"Written to {bench_out.write(found, self.table.order, Path(name))}.")

    @work(exit_on_error=False)
    async def action_benches(self) -> None:
        every = {_label(path): path for path in benches.listed(self.molting.places.runs)}
        present = next((label for label in every if self.table.found and label.startswith(self.table.found.id)), "")
        chosen = await self.app.push_screen_wait(Choice("Benches", every, present))
        if chosen is not None:
            self._read(every[chosen])

    @work(exit_on_error=False)
    async def action_new(self) -> None:
        runs, models = self.molting.places.runs, self.molting.places.models
        plan = await self.app.push_screen_wait(NewBench(runs, self.molting.settings.presets))
        if plan is None:
            return

        def carry_out(task: Task) -> Found:
            return service.carry_out(
                plan, runs, models, lambda request: task.call("bench", request, Benched), task.tell
            )

        found = await self.app.push_screen_wait(Job("Asking one model after the other", carry_out))
        if isinstance(found, MoltingError):
            self.molting.fail(found)
        elif found is not None:
            self._show(found)
        else:
            self._read(None)  # what was done before it was cancelled is kept


def _label(path: Path) -> str:
    """A bench by what was asked of whom; by its id alone where its file cannot be read."""
    try:
        header = benches.load(path).header
    except MoltingError:
        return path.stem
    models = dict.fromkeys(candidate.name for candidate in header.candidates)
    return text.fit(safe(f"{path.stem}  {' '.join(header.sets)}  {', '.join(models)}", False), _LABEL).rstrip()


class NewBench(Dialog[service.Plan]):
    """Whom to ask, what, and how; words are separated by spaces, presets by commas."""

    def __init__(self, runs: Path, own: Mapping[str, Preset]) -> None:
        super().__init__()
        self._runs, self._own = runs, own

    def compose(self) -> ComposeResult:
        families = dict.fromkeys(name.rpartition("-")[0] for name in benches.shipped())
        with Vertical(classes="box"):
            yield Label(Content("Ask several models the same"), classes="title")
            yield Label(Content("models: demo, folders, GGUF files, hub ids, runs"), classes="hint")
            yield Input("demo", id="models", suggester=PathSuggester(), select_on_focus=False)
            yield Label(
                Content(f"prompts: a file, all, or {', '.join(families)}, with -en or -pt for one language"),
                classes="hint",
            )
            yield Input("reasoning-en", id="prompts", select_on_focus=False)
            yield Label(Content("presets, separated by commas"), classes="hint")
            yield Input(service.DEFAULT_PRESET, id="presets", select_on_focus=False)
            yield Label(Content("quantise: none, nf4, int8; empty as it comes"), classes="hint")
            yield Input("", id="quantize", select_on_focus=False)
            yield Static(Content("enter begins, tab moves, esc leaves"), classes="hint", id="said")

    @on(Input.Submitted)
    def _begin(self) -> None:
        try:
            plan = self._plan()
        except MoltingError as error:
            said = self.query_one("#said", Static)
            said.set_class(True, "problem")
            said.update(Content(safe(str(error))))
        else:
            self.dismiss(plan)

    def _plan(self) -> service.Plan:
        models, prompts, presets, quantize = (each.value.strip() for each in self.query(Input))
        if not models or not prompts:
            raise MoltingError("Name at least one model and one set of prompts.", code=2)
        return service.plan(
            self._runs,
            models.split(),
            prompts.split(),
            quantize=service.quantizations(quantize.split()),
            wanted=[name.strip() for name in presets.split(",") if name.strip()],
            own=self._own,
        )
