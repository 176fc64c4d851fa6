"""A new run: a spec in a form, checked while it is typed, then started or written to a file."""

from __future__ import annotations

import itertools
from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static
from textual.worker import get_current_worker

from engine.contract import calls, durable
from engine.contract.errors import MoltingError
from engine.contract.safe import safe
from engine.contract.summary import Summary

from .. import actions, state_files, text
from ..actions import key_names, shown_key
from ..commands.context import spec_file
from ..commands.doctor import plan_line
from ..services.engine import Heard
from ..services.live_check import LiveCheck
from ..services.paths import PathSuggester
from ..services.task import Task
from ..state.findings import apply
from ..state.journey import before
from ..state.spec_form import Field, SpecForm, fields, of_run
from ..widgets.finding_list import FindingList
from ..widgets.journey_strip import JourneyStrip
from ..widgets.spec_fields import SpecFields
from .dialog import Ask, Confirm
from .page import TAB_AT_ONCE
from .run_actions import RunActions

_LIMIT = 1 << 20
_COUNT = itertools.count()
_PAUSE = 0.8  # seconds without a key after which the doctor looks


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > _LIMIT:
            raise MoltingError(f"{file} is larger than 1 MiB, which no spec is.", code=2)
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MoltingError(f"{file} cannot be read: {error}.", code=2) from None


def ask_for_spec() -> Ask:
    """Asks for a spec file, or a folder with one; answers with a path that exists."""

    def problem(value: str) -> str:
        try:
            spec_file(Path(value))
        except MoltingError as error:
            return error.message
        return ""

    hint = "A spec file, or a folder with a spec.toml. Tab or → completes."
    return Ask("New run from", f"{Path.cwd()}/", hint=hint, problem=problem, suggester=PathSuggester())


