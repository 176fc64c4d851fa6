"""What Chat asks for: all parameters in a small form, the system prompt, and which conversation."""

from __future__ import annotations

from datetime import datetime

import msgspec
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input, Label, OptionList, Static

from engine.contract.safe import safe
from engine.contract.spec import Generation
from engine.contract.tomlwords import expected_of

from .. import text
from ..state.chat import Conversation
from ..terminal import one_line
from ..widgets.chat_composer import Composer
from .dialog import Dialog

_MEANING = {
    "temperature": "0 is greedy",
    "top_p": "nucleus; 1 is off",
    "top_k": "0 is off",
    "repetition_penalty": "1 is off",
    "max_new_tokens": "cap of an answer",
    "seed": "of what is drawn",
}
_SHOWN = 60  # conversations in the list at once


def _plain(value: float) -> str:
    """As somebody would type it, with all its digits."""
    return str(value).removesuffix(".0")


class Parameters(Dialog[Generation]):
    """Every parameter of an answer. Dismissed with them, or None."""

    def __init__(self, options: Generation) -> None:
        super().__init__()
        self._options = options

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Label(Content("Parameters of the answers"), classes="title")
            for name, meaning in _MEANING.items():
                with Horizontal(classes="parameter"):
                    yield Label(Content(name))
                    yield Input(_plain(getattr(self._options, name)), id=name, select_on_focus=True)
                    yield Label(Content(meaning), classes="meaning")
            yield Static(Content("tab moves, enter takes them, esc leaves them"), classes="hint", id="said")

    @on(Input.Submitted)
    def _take(self) -> None:
        try:
            self.dismiss(self._written())
        except ValueError as error:
            said = self.query_one("#said", Static)
            said.add_class("problem")
            said.update(Content(safe(str(error), False)))

    def _written(self) -> Generation:
        """What stands in the form. ValueError naming the field that cannot be."""
        values = {}
        for name in _MEANING:
            written = self.query_one(f"#{name}", Input).value.strip()
            try:
                values[name] = msgspec.convert({name: written}, Generation, strict=False)
            except (ValueError, OverflowError):
                expected = expected_of(Generation, name)
                raise ValueError(f"{name} cannot be {written[:20]!r}; expected {expected}.") from None
        return msgspec.structs.replace(self._options, **{name: getattr(one, name) for name, one in values.items()})


class System(Dialog["tuple[bool, str]"]):
    """The system prompt. Dismissed with (as trained, text), or None."""

    def __init__(self, present: str, trained: str) -> None:
        super().__init__()
        self._present, self._trained = present, trained

    def compose(self) -> ComposeResult:
        with Vertical(classes="box system"):
            yield Label(Content("System prompt of the next questions"), classes="title")
            yield Composer(self._present)
            yield Static(id="differs", classes="hint")
            with Horizontal(classes="buttons"):
                yield Button("As in training", id="trained", compact=True)
                yield Button("Use it", id="use", compact=True)
            yield Static(Content("enter takes it, ctrl+j is a new line, empty is none, esc leaves it"), classes="hint")

    def on_mount(self) -> None:
        self._compare()

    @on(Composer.Changed)
    def _compare(self) -> None:
        same = self.query_one(Composer).text == self._trained
        self.query_one("#differs", Static).update(
            Content("= as in training" if same else "≠ not the one of the training")
        )

    @on(Composer.Sent)
    def _use(self) -> None:
        said = self.query_one(Composer).text
        self.dismiss((said == self._trained, said))

    @on(Composer.Left)
    def _leave(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "use":
            self._use()
        else:
            self.dismiss((True, self._trained))


class Conversations(Dialog[Conversation]):
    """All conversations of a run, searched as one types, in questions and answers."""

    def __init__(self, found: list[Conversation]) -> None:
        super().__init__()
        self._all = self._shown = found

    def compose(self) -> ComposeResult:
        with Vertical(classes="box away"):
            yield Label(Content(f"Conversations of this run: {len(self._all)}"), classes="title")
            yield Input(placeholder="words of a question or an answer")
            yield OptionList()
            yield Static(Content("enter opens, tab moves, esc closes"), classes="hint")

    def on_mount(self) -> None:
        self._fill("")

    @on(Input.Changed)
    def _search(self, event: Input.Changed) -> None:
        self._fill(event.value.casefold().strip())

    def _fill(self, wanted: str) -> None:
        self._shown = [each for each in self._all if not wanted or each.holds(wanted)][:_SHOWN]
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([self._line(each) for each in self._shown])
        options.highlighted = 0 if self._shown else None

    def _line(self, each: Conversation) -> Content:
        when = datetime.fromtimestamp(each.began).strftime("%d %b %H:%M") if each.began else text.DASH
        many = text.plural(len(each.turns), "turn")
        return Content.assemble((f"{when}  {many:>9}  ", "$muted"), one_line(each.title[:200]))

    @on(Input.Submitted)
    def _take_first(self) -> None:
        options = self.query_one(OptionList)
        if options.highlighted is not None:
            self.dismiss(self._shown[options.highlighted])

    @on(OptionList.OptionSelected)
    def _take(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._shown[event.option_index])
