"""The app: wiring only. Screens, theme, keymap, the watch over the runs, and where errors go."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import work
from textual.content import Content
from textual.filter import LineFilter
from textual.message import Message
from textual.screen import Screen
from textual.worker import Worker, WorkerState

from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.settings import Settings

from . import actions
from .actions import EVERYWHERE
from .begin import Begin
from .harmless import Ascii, Harmless
from .look import Look
from .machines import Folders as Folders
from .machines import Machines
from .screens.page import Page
from .services.hang_up import end_with_terminal
from .services.view_state import ViewStore
from .services.watch import RunsWatch, Seen
from .state.run_list import Ended, RunList, Warned, sentence
from .themes import NAMES, THEMES
from .widgets.top_line import live_line

if TYPE_CHECKING:
    from textual.command import Provider

    from .services.grades import Wanted
    from .state.view import View

# What only some sessions need is imported where it is used: the first screen stands sooner for it.
_SEEN_EVERY = 30.0  # seconds between notes of when the runs were last looked at
_LOOK_AROUND = 0.3  # seconds after which the machine is looked at first
_LEAVE_TWICE = 2.0  # seconds within which a second `back` on the first screen leaves


class RunsSeen(Message):
    """The watch has news."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen


def _actions_in_palette() -> type[Provider]:
    from .palette import ActionProvider

    return ActionProvider


