"""The rows of a file: browse any size, see them as the model does; of a small file, write them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from engine.contract import calls, rows
from engine.contract.errors import MoltingError
from engine.contract.safe import safe

from .. import actions, text
from ..services.rows import RowSession
from ..services.rows_store import RowsStore
from ..state.row_form import Shape
from ..state.rows_file import parse
from ..state.writing import Writing
from ..widgets.row_panes import RowList, RowPane
from .data_write import DataWrite
from .dialog import Ask

_SURVEYED = 32 << 20  # bytes up to which all rows are looked at unasked
_PAUSE = 0.08  # seconds the cursor rests before a row is looked at


class Data(DataWrite):
    """`request` names the file, or a spec that does."""

    SCOPES = ("data", "list")
    TITLE = "Rows"
    CSS_PATH = "../styles/data.tcss"
    BINDINGS = actions.bindings("data")

    def __init__(self, request: rows.DataRequest) -> None:
        super().__init__()
        self._request = request
        self._opened: rows.Opened | None = None
        self._total: int | None = None  # exact, once counted
        self._survey: rows.Survey | None = None
        self._wanted = ""  # what was searched for last
        self._busy = ""
        self._timer: Timer | None = None

    def body(self) -> ComposeResult:
        yield Static(id="where")
        with Container(id="middle"):
            yield RowList("rows", self._need)
            yield RowPane("row")

    @property
    def list(self) -> RowList:
        return self.query_one(RowList)

    def on_mount(self) -> None:
        self._session = RowSession(self._request, self._post)
        self.list.focus()
        self._session.ask(self._request, rows.Opened, self._open)

    def on_unmount(self) -> None:
        self._session.close()

    def _post(self, then: Any, *values: Any) -> None:
        self.app.call_later(self._hear, then, *values)

    def _hear(self, then: Any, *values: Any) -> None:
        if self.is_mounted and self in self.app.screen_stack:  # else it is being left, and has lost its panes
            then(*values)

    def _open(self, opened: Any) -> None:
        if isinstance(opened, MoltingError):
            pane = self.query_one(RowPane)
            told = [(line, "error") for line in text.wrap(f"error: {safe(opened.message, False)}", pane.size.width)]
            remedy = f"try: {safe(opened.remedy, False)}" if opened.remedy else ""
            told += [(line, "dim") for line in text.wrap(remedy, pane.size.width)]
            pane.show(said=[[each] for each in told])
            return
        self._opened = opened
        self.shape = Shape(opened.format, opened.fields)
        self.list.unit = "tokens" if opened.tokenizer else "characters"
        if opened.problem:
            self.molting.tell(opened.problem, "warning")
        self.store = RowsStore(Path(opened.file))
        self._begin_writing()
        self.refresh_bindings()
        self.list.forget()
        if self.writing is None:
            self._session.ask(rows.Count(), int, self._counted, self._telling("counting rows"))
        self._survey_again()

    def _begin_writing(self) -> None:
        """Take up a file that is small enough to be written here."""
        assert self.store is not None
        if self.store.path.resolve().is_relative_to(self.molting.places.runs.resolve()):
            self.why_not = MoltingError("These rows belong to a run, so they stay as they were trained on.")
            return
        try:
            layout, found = parse(self.store.read(), self.store.path.suffix)
        except MoltingError as error:
            self.why_not = error
            return
        self.writing = Writing(layout, found)
        self.list.total = self._total = len(found)
        if not found:
            self._nothing()
        kept = self.store.remembered()
        if kept is not None:
            self._offer(kept)

    def _survey_again(self) -> None:
        if self._opened is not None and self._opened.size < _SURVEYED:
            self._session.ask(rows.Look(), rows.Survey, self._surveyed, self._telling("looking at all rows"))

    def _surveyed(self, survey: Any) -> None:
        self._busy = ""
        if isinstance(survey, rows.Survey):
            self._survey = survey
            self.list.forget()
            if self.query_one(RowPane).survey is not None:
                self.query_one(RowPane).show(survey=survey)

    def _counted(self, count: Any) -> None:
        self._busy = ""
        if isinstance(count, MoltingError):
            self.molting.fail(count)
            return
        self._total = self.list.total = count
        self.list.see()

    def _telling(self, what: str) -> Any:
        return functools.partial(self._tell_how_far, what)

    def _tell_how_far(self, what: str, progress: calls.Progress) -> None:
        self._busy = f"{what} {text.percent(progress.done / progress.total)}" if progress.total else what

    def _need(self, start: int, count: int) -> None:
        if self._opened is None:
            return
        values = None
        if self.writing is not None:
            values = [row.value for row in self.writing.rows[start : start + count]]
        ask = rows.Lines(start=start, count=count, values=values)
        self._session.ask(ask, list[rows.RowLine], functools.partial(self._take, start == 0))

    def _take(self, first: bool, found: Any) -> None:
        if isinstance(found, MoltingError):
            self.molting.fail(found)
            return
        if self.writing is not None:
            found = [row for row in found if row.number < len(self.writing.rows)]
        shown = self.query_one(RowPane)
        self.list.take(found)
        if first and shown.view is None and shown.survey is None and not shown.said:
            self._look()

    @on(RowList.Moved)
    def _moved(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(_PAUSE, self._look)

    def _look(self) -> None:
        number = self.list.cursor
        if self.writing is None:
            self._session.ask(rows.Show(number=number), rows.RowView, functools.partial(self._show, number))
        elif self.writing.rows:
            value = self.writing.rows[number].value
            self.look_at(value, functools.partial(self._show, number))

    def look_at(self, value: Any, then: Any) -> None:
        """Ask how the model sees a value."""
        self._session.ask(rows.Draft(value=value), rows.RowView, then)

    def _show(self, number: int, view: Any) -> None:
        if number != self.list.cursor or isinstance(view, MoltingError):
            return
        view.number = number
        self._add_findings(view)
        self.query_one(RowPane).show(view=view)

    def _add_findings(self, view: rows.RowView) -> None:
        """What the checks of all rows said about this one, as long as rows stand where they stood."""
        if self._survey is not None and not (self.writing and self.writing.dirty):
            view.findings += [each for each in self._survey.findings if view.number + 1 in each.rows]

    def _nothing(self) -> None:
        keys = actions.shown_keys(self.molting.registry["new"].keys)
        self.query_one(RowPane).show(said=[[("No rows yet. ", ""), (keys, "bold"), (" writes the first.", "")]])

    def reread(self, number: int) -> None:
        """Rows changed: show them anew, with the cursor on `number`."""
        assert self.writing is not None
        self.list.total = self._total = len(self.writing.rows)
        self.list.forget()
        self.list.move_to(number)
        if not self.writing.rows:
            self._nothing()
        self.refresh_bindings()

    def surveyed_again(self) -> None:
        """The file was saved or read anew: what the engine knows of it is old."""
        self._survey = None
        self._session.ask(self._request, rows.Opened, self._reopened)

    def _reopened(self, opened: Any) -> None:
        if isinstance(opened, rows.Opened):
            self._survey_again()

    def paint(self) -> None:
        super().paint()
        self.query_one("#where", Static).update(self._where())

    def _where(self) -> Content:
        if self._opened is None:
            return Content(safe(self._request.file, False))
        at, total = self.list.cursor + 1, self.list.total
        many = f"of {total:,}" if self._total is not None else f"of more than {total:,}"
        share = f" ({text.percent(at / total)})" if self._total else ""
        said = [(Path(self._opened.file).name, "bold"), (f"  row {min(at, total):,} {many}{share}", "$foreground")]
        if self.writing is not None and self.written:
            said.append((f"  {text.plural(self.written, 'row')} written", "$success"))
        if self.writing is not None and self.writing.dirty:
            said.append(("  + not saved", "$warning"))
        if self._busy:
            said.append((f"  {self._busy}", "$muted"))
        said.append((f"  {self._opened.format}", "$muted"))
        if not self._opened.tokenizer:
            said.append(("  no tokenizer: --model or a spec gives one", "$muted"))
        return Content.assemble(*((safe(words, False), style) for words, style in said))

    def action_details(self) -> None:
        pane = self.query_one(RowPane)
        if pane.survey is not None:
            pane.survey = None
            self._look()
        elif self._survey is not None:
            pane.show(survey=self._survey)
        else:
            self._busy = "looking at all rows"
            self._session.ask(rows.Look(), rows.Survey, self._show_survey, self._telling("looking at all rows"))

    def _show_survey(self, survey: Any) -> None:
        self._surveyed(survey)
        if isinstance(survey, rows.Survey):
            self.query_one(RowPane).show(survey=survey)

    @work(exit_on_error=False)
    async def action_go_to_row(self) -> None:
        def problem(value: str) -> str:
            return "" if value.replace(",", "").isdecimal() and int(value.replace(",", "")[:12]) else "Give a number."

        named = await self.app.push_screen_wait(Ask("Go to row", "", hint="its number, from 1", problem=problem))
        if named:
            self.list.move_to(int(named.replace(",", "")[:12]) - 1)

    @work(exit_on_error=False)
    async def action_filter(self) -> None:
        named = await self.app.push_screen_wait(
            Ask("Search for", self._wanted, hint="in questions, answers, all fields")
        )
        if named:
            self._wanted = named
            self._find(self.list.cursor + 1)

    def action_find_next(self) -> None:
        if self._wanted:
            self._find(self.list.cursor + 1)

    def _find(self, start: int) -> None:
        if self.writing is not None:
            wanted = self._wanted.casefold()
            order = [*range(start, len(self.writing.rows)), *range(min(start, len(self.writing.rows)))]
            parts = ((i, self.shape.parts(self.writing.rows[i].value)) for i in order)
            self._found(next((i for i, said in parts if wanted in "\n".join(p.text for p in said).casefold()), None))
            return
        self._busy = "searching; esc ends it"
        ask = rows.Find(text=self._wanted, start=start)
        self._session.ask(ask, rows.MaybeRow, self._heard, self._telling("searching; esc ends it:"))

    def _heard(self, found: Any) -> None:
        ended, self._busy = not self._busy, ""
        if isinstance(found, MoltingError):
            self.molting.fail(found)
        elif not ended:
            self._found(found.number)

    def _found(self, number: int | None) -> None:
        if number is None:
            self.molting.tell("No row after this one holds that text.")
            return
        self.list.total = max(self.list.total, number + 1)
        self.list.move_to(number)

    def back(self) -> bool:
        if self._busy.startswith("searching"):
            self._busy = ""
            self._session.ask(rows.Cancel(), rows.MaybeRow, lambda found: None)
            return True
        if self.query_one(RowPane).survey is not None:
            self.action_details()
            return True
        return super().back()

    def copyable(self) -> str:
        view = self.query_one(RowPane).view
        return "\n\n".join(said for _, said in view.turns) if view else ""
