"""Small questions over a screen: yes or no, one line of text, an error and its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.suggester import Suggester
from textual.widgets import Button, Input, Label, Static
from textual.worker import Worker

from engine.contract.errors import MoltingError
from engine.contract.safe import safe

from ..actions import EVERYWHERE, bindings

T = TypeVar("T")


class Dialog(ModalScreen[T]):
    """A box in the middle. `back` closes it without an answer."""

    CSS_PATH = "../styles/dialog.tcss"
    # A modal screen shuts out the app's bindings, so they are given to it once more.
    BINDINGS = [
        replace(binding, action=f"app.{binding.action}")
        for binding in bindings(EVERYWHERE)
        if isinstance(binding, Binding)
    ]

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        self.app.on_worker_state_changed(event)  # type: ignore[attr-defined]

    def back(self) -> bool:
        self.dismiss(None)
        return True


class Confirm(Dialog[bool]):
    """Asks before something is lost. Enter on the first button keeps everything as it is."""

    BINDINGS = [("left,right,up,down", "other", "other button")]

    def __init__(self, question: str, consequence: str, yes: str, no: str = "Keep") -> None:
        super().__init__()
        self._question, self._consequence, self._yes, self._no = question, consequence, yes, no

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Label(Content(self._question), classes="title")
            yield Static(Content(self._consequence))
            with Horizontal(classes="buttons"):
                yield Button(Content(self._no), id="no", compact=True)
                yield Button(Content(self._yes), id="yes", variant="error", compact=True)
            yield Static(Content("enter chooses, tab or arrows move, esc keeps"), classes="hint")

    def action_other(self) -> None:
        self.focus_next()

    @on(Button.Pressed)
    def _answer(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")


class Ask(Dialog[str]):
    """Asks for one line; `problem` says what is wrong with it, or nothing."""

    BINDINGS = [("tab", "complete", "complete")]

    def __init__(
        self,
        title: str,
        value: str = "",
        *,
        hint: str = "",
        problem: Callable[[str], str] = lambda value: "",
        suggester: Suggester | None = None,
    ) -> None:
        super().__init__()
        self._title, self._value, self._hint = title, value, hint
        self._problem, self._suggester = problem, suggester

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Label(Content(self._title), classes="title")
            yield Input(self._value, suggester=self._suggester, select_on_focus=False)
            yield Static(Content(self._hint), classes="hint", id="said")

    def action_complete(self) -> None:
        """Take the suggestion, as → does."""
        self.query_one(Input).action_cursor_right()

    @on(Input.Changed)
    def _check(self, event: Input.Changed) -> None:
        untouched = event.value in {"", self._value}  # nobody is told off before typing
        self._say("" if untouched else self._problem(event.value))

    @on(Input.Submitted)
    def _submit(self, event: Input.Submitted) -> None:
        if problem := self._problem(event.value):
            self._say(problem)
        else:
            self.dismiss(event.value)

    def _say(self, problem: str) -> None:
        said = self.query_one("#said", Static)
        said.set_class(bool(problem), "problem")
        said.update(Content(problem or self._hint))


class Failure(Dialog[None]):
    """Something could not be done: what happened, and what to do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__()
        self._message, self._remedy = message, remedy

    @classmethod
    def of(cls, error: MoltingError) -> Failure:
        return cls(error.message, error.remedy)

    def compose(self) -> ComposeResult:
        with Vertical(classes="box failure"):
            yield Label(Content("error"), classes="title")
            yield Static(Content(safe(self._message)))
            if self._remedy:
                yield Static(Content.assemble(("try ", "$muted"), safe(self._remedy)), classes="remedy")
            with Horizontal(classes="buttons"):
                yield Button("Close", id="close", compact=True)

    def copyable(self) -> str:
        """What ctrl+c copies."""
        return f"{self._message}\n{self._remedy}".strip()

    @on(Button.Pressed)
    def _close(self) -> None:
        self.dismiss(None)


class Choice(Dialog[str]):
    """One of a few, by name; the cursor starts on the present one."""

    def __init__(self, title: str, choices: Iterable[str], present: str) -> None:
        super().__init__()
        self._title, self._choices, self._present = title, list(choices), present

    def compose(self) -> ComposeResult:
        from textual.widgets import OptionList

        with Vertical(classes="box"):
            yield Label(Content(self._title), classes="title")
            yield OptionList(*(Content(choice) for choice in self._choices))

    def on_mount(self) -> None:
        from textual.widgets import OptionList

        options = self.query_one(OptionList)
        options.highlighted = self._choices.index(self._present) if self._present in self._choices else 0
        options.focus()

    def on_option_list_option_selected(self, event) -> None:  # type: ignore[no-untyped-def]
        self.dismiss(self._choices[event.option_index])
