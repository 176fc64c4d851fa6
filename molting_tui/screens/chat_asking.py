"""How Chat asks: loading, a question to all voices, what they say as it comes, and a host that is lost."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time

from textual import on, work

from engine.contract import host, presets
from engine.contract.errors import MoltingError
from engine.contract.host_client import Gone
from engine.contract.rundir import RunDir
from engine.contract.safe import safe
from engine.contract.spec import Generation

from ..services import chat_store
from ..services.chat_store import ChatStore
from ..services.host import HostLink
from ..state import chat_voices
from ..state.chat import Turn
from ..state.chat_answer import Answering
from ..state.chat_voices import Who
from ..widgets.chat_composer import Composer
from .chat_actions import ChatActions

_BURST = 400  # replies taken in at once; then keys and repaints have their turn
_KEEP_SECONDS = 1.0  # after which a half answer is kept, should the app be killed before it ends,
_KEEP_GROWTH = 1.25  # and it must have grown so much: a long answer is then written five times, not a thousand


class ChatAsking(ChatActions):
    """Replies are folded as they come; the screen is painted at the app's rate, whatever that of the replies."""

    def __init__(self, run: RunDir) -> None:
        super().__init__()
        self.run = run
        self.link = HostLink("chat")
        self.store = ChatStore(run, chat_store.new_id())
        self.opened: host.Opened | None = None
        self.answering: Answering | None = None
        self.opening: Answering | None = None  # loading before the first question; its turn is none
        self.trouble: MoltingError | None = None
        self.system: str | None = None
        self.template: str | None = None
        self.shared = False
        self.saved = 0  # turns that are on the disk
        self.third: Who | None = None
        self.follows: str | None = None  # turn that the next question follows, where not the last
        self.options = self.trained = Generation()
        self.trained_system = ""
        self._request_id = ""

    async def on_unmount(self) -> None:
        self.store.close()
        await self.link.close()

    @property
    def called(self) -> str:
        """The name of the run."""
        return self.molting.runs.name(self.run.id)

    @property
    def voices(self) -> list[Who]:
        """Who is asked now, from left to right."""
        return [chat_voices.BASE, chat_voices.adapter(self.called), *([self.third] if self.third else [])]

    @work(exclusive=True, group="open", exit_on_error=False)
    async def _open(self) -> None:
        """Load the models while the question is still being written; also after the host was lost."""
        request = host.Open(
            id=self.link.new_id(),
            run=str(self.run.path),
            models=str(self.molting.places.models),
            voices=[who.source for who in self.voices],
        )
        self.opening = Answering(Turn(id="", question="", t=0.0), time.monotonic())
        try:
            async for reply in self.link.ask(request):
                self.opening.hear(reply, time.monotonic())
                if isinstance(reply, host.Opened):
                    self._take_opened(reply)
                elif isinstance(reply, host.Failure) and not reply.stopped:
                    self._say_trouble(MoltingError(reply.message, remedy=reply.remedy, code=reply.code))
        except MoltingError as error:
            self._say_trouble(error)
        finally:
            self.opening = None

    def _take_opened(self, opened: host.Opened) -> None:
        unchanged = self.options == self.trained
        self.opened, self.trouble = opened, None
        self.trained, self.trained_system = opened.generation, opened.system
        self.options = opened.generation if unchanged else self.options
        self.template = opened.chat_template or None
        for warning in opened.warnings:
            self.molting.tell(safe(warning, False), "warning")

    def _say_trouble(self, error: MoltingError) -> None:
        self.trouble = error
        if not isinstance(error, Gone):
            self.molting.fail(error)

    @on(Composer.Sent)
    def _send(self, event: Composer.Sent) -> None:
        if not event.text.strip():
            return
        if self.answering is not None:
            self.molting.tell("One question at a time: this one is still being answered.", "warning")
            return
        event.composer.clear()
        at = self.pane.conversation.at
        self.ask(event.text, at if self.follows is None else self.follows)

    def ask(self, question: str, parent: str) -> None:
        """Put a question after the turn `parent` to all voices."""
        turn = Turn(
            id=secrets.token_hex(6),
            question=question,
            t=time.time(),
            parent=parent,
            voices=[who.key for who in self.voices],
            system=self.system,
            shared=self.shared,
            preset=presets.name_of(self.options, self.trained, self.molting.settings.presets),
            options=self.options,
        )
        self.follows = None
        self.pane.conversation.take(turn)
        self._begin(turn)

    def _begin(self, turn: Turn) -> None:
        self.answering = Answering(turn, time.monotonic())
        self.pane.chosen, self.pane.sticks = "", True
        self._answer(turn, self.answering)
        self.paint()
        self.refresh_bindings()

    def _request(self, turn: Turn) -> host.Chat:
        conversation = self.pane.conversation
        voices = [
            host.Voice(
                source=who.source,
                messages=conversation.messages(turn.parent, turn.question, who.key, shared=turn.shared),
                system=turn.system,
            )
            for who in self.voices
        ]
        return host.Chat(
            id=self.link.new_id(),
            run=str(self.run.path),
            models=str(self.molting.places.models),
            voices=voices,
            options=turn.options,
            goes_on=True,
        )

    @work(group="answer", exit_on_error=False)
    async def _answer(self, turn: Turn, answering: Answering) -> None:
        """Ask, hear, save. What was said before something failed is kept."""
        store, conversation = self.store, self.pane.conversation
        failed: MoltingError | None = None
        try:
            await asyncio.to_thread(store.save, turn)
            await self._hear(self._request(turn), answering, store)
        except MoltingError as error:
            answering.lost, failed = True, error
        except asyncio.CancelledError:  # the screen is left in the middle
            with contextlib.suppress(MoltingError):
                store.save(*answering.replies())
            raise
        failed = failed or answering.failed
        replies = answering.replies()
        for reply in replies:
            conversation.take(reply)
        self.answering = None if self.answering is answering else self.answering
        with contextlib.suppress(Exception):  # the screen may be gone by now; what was said is saved all the same
            self.refresh_bindings()
        await asyncio.to_thread(store.save, *replies)
        self.saved = len(self.pane.conversation.turns) if store is self.store else self.saved
        if isinstance(failed, Gone):
            self._host_gone(failed)
        elif failed is not None:
            self.molting.fail(failed)
        else:
            self.trouble = None

    async def _hear(self, request: host.Chat, answering: Answering, store: ChatStore) -> None:
        self._request_id = request.id
        taken, kept, length = 0, time.monotonic(), 0
        async for reply in self.link.ask(request):
            answering.hear(reply, time.monotonic())
            if answering.too_long and not answering.stopping:
                self._stop(answering)
            taken += 1
            if time.monotonic() - kept > _KEEP_SECONDS and answering.length > _KEEP_GROWTH * length:
                with contextlib.suppress(MoltingError):  # at its end it is saved again, and a full disk told
                    await asyncio.to_thread(store.save, *answering.so_far())
                kept, length = time.monotonic(), answering.length
            if taken % _BURST == 0:
                await asyncio.sleep(0.01)

    def _host_gone(self, error: Gone) -> None:
        self.trouble = error
        again = self.pane.again
        self.molting.tell(f"{error.message} What was said is kept. Another is started; {again} asks again.", "warning")
        self._open()

    def _stop(self, answering: Answering) -> None:
        answering.stopping = True
        self.run_worker(self.link.cancel(self._request_id), group="cancel", exit_on_error=False)

    def action_stop(self) -> None:  # type: ignore[override]
        """The answers end at this token; loading ends too."""
        if self.answering is not None:
            self._stop(self.answering)
        elif self.opening is not None:
            self.workers.cancel_group(self, "open")
