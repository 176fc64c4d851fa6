"""Curate: the answers of a run that passed the gates, kept or rejected by one key; each is on the disk at once."""

from __future__ import annotations

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widgets import Label, Static, TextArea

from engine.contract.curation import AnyEvent
from engine.contract.errors import MoltingError
from engine.contract.safe import safe

from .. import actions
from ..services.curation import Curating
from ..state.curate_form import CurateForm
from ..state.curate_lines import answer_lines, question_line, side_lines, status_line
from ..state.lines import Line
from ..widgets.lines_pane import LinesPane
from .dialog import Dialog
from .page import Page


class EditAnswer(Dialog[str]):
    """The answer in a field. ctrl+r keeps it as it stands there."""

    BINDINGS = [Binding("ctrl+r", "keep", "keep", priority=True)]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with Vertical(classes="box edit"):
            yield Label(Content("Edit the answer"), classes="title")
            yield TextArea(self._text, soft_wrap=True, show_line_numbers=False)
            yield Static(Content("ctrl+r keeps it so, esc leaves it as it was"), classes="hint")

    def action_keep(self) -> None:
        said = self.query_one(TextArea).text.strip()
        self.dismiss(said or None)


class _AnswerPane(LinesPane):
    def __init__(self, form: CurateForm) -> None:
        super().__init__("answer")
        self._form = form

    def lines(self, width: int) -> list[Line]:
        return answer_lines(self._form, width)


class _SidePane(LinesPane):
    def __init__(self, form: CurateForm) -> None:
        super().__init__("beside")
        self._form = form
        self.refused = False

    def lines(self, width: int) -> list[Line]:
        return side_lines(self._form, width, self.refused)

    def heading(self) -> str:
        return "refused" if self.refused else ""


class Curate(Page):
    """Shows one answer at a time; a key decides and brings the next."""

    SCOPES = ("curate", "list")
    TITLE = "Curate"
    CSS_PATH = "../styles/curate.tcss"
    BINDINGS = actions.bindings("curate")

    def __init__(self, sitting: Curating) -> None:
        super().__init__()
        self.sitting, self.run = sitting, sitting.run

    @property
    def form(self) -> CurateForm:
        return self.sitting.form

    def body(self) -> ComposeResult:
        yield Static(id="sitting")
        yield Static(id="question")
        with Container(id="curating"):
            yield _AnswerPane(self.form)
            yield _SidePane(self.form)

    def on_mount(self) -> None:
        self.query_one(_AnswerPane).focus()
        self.call_after_refresh(self._show)

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    def on_unmount(self) -> None:
        self.sitting.close()

    def _show(self) -> None:
        if not self.is_mounted:
            return
        self.query_one("#sitting", Static).update(Content(status_line(self.form, self.sitting.saved)))
        self.query_one("#question", Static).update(Content(question_line(self.form)))
        for pane in self.query(LinesPane):
            pane.repaint()

    def _say(self, event: AnyEvent | None) -> None:
        before = self.form.finished
        try:
            meant = self.sitting.say(event)
        except MoltingError as error:
            self.molting.fail(error)
            return
        if meant:
            self.query_one(_AnswerPane).scroll_to(y=0, animate=False, force=True)
            self._show()
        if self.form.finished and not before:
            then = f" `molting generation {self.run.id}` trains on them." if self.form.kept else ""
            self.molting.tell(f"All is decided: {self.form.kept} kept.{then}")

    def action_keep(self) -> None:
        self._say(self.form.keep(self.form.text))

    def action_reject(self) -> None:
        self._say(self.form.reject())

    def action_take_back(self) -> None:
        self._say(self.form.undo())

    @work(exit_on_error=False)
    async def action_edit(self) -> None:
        if self.form.shown is None:
            return
        said = await self.app.push_screen_wait(EditAnswer(safe(self.form.text)))
        if said is not None:
            self._say(self.form.keep(said))

    def action_skip(self) -> None:
        self.form.skip()
        self._show()

    def action_older_sample(self) -> None:
        self.form.move(-1)
        self._show()

    def action_newer_sample(self) -> None:
        self.form.move(1)
        self._show()

    def action_details(self) -> None:
        pane = self.query_one(_SidePane)
        pane.refused = not pane.refused
        self.set_class(pane.refused, "-refused")
        pane.scroll_to(y=0, animate=False, force=True)
        self.call_after_refresh(self._show)

    def copyable(self) -> str:
        return safe(self.form.text)
