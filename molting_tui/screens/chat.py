"""Chat: one question to base and adapter at once, their answers streaming beside each other."""

from __future__ import annotations

from rich.cells import cell_len
from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from engine.contract import presets, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir

from .. import actions
from ..services import proofs
from ..state import chat_voices
from ..state.chat_head import head_lines, status_line
from ..state.chat_out import parameters
from ..state.chat_voices import Who
from ..widgets.chat_composer import Composer
from ..widgets.chat_pane import ChatPane
from ..widgets.top_line import TopLine
from .chat_settings import Parameters, System
from .chat_turns import ChatTurns
from .dialog import Choice

_NEEDS_ANSWER = frozenset({"keep_row", "to_grading", "write", "differs", "regenerate", "edit", "branch", "why"})
_ASK = "Ask both. Enter sends, ctrl+j new line, Esc then letters act"
_STOP = "Being answered. ctrl+c ends it at this token, Esc then letters act"
_NEEDS_QUIET = frozenset({"new", "filter", "overlay"})  # they would take the answer that comes out of sight


class Chat(ChatTurns):
    """The screen: what is shown, what is typed, and how the next question is asked."""

    SCOPES = ("chat", "composer", "list")
    TITLE = "Chat"
    CSS_PATH = "../styles/chat.tcss"
    AUTO_FOCUS = "#question"
    BINDINGS = [*actions.bindings("chat")]

    def __init__(self, run: RunDir) -> None:
        super().__init__(run)
        self.base = ""
        self._active = ""

    # What is shown

    def body(self) -> ComposeResult:
        yield Static(id="head")
        yield ChatPane("said")
        yield Static(id="status")
        yield Composer(placeholder=_ASK, id="question")

    def on_mount(self) -> None:
        self.presets = presets.every(self.molting.settings.presets)
        registry = self.molting.registry
        self.pane.why = actions.shown_key(actions.key_names(registry["why"].keys)[0])
        self.pane.again = actions.shown_key(actions.key_names(registry["regenerate"].keys)[0])
        try:
            spec = summary.load_spec(self.run)
            self.trained = self.options = spec.generation
            self.trained_system, self.base = spec.data.system, spec.model.base
        except MoltingError as error:
            self.trouble = error
        self._active = proofs.in_short(self.run)
        self.pane.run = self.called
        self._voices_changed()
        self._continue()
        self._open()

    def _voices_changed(self) -> None:
        self.pane.voices = self.voices

    def paint(self) -> None:
        super().paint()
        width = self.size.width
        self.query_one(TopLine).show_title(f"Chat · {self.called}")
        self.pane.answering = self.answering
        self.pane.empty = self._nothing()
        if self.size.height:
            self.pane.repaint()
        self._update("#head", head_lines(self.voices, self.opened, self.base, self._active, width))
        self._update("#status", self._status(width))
        self.query_one(Composer).placeholder = _STOP if self.answering is not None else _ASK

    def _update(self, selector: str, content: Content) -> None:
        shown = self.query_one(selector, Static)
        if shown.content != content:
            shown.update(content)

    def _status(self, width: int) -> Content:
        return status_line(
            width=width,
            preset=presets.name_of(self.options, self.trained, self.molting.settings.presets),
            options=self.options,
            system=self.system,
            trained=self.trained_system,
            shared=self.shared,
            saved=self.saved,
            loading=self.opening,
            stopping=bool(self.answering and self.answering.stopping),
            branch=self.follows is not None,
            trouble=self.trouble,
        )

    def _nothing(self) -> list[list[tuple[str, str]]]:
        return [
            [("  Nothing asked yet. ", "bold"), ("Both voices get the same question, and answer together.", "dim")],
            [("  Write below; Esc leaves the line, and then letters act: ? lists them.", "dim")],
        ]

    # What is typed

    def action_open(self) -> None:
        """To the line where questions are written."""
        self.query_one(Composer).focus()

    @on(Composer.Left)
    def _left(self) -> None:
        self.pane.focus()

    @on(Composer.Interrupted)
    def _interrupted(self) -> None:
        self.action_stop()

    @on(Composer.Scrolled)
    def _scrolled(self, event: Composer.Scrolled) -> None:
        if event.by < 0:
            self.pane.action_page_up()
        else:
            self.pane.action_page_down()

    # How is asked

    def action_differs(self) -> None:
        self.pane.diff = not self.pane.diff
        self.paint()

    def action_history(self) -> None:
        self.shared = not self.shared
        self.paint()

    @work(exit_on_error=False)
    async def action_preset(self) -> None:
        present = presets.name_of(self.options, self.trained, self.molting.settings.presets)
        wide = max(map(cell_len, self.presets))
        found = {f"{name:<{wide}}  {parameters(each.over(self.trained))}": name for name, each in self.presets.items()}
        label = next((label for label, name in found.items() if name == present), "")
        chosen = await self.app.push_screen_wait(Choice("Preset of the next answers", found, label))
        if chosen is not None:
            self.options = self.presets[found[chosen]].over(self.trained)
            self.paint()

    @work(exit_on_error=False)
    async def action_parameters(self) -> None:
        chosen = await self.app.push_screen_wait(Parameters(self.options))
        if chosen is not None:
            self.options = chosen
            self.paint()

    @work(exit_on_error=False)
    async def action_system(self) -> None:
        present = self.trained_system if self.system is None else self.system
        chosen = await self.app.push_screen_wait(System(present, self.trained_system))
        if chosen is not None:
            as_trained, said = chosen
            self.system = None if as_trained else said
            self.paint()

    @work(exit_on_error=False)
    async def action_overlay(self) -> None:
        """A third voice beside the two, or none."""
        found: dict[str, Who | None] = {"none": None, "merged into a 16-bit copy of the base": chat_voices.MERGED}
        found |= {f"checkpoint of step {n}": chat_voices.checkpoint(n) for n in self.run.checkpoint_steps()}
        for run_id in self.molting.runs.rows():
            run = self.molting.runs.known.get(run_id)
            if run is not None and run_id != self.run.id and (run.state == "finished" or run.checkpoint):
                name = self.molting.runs.name(run_id)
                where = self.molting.places.runs / run_id
                found[f"adapter of {name}  {run_id}"] = chat_voices.other_run(where, name)
        present = next((label for label, who in found.items() if who == self.third), "none")
        chosen = await self.app.push_screen_wait(Choice("A third voice", found, present))
        if chosen is not None:
            self.third = found[chosen]
            self._voices_changed()
            self._open()
            self.paint()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        if action == "stop":
            return self.answering is not None or self.opening is not None
        if action in _NEEDS_QUIET and self.answering is not None:
            return False
        if action in _NEEDS_ANSWER:
            return self.pane.target is not None and (self.answering is None or action == "differs")
        return True

    def back(self) -> bool:
        """First the difference view, a branch that was begun, the answer that comes; then the screen is left."""
        if self.pane.diff:
            self.action_differs()
        elif self.answering is not None:
            self.action_stop()
        elif self.follows is not None:
            self.follows = None
            self.query_one(Composer).clear()
        else:
            return False
        self.paint()
        return True
