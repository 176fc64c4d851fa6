"""Work that takes a while: what it is doing, how far it is, and a way to stop waiting for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Label, ProgressBar, Static

from engine.contract import calls
from engine.contract.errors import MoltingError

from ..progress import amount
from ..services.engine import Heard
from ..services.task import Cancelled, Task
from ..terminal import one_line
from .dialog import Dialog

T = TypeVar("T")


class Job(Dialog["T | MoltingError | None"], Generic[T]):
    """Runs `work(task)` in a thread. Dismissed with its result, its MoltingError, or None when cancelled."""

    def __init__(self, title: str, work: Callable[[Task], T]) -> None:
        super().__init__()
        self._title, self._work = title, work
        self._waits = Task(lambda heard: self.app.call_from_thread(self._hear, heard))

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Label(Content(self._title), classes="title")
            yield Static(Content("starting the engine"), id="phase")
            yield ProgressBar(show_eta=False, show_percentage=True)
            yield Static(id="note", classes="hint")
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel", compact=True)

    def on_mount(self) -> None:
        self._run()

    def back(self) -> bool:
        """Cancel; the dialog closes as soon as the engine's process has ended."""
        self._waits.cancel()
        return True

    @on(Button.Pressed)
    def _pressed(self) -> None:
        self.back()

    @work(thread=True, exit_on_error=False)
    def _run(self) -> None:
        try:
            result: T | MoltingError | None = self._work(self._waits)
        except Cancelled:
            result = None
        except MoltingError as error:
            result = error
        self.app.call_from_thread(self._finish, result)

    def _finish(self, result: T | MoltingError | None) -> None:
        self.dismiss(result)  # not awaited here: it would wait for itself

    def _hear(self, heard: Heard) -> None:
        if isinstance(heard, calls.Note):
            self.query_one("#note", Static).update(Content(one_line(heard.text)))
            return
        if isinstance(heard, calls.Found):
            return  # all of them come with the result
        said = f"{one_line(heard.phase)}  {amount(heard)}".strip()
        self.query_one("#phase", Static).update(Content(said))
        self.query_one(ProgressBar).update(total=heard.total or None, progress=heard.done)
