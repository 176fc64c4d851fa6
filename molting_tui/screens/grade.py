"""Grading by keyboard: an answer, the question, the levels of one dimension at a time; a key is on the disk first."""

from __future__ import annotations

from functools import partialmethod

from textual import work
from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.widgets import Static

from engine.contract.errors import MoltingError
from engine.contract.grades import AnyEvent
from engine.contract.rundir import RunDir
from engine.contract.safe import safe
from engine.contract.verdict import Hit

from .. import actions
from ..grade_lines import end_lines
from ..services import grades
from ..services.grades import Sitting, Wanted
from ..services.task import Cancelled, Task
from ..state.grading_form import Choice
from ..state.grading_lines import question_line, status_line
from ..text import wrap
from ..widgets.grade_panes import AnswerPane, RubricPane
from .grade_dialogs import LEAVES, GradeEnd, GradeNote
from .job import Job
from .page import Page


class GradingPage(Page):
    """What the form and the pairs share: a sitting, its clock, the way back and the end."""

    TITLE = "Grade"
    CSS_PATH = "../styles/grade.tcss"

    def __init__(self, run: RunDir, sitting: Sitting, wanted: Wanted) -> None:
        super().__init__()
        self.run, self.sitting, self._wanted = run, sitting, wanted
        self._question = self._status = ""  # as they stand on the screen: laying it out anew takes time

    def body(self) -> ComposeResult:
        yield Static(id="sitting")
        yield Static(id="question")
        with Container(id="grading"):
            yield AnswerPane("answer")
            yield RubricPane("rubric")

    @property
    def answer(self) -> AnswerPane:
        return self.query_one(AnswerPane)

    def on_mount(self) -> None:
        self.answer.focus()
        self.call_after_refresh(self._show)

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    def on_unmount(self) -> None:
        self.sitting.close()

    def paint(self) -> None:
        super().paint()
        self._show_status()

    def live_line(self) -> Content:
        """Nothing: the rater is not to know which run this is, nor what trains now."""
        return Content()

    def say(self, event: AnyEvent | None) -> bool:
        """Write what a key means and show it; False where it means nothing here."""
        try:
            if not self.sitting.say(event):
                return False
        except MoltingError as error:
            self.molting.fail(error)
            return False
        self._show()
        if self.sitting.form.finished:
            self.end()
        return True

    def _show(self) -> None:
        if not self.is_mounted:
            return
        form = self.sitting.form
        if (question := question_line(form)) != self._question:
            width = self.size.width - 2
            taller = not self._question or len(wrap(question, width)) != len(wrap(self._question, width))
            self._question = question
            self.query_one("#question", Static).update(Content(question), layout=taller)
        self._show_status()
        self.answer.show(form)
        self.query_one(RubricPane).show(form)

    def _show_status(self) -> None:
        if (status := status_line(self.sitting.form, self.sitting.saved)) != self._status:
            self._status = status
            self.query_one("#sitting", Static).update(Content(status), layout=False)

    def action_take_back(self) -> None:
        self.say(self.sitting.form.undo())

    def action_pause(self) -> None:
        self.say(self.sitting.form.pause())

    @work(exclusive=True, group="end", exit_on_error=False)
    async def end(self) -> None:
        """All is graded: what it adds up to, and what comes next."""
        path = self.sitting.path
        counting = Job("Adding up", lambda task: grades.counted(self.run, path, task))
        found = await self.app.push_screen_wait(counting)
        if isinstance(found, MoltingError):
            self.molting.fail(found)
        elif found is not None:
            title = f"Graded: {self.molting.runs.name(self.run.id)}"
            if await self.app.push_screen_wait(GradeEnd(title, end_lines(self.run.id, path, *found), LEAVES)):
                self.dismiss()

    def copyable(self) -> str:
        slot = self.sitting.form.slot
        return safe(slot.answer) if slot else ""


class Grade(GradingPage):
    """The form: digits advance by themselves, Enter commits, what the machine saw is shown after that only."""

    SCOPES = ("grade", "list")
    BINDINGS = actions.bindings("grade")

    def on_mount(self) -> None:
        super().on_mount()
        self._look()

    @work(thread=True, exit_on_error=False)
    def _look(self) -> None:
        task = Task(lambda heard: None)
        try:
            hits = grades.hits(self.run, self._wanted, self.sitting.sheet, task)
        except Cancelled:
            return
        except MoltingError as error:
            self.app.call_from_thread(self.molting.tell, f"No pre-checks: {error.message}", "warning")
            return
        self.app.call_from_thread(self._looked, hits)

    def _looked(self, hits: dict[str, list[Hit]]) -> None:
        self.sitting.form.hits = hits
        self._show()
        if self.sitting.form.finished:
            self.end()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        held = self.sitting.form.held is not None
        if action in {"accept", "overrule"}:
            return held
        return True

    def action_level(self, level: int) -> None:
        if self.answer.selection is None:
            self.say(self.sitting.form.level(level))

    def action_commit(self) -> None:
        form, chosen = self.sitting.form, self.answer.selection
        if chosen is not None:
            self.answer.stop_choosing()
            self.say(form.quote(*chosen.span))
        elif not self.say(form.commit()):
            self._show()
            if form.finished:
                self.end()
            elif form.dimension is not None:
                self.molting.tell(f"{form.dimension.id} has no level yet.")

    def action_skip(self) -> None:
        form = self.sitting.form
        if not self.say(form.skip()) and form.grading.complete and form.held is None:
            self.end()  # only this one is left, and it was skipped before

    def action_flag(self) -> None:
        self.say(self.sitting.form.flag())

    def action_accept(self) -> None:
        self._decide(accepted=True)

    def action_overrule(self) -> None:
        self._decide(accepted=False)

    def _decide(self, *, accepted: bool) -> None:
        self.say(self.sitting.form.decide(accepted=accepted))

    def action_cursor_left(self) -> None:
        self._move(-1)

    def action_cursor_right(self) -> None:
        self._move(1)

    def _move(self, by: int) -> None:
        if self.answer.selection is not None:
            self.answer.move(by)
        else:
            self.say(self.sitting.form.move(by))

    def action_quote(self) -> None:
        if not self.answer.choose():
            self.molting.tell("There are no words to quote.")

    @work(exit_on_error=False)
    async def action_comment(self) -> None:
        form = self.sitting.form
        if form.slot is None:
            return
        dimension = form.dimension
        about = f"{dimension.id}, {dimension.name}" if dimension else "the whole answer"
        said = await self.app.push_screen_wait(GradeNote(about, form.commented, dimension.levels if dimension else []))
        if said is not None:
            self.say(form.comment(said))

    def back(self) -> bool:
        if self.answer.selection is not None:
            self.answer.stop_choosing()
            return True
        return False


for _level in range(10):
    setattr(Grade, f"action_level_{_level}", partialmethod(Grade.action_level, _level))


class Pairs(GradingPage):
    """Two answers to the same question, sides swapped by lot: which is better?"""

    SCOPES = ("pairs", "list")
    BINDINGS = actions.bindings("pairs")

    def _judge(self, choice: Choice) -> None:
        self.say(self.sitting.form.duel(choice))

    def action_left_better(self) -> None:
        self._judge("left")

    def action_right_better(self) -> None:
        self._judge("right")

    def action_tie(self) -> None:
        self._judge("tie")

    def action_both_bad(self) -> None:
        self._judge("bad")