class MoltingApp(Machines):
    """Owns nothing that matters: kill it at any moment, and the runs go on and nothing is lost."""

    TITLE = "molting"
    CSS_PATH = "styles/app.tcss"
    BINDINGS = [*actions.bindings(EVERYWHERE)]
    COMMANDS = {_actions_in_palette}
    ENABLE_COMMAND_PALETTE = False  # ours stands in the registry like any other action

    def __init__(self, places: Folders, settings: Settings, look: Look, begin: Begin | None = None) -> None:
        """MoltingError (code 2) for an unusable keymap."""
        self.look, self.settings, self._first = look, settings, begin or Begin()
        super().__init__()
        self.places = places
        self.actions = actions.with_keymap(settings.keys)
        self.registry = {action.id: action for action in self.actions}  # for their keys
        self.store = ViewStore(places.runs)
        self.runs = RunList(view=self.store.read())
        self.since = self.runs.view.last_seen  # when the user last looked, before now
        self._leaving = threading.Event()
        self._wanted_to_leave = 0.0
        self._demo = ""  # the run whose proof is shown when it is finished
        self.animation_level = "basic" if look.animate else "none"
        self.set_class(look.ascii, "-ascii")
        for theme in THEMES:
            self.register_theme(theme)
        chosen = self.runs.view.choices.get("theme", "")
        self.theme = chosen if chosen in NAMES else look.theme
        self.set_keymap({action_id: self.registry[action_id].keys for action_id in settings.keys})

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Nothing is painted that did not pass these."""
        return [*super().get_line_filters(), Harmless(), *([Ascii()] if self.look.ascii else [])]

    def on_mount(self) -> None:
        from .screens.runs import Runs

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit)  # not without restoring the terminal
        self.push_screen(Runs())
        first = self._first
        if first.show:
            from .screens.live import Live

            self.push_screen(Live(first.show))
        if first.data:
            from .screens.data import Data

            self.push_screen(Data(first.data))
        if first.grade:
            self._begin_grading(*first.grade)
        if first.curate:
            self._begin_curating(*first.curate)
        if first.chat:
            from .screens.chat import Chat

            self.push_screen(Chat(first.chat))
        self.set_interval(1 / self.look.rate, self._paint)
        self.set_interval(_SEEN_EVERY, self._note_seen)
        self.call_after_refresh(self._watch)  # reading runs must not hold up the first frame
        # After the first paint: what it imports is not needed for it.
        self.set_timer(_LOOK_AROUND, self.watch_machines)

    @work(exit_on_error=False)
    async def _begin_grading(self, run: RunDir, wanted: Wanted | None) -> None:
        from .screens.grading import grade

        await grade(self, run, wanted)

    @work(exit_on_error=False)
    async def _begin_curating(self, run: RunDir, batch: str) -> None:
        from .screens.curating import curate

        await curate(self, run, batch)

    def exit(self, *args: Any, **kwargs: Any) -> None:
        """Leave. Runs go on; what was seen up to now is not told as news next time."""
        self._leaving.set()
        with suppress(MoltingError):
            self._remember_seen(time.time())
        super().exit(*args, **kwargs)

    def on_unmount(self) -> None:
        self._leaving.set()
        self.stop_watching()

    @work(thread=True, group="watch", exit_on_error=False)
    def _watch(self) -> None:
        watch = RunsWatch(self.places.runs)
        while not self._leaving.is_set():
            for seen in watch.poll():
                if seen.listed or seen.changed or seen.gone or not self.runs.complete:
                    self.post_message(RunsSeen(seen))
            self._leaving.wait(1 / self.look.rate)

    def on_runs_seen(self, message: RunsSeen) -> None:
        seen = message.seen
        self.runs.listed(seen.listed)
        if seen.listed:
            self._paint()  # names stand at once; what the runs did is read behind them
        self.runs.forget(seen.gone)
        for news in self.runs.update(seen.changed):
            if not self._on_screen(news):
                self.tell(*sentence(news))
            if news.run.id == self._demo and news.run.state == "finished":
                self._demo = ""
                self.prove(RunDir(Path(news.run.path)))
        if seen.complete and not self.runs.complete:
            self.runs.complete = True
            self._paint()
            self._welcome_back()

    def follow_demo(self, run: RunDir) -> None:
        """Prove and show what the run did, now or when it is finished."""
        from engine.contract import summary

        if summary.summarise(run).state == "finished":
            self.prove(run)
        else:
            self._demo = run.id

    @work(exit_on_error=False)
    async def prove(self, run: RunDir) -> None:
        """Show what the run's training changed; measured now where it was not."""
        from .screens.job import Job
        from .screens.proof import ShowProof
        from .services import proofs

        models = str(self.places.models)
        job = Job("Asking base and adapter, and proving the effect", lambda task: proofs.of(run, models, task))
        proof = await self.push_screen_wait(job)
        if isinstance(proof, MoltingError):
            self.fail(proof)
        elif proof is not None:
            await self.push_screen_wait(ShowProof(self.runs.name(run.id), run.id, proof))

    def _on_screen(self, news: Ended | Warned) -> bool:
        """Whether the run's own screen tells it."""
        runs = [getattr(screen, "run", None) for screen in self.screen_stack]
        return isinstance(news, Warned) and any(isinstance(run, RunDir) and run.id == news.run.id for run in runs)

    @work
    async def _welcome_back(self) -> None:
        """What happened since somebody last looked, before anything else."""
        from .state.away import happened

        known = [run for run in self.runs.known.values() if run is not None]
        found = happened(known, self.since, self.runs.view.standing, lambda run: self.runs.name(run.id))
        self._note_seen()
        if not found:
            return
        from .screens.away import Away
        from .screens.live import Live

        chosen = await self.push_screen_wait(Away(found, self.since))
        if chosen is not None:
            self.push_screen(Live(RunDir(self.places.runs / chosen)))

    def _paint(self) -> None:
        if not self.is_running:
            return
        for screen in reversed(self.screen_stack):
            if isinstance(screen, Page) and screen.is_mounted:
                screen.paint()
                return

    @work(thread=True, exclusive=True, group="seen", exit_on_error=False)
    def _note_seen(self) -> None:
        """While the app runs, too: a dropped connection ends it without a last word."""
        self._remember_seen(time.time())

    def _remember_seen(self, now: float) -> None:
        from .state.away import record

        if not self.runs.complete or not self.places.runs.is_dir():
            return
        standing = record(run for run in list(self.runs.known.values()) if run is not None)

        def edit(view: View) -> None:
            view.last_seen, view.standing = now, standing

        self.store.change(edit)

    def live_line(self, without: str = "") -> Content:
        """What is live now besides the run `without`, for the header."""
        live = [run for run in self.runs.live() if run.id != without]
        return live_line(live, self.runs.name(live[0].id) if live else "")

    def fail(self, error: MoltingError) -> None:
        """Show what could not be done and what to do about it."""
        from .screens.dialog import Failure

        self.push_screen(Failure.of(error))

    def scopes_of(self, screen: Screen[object]) -> tuple[str, ...]:
        """The registry's scopes that are heard on `screen`."""
        return (*screen.SCOPES, EVERYWHERE) if isinstance(screen, Page) else (EVERYWHERE,)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Also given the workers of the screens: an error of theirs is told, never the end of the app."""
        error = event.worker.error
        if event.state is not WorkerState.ERROR or error is None:
            return
        if isinstance(error, MoltingError):
            self.fail(error)
            return
        from . import state_files
        from .screens.dialog import Failure

        log = state_files.log_crash(error)
        self.push_screen(Failure(f"Something failed in the background ({type(error).__name__}).", f"Look at {log}."))

    def _handle_exception(self, error: Exception) -> None:
        # The end of the app, which Textual would mark with a traceback over pages; a test still sees the error.
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self._leaving.set()
        self._return_code = 3
        self._close_messages_no_wait()

    @property
    def crash(self) -> BaseException | None:
        """What ended the app, if it was not the user."""
        return self._exception

    async def action_back(self) -> None:
        self._back()

    def _back(self) -> None:
        undo = getattr(self.screen, "back", None)
        if undo is not None and undo():
            return
        if len(self.screen_stack) > 2:
            self.pop_screen()
            return
        now = time.monotonic()
        if now - self._wanted_to_leave < _LEAVE_TWICE:
            self.exit()
            return
        self._wanted_to_leave = now
        keys = actions.shown_keys(self.registry["quit"].keys)
        self.notify(f"{keys}, or back once more, leaves. Runs go on.", timeout=_LEAVE_TWICE, markup=False)

    async def action_quit(self) -> None:
        self.exit()

    def action_help(self) -> None:
        from .screens.help import Help

        if isinstance(self.screen, Page):
            scopes = (*self.screen.SCOPES, EVERYWHERE)
            self.push_screen(Help(scopes, self.actions))

    def action_palette(self) -> None:
        from textual.command import CommandPalette

        if isinstance(self.screen, Page):
            self.push_screen(CommandPalette(placeholder="What do you want to do?"))

    def action_suspend(self) -> None:
        self.action_suspend_process()

    def action_copy(self) -> None:
        """Copy the selection or what the screen names; on a dialog that has nothing to copy, cancel it."""
        screen = self.screen
        text = screen.get_selected_text() or getattr(screen, "copyable", str)()
        if text:
            self.copy(text)
        elif screen.is_modal:
            self._back()

    def copy(self, text: str) -> None:
        """To the terminal's clipboard, and to a file that is told."""
        from .services import clipboard

        self.copy_to_clipboard(text)
        try:
            self.tell(f"Copied; also in {clipboard.keep(text, self.store.folder)}.")
        except MoltingError as error:
            self.tell(str(error), "warning")

    @work(exit_on_error=False)
    async def action_theme(self) -> None:
        from .screens.dialog import Choice

        chosen = await self.push_screen_wait(Choice("Colours", NAMES, self.theme))
        if chosen is None:
            return
        self.theme = chosen
        self.runs.view.choices["theme"] = chosen
        if self.places.runs.is_dir():
            try:
                self.store.change(lambda view: view.choices.__setitem__("theme", chosen))
            except MoltingError as error:
                self.fail(error)


def run(places: Folders, settings: Settings, look: Look, begin: Begin) -> int:
    """Show the app until the user leaves; the exit status. Raises what crashed it."""
    end_with_terminal()
    app = MoltingApp(places, settings, look, begin)
    app.run(mouse=look.mouse)
    if app.crash is not None:
        raise app.crash
    return app.return_code or 0