class NewRun(RunActions):
    """Dismissed with the id of the run that was started, or None."""

    SCOPES = ("form",)
    TITLE = "New run"
    CSS_PATH = "../styles/new_run.tcss"
    BINDINGS = [*actions.bindings("form"), *TAB_AT_ONCE]

    def __init__(self, form: SpecForm, origin: str, file: Path | None) -> None:
        super().__init__()
        self._form, self._origin, self._file = form, origin, file
        self._saved = form.text()
        self._problems: dict[str, str] = {}
        self._field: Field | None = None
        self._doctor = LiveCheck()
        self._pause: Timer | None = None

    @classmethod
    def of_file(cls, file: str | Path) -> NewRun:
        """A form on a spec file. MoltingError when it cannot be read."""
        file = spec_file(Path(file))
        return cls(SpecForm(_read(file), file.parent), f"from {file}", file)

    @classmethod
    def like(cls, run: Summary) -> NewRun:
        """A form on a copy of a run's frozen spec. MoltingError when it cannot be read."""
        folder = Path(run.path)
        return cls(of_run(_read(folder / "spec.toml"), run.id, folder, run.name), f"like {run.name}", None)

    def body(self) -> ComposeResult:
        yield Static(Content(safe(self._origin, keep_newlines=False)), id="origin")
        yield SpecFields([(field, self._form.value(field.key)) for field in fields()])
        with VerticalScroll(id="findings", can_focus=False):
            yield FindingList()
        yield Static(id="about")
        yield JourneyStrip()

    def on_mount(self) -> None:
        self._validate()
        self.query_one(SpecFields).focus_on("name")

    def on_unmount(self) -> None:
        self._doctor.cancel()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return True

    @on(SpecFields.Changed)
    def _typed(self, event: SpecFields.Changed) -> None:
        if event.value != self._form.value(event.field.key):
            self._form.put(event.field, event.value)
            self._validate()

    @on(SpecFields.Entered)
    def _entered(self, event: SpecFields.Entered) -> None:
        self._field = event.field
        self._about()

    def _validate(self) -> None:
        missing = {
            key: f"{key} names {safe(str(path), False)}, which does not exist."
            for key, path in self._form.paths().items()
            if not path.is_file()
        }
        self._problems = missing | self._form.problems()
        self.query_one(SpecFields).say(self._problems)
        self._about()
        self._judge(None)
        self._look_soon()

    def _look_soon(self) -> None:
        """Let the doctor look once nothing was typed for a moment; what it found of the older text no longer counts."""
        self._doctor.cancel()
        if self._pause is not None:
            self._pause.stop()
            self._pause = None
        if not self._problems:
            self._pause = self.set_timer(_PAUSE, self._look)

    @work(thread=True, exclusive=True, group="doctor", exit_on_error=False)
    def _look(self) -> None:
        worker, found = get_current_worker(), list[calls.Finding]()

        def show(findings: list[calls.Finding], below: Content | None, done: bool = False) -> None:
            if not worker.is_cancelled and self.is_mounted:
                self.app.call_from_thread(self._show, findings, below, done)

        def hear(heard: Heard) -> None:
            if isinstance(heard, calls.Found):
                found.append(heard.finding)
                show(list(found), Content.assemble(("looking on …", "$muted")))

        try:
            with _Staged(self._form) as file:
                request = calls.PreflightRequest(spec=str(file), models=str(self.molting.places.models))
                checked = self._doctor.run(request, hear)
        except MoltingError as error:
            show([], Content.assemble(("cannot tell yet: ", "$muted"), safe(error.message, False)))
            return
        if checked is not None:
            show(checked.findings, _below(checked), done=True)

    def _show(self, findings: list[calls.Finding], below: Content | None, done: bool = True) -> None:
        self.query_one(FindingList).put(findings, below)
        self.query_one("#findings").add_class("-shown")
        if done:
            self._judge(not any(each.severity == "error" for each in findings))

    def _judge(self, sound: bool | None) -> None:
        """Show how far the run has come: whether its rows are there, and what the doctor says of it."""
        rows = self._form.paths().get("data.train")
        found = before(rows is not None and rows.is_file(), sound)
        heard = self.molting.registry[found.action].keys if found.action else ""
        self.query_one(JourneyStrip).show(found, shown_key(key_names(heard)[0]) if heard else "")

    def action_next_finding(self) -> None:
        listed = self.query_one(FindingList)
        listed.next()
        self.query_one("#findings", VerticalScroll).scroll_to(y=listed.line, animate=False)

    def action_apply_fix(self) -> None:
        finding = self.query_one(FindingList).highlighted
        if finding is None or not finding.fix:
            self.molting.tell("The highlighted finding has no change of the spec that would mend it.", "warning")
            return
        changed = apply(self._form, finding.fix)
        self.query_one(SpecFields).take(self._form.value)
        self._validate()
        self.molting.tell(f"Changed {', '.join(changed)}.")

    def _about(self) -> None:
        """The field under the cursor in words, and how many problems there are."""
        field, wrong = self._field, len(self._problems)
        count = (f"{text.plural(wrong, 'problem')}   ", "$error") if wrong else ("nothing wrong so far   ", "$success")
        if field is None:
            self.query_one("#about", Static).update(Content.assemble(count))
            return
        # One that stands at no field is told here, or nowhere.
        known = {each.key for each in fields()}
        homeless = (said for key, said in self._problems.items() if key not in known)
        problem = self._problems.get(field.key) or next(homeless, "")
        said = (problem, "$error") if problem else (f"{field.description}. Expected {field.expected}.", "$foreground")
        default = f" Default {field.default}." if field.default and not problem else ""
        self.query_one("#about", Static).update(Content.assemble(count, said, (default, "$muted")))

    def back(self) -> bool:
        if self._form.text() == self._saved:
            self.dismiss(None)
        else:
            self._ask_to_leave()
        return True

    @work(exit_on_error=False)
    async def _ask_to_leave(self) -> None:
        said = "What you changed in this form is lost; ctrl+r would write it to a file."
        if await self.app.push_screen_wait(Confirm("Leave the form?", said, "Leave", "Stay")):
            self.dismiss(None)

    def action_all_fields(self) -> None:
        self.query_one(SpecFields).toggle_class("-all")

    def action_rows(self) -> None:
        """The rows that data.train names, with what else the form says about them."""
        from engine.contract.rows import DataRequest

        from .data import Data

        path = self._form.paths().get("data.train")
        if path is None or not path.is_file():
            self.molting.tell("data.train names no file yet.", "warning")
            return
        model = str(self._file) if self._file else ""
        self.app.push_screen(Data(DataRequest(file=str(path), models=str(self.molting.places.models), model=model)))

    def _all_right(self) -> bool:
        """Whether nothing is wrong; if not, the cursor goes to where something is."""
        if not self._problems:
            return True
        keys = [field.key for field in fields()]
        first = next((key for key in keys if key in self._problems), "")
        if first:
            self.query_one(SpecFields).focus_on(first)
        self.molting.tell(self._problems[first or next(iter(self._problems))], "error")
        return False

    @work(exit_on_error=False)
    async def action_check(self) -> None:
        if not self._all_right():
            return

        def check(task: Task) -> calls.Preflight:
            with _Staged(self._form) as file:
                request = calls.PreflightRequest(spec=str(file), models=str(self.molting.places.models))
                return task.call("preflight", request, calls.Preflight)

        checked = await self.wait_for("Looking for what would go wrong", check)
        if checked is not None:
            self._show(checked.findings, _below(checked))

    @work(exit_on_error=False)
    async def action_start(self) -> None:
        if not self._all_right():
            return

        if self._form.sweeps:
            await self._start_sweep()
            return

        def create(task: Task) -> calls.Started:
            with _Staged(self._form) as file:
                place = self.molting.places
                request = calls.CreateRequest(spec=str(file), runs=str(place.runs), models=str(place.models))
                return task.call("create", request, calls.Started)

        started = await self.wait_for("Starting the run", create)
        if started is not None:
            self.molting.tell(f"{started.run} is {started.state}; it runs without this terminal.")
            self.dismiss(started.run)

    async def _start_sweep(self) -> None:
        """All runs of the spec, queued one after another."""

        def queue(task: Task) -> calls.Sweeping:
            with _Staged(self._form) as file:
                place = self.molting.places
                request = calls.SweepRequest(spec=str(file), runs=str(place.runs), models=str(place.models))
                return task.call("sweep", request, calls.Sweeping)

        made = await self.wait_for("Starting the runs of the sweep", queue)
        if made is not None:
            self.molting.tell(f"{text.plural(len(made.runs), 'run')} of {made.sweep} are queued, one after another.")
            self.dismiss(made.runs[0].run)

    @work(exit_on_error=False)
    async def action_write(self) -> None:
        """Over the file that the spec came from, or to a new one; relative paths only hold in the same folder."""
        default = str(self._file or Path.cwd() / f"{self._form.fallback_name}.toml")
        named = await self.app.push_screen_wait(Ask("Write the spec to", default, suggester=PathSuggester()))
        if not named:
            return
        path = Path(named).expanduser().absolute()
        if path.exists() and path != self._file:
            said = "What stands in it now is replaced."
            if not await self.app.push_screen_wait(Confirm(f"Write over {path}?", said, "Write over")):
                return
        content = self._form.text() if path.parent == self._form.folder else self._form.standing_alone(Path.exists)
        try:
            durable.write_replace(path, content.encode())
        except OSError as error:
            self.molting.fail(durable.explain(error, f"write {path}"))
            return
        self._saved = self._form.text()
        self.molting.tell(f"Written to {path}.")


class _Staged:
    """The form's spec as a file for the engine to read, gone when it has."""

    def __init__(self, form: SpecForm) -> None:
        self._content = form.standing_alone(Path.exists).encode()
        self._path = state_files.folder() / f"new-run-{next(_COUNT)}.toml"

    def __enter__(self) -> Path:
        try:
            durable.write_replace(self._path, self._content)
        except OSError as error:
            raise durable.explain(error, f"write {self._path}") from None
        return self._path

    def __exit__(self, *error: object) -> None:
        self._path.unlink(missing_ok=True)


def _below(checked: calls.Preflight) -> Content | None:
    """What stands under the findings: the plan."""
    nothing = [] if checked.findings else [Content.assemble(("nothing found", "$success"))]
    plan = [Content(plan_line(checked.plan))] if checked.plan else []
    return Content("\n").join([*nothing, *plan]) if nothing or plan else None
