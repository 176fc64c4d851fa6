"""A new run: a spec in a form, checked while it is typed, then started or written to a file."""

from __future__ import annotations

import itertools
from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from engine.contract import calls, durable
from engine.contract.errors import MoltingError
from engine.contract.safe import safe
from engine.contract.summary import Summary

from .. import actions, state_files, text
from ..commands.context import spec_file
from ..commands.doctor import plan_line
from ..services.paths import PathSuggester
from ..services.task import Task
from ..state.spec_form import Field, SpecForm, fields, of_run
from ..widgets.spec_fields import SpecFields
from .dialog import Ask, Confirm
from .run_actions import RunActions

_LIMIT = 1 << 20
_COUNT = itertools.count()


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
    BINDINGS = actions.bindings("form")

    def __init__(self, form: SpecForm, origin: str, file: Path | None) -> None:
        super().__init__()
        self._form, self._origin, self._file = form, origin, file
        self._saved = form.text()
        self._problems: dict[str, str] = {}
        self._field: Field | None = None

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
            yield Static()
        yield Static(id="about")

    def on_mount(self) -> None:
        self._validate()
        self.query_one(SpecFields).focus_on("name")

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

    def _about(self) -> None:
        """The field under the cursor in words, and how many problems there are."""
        field, wrong = self._field, len(self._problems)
        count = (f"{text.plural(wrong, 'problem')}   ", "$error") if wrong else ("nothing wrong so far   ", "$success")
        if field is None:
            self.query_one("#about", Static).update(Content.assemble(count))
            return
        problem = self._problems.get(field.key, "")
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
            self.query_one("#findings Static", Static).update(_findings(checked))
            self.query_one("#findings").add_class("-shown")

    @work(exit_on_error=False)
    async def action_start(self) -> None:
        if not self._all_right():
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


def _findings(checked: calls.Preflight) -> Content:
    """Findings, the worst first, then the plan."""
    order = ("error", "warning", "note")
    colours = {"error": "$error", "warning": "$warning", "note": "$muted"}
    lines = []
    for finding in sorted(checked.findings, key=lambda each: order.index(each.severity)):
        lines.append(Content.assemble((f"{finding.severity} ", colours[finding.severity]), safe(finding.message)))
        if finding.remedy:
            lines.append(Content.assemble(("  try ", "$muted"), safe(finding.remedy)))
    if not lines:
        lines.append(Content.assemble(("nothing found", "$success")))
    if checked.plan:
        lines.append(Content(plan_line(checked.plan)))
    return Content("\n").join(lines)
