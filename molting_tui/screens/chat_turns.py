"""Where one is in a conversation: asking beside, going from branch to branch, other conversations of the run."""

from __future__ import annotations

import asyncio

import msgspec
from textual import work

from .. import actions
from ..services import chat_store
from ..services.chat_store import ChatStore
from ..state import chat
from ..state.chat import Conversation
from ..widgets.chat_composer import Composer
from .chat_asking import ChatAsking
from .chat_settings import Conversations


class ChatTurns(ChatAsking):
    """Nothing of a conversation is ever overwritten, except an answer that broke off."""

    @work(exit_on_error=False)
    async def _continue(self) -> None:
        """Go on where somebody stopped, on this run."""
        found = await asyncio.to_thread(chat_store.latest, self.run)
        if found is not None and not self.pane.conversation.turns:
            self._show(found[0])
            damaged = f" {found[1]} damaged lines of it were skipped." if found[1] else ""
            new = actions.shown_keys(self.molting.registry["new"].keys)
            self.molting.tell(f"The last conversation goes on; {new} begins a new one.{damaged}")

    def _show(self, conversation: Conversation) -> None:
        self.store.close()
        self.store = ChatStore(self.run, conversation.id)
        self.pane.show(conversation)
        self.saved, self.follows = len(conversation.turns), None
        self.refresh_bindings()
        self.paint()

    def action_new(self) -> None:
        """A new conversation; the old one stays in the list."""
        self._show(Conversation(chat_store.new_id()))
        self.query_one(Composer).focus()

    @work(exit_on_error=False)
    async def action_filter(self) -> None:
        found = await asyncio.to_thread(chat_store.every, self.run)
        if not found:
            self.molting.tell("Nothing was said with this run yet.")
            return
        chosen = await self.app.push_screen_wait(Conversations(found))
        if chosen is not None:
            self._show(chosen)

    def action_edit(self) -> None:  # type: ignore[override]
        """The chosen question once more, changed: a branch beside it."""
        turn = self.pane.target
        if turn is None:
            return
        composer = self.query_one(Composer)
        composer.text = turn.question
        composer.move_cursor(composer.document.end)
        self.follows = turn.parent
        composer.focus()

    def action_regenerate(self) -> None:
        """The chosen question once more as it is; where it is drawn, with the next seed."""
        turn = self.pane.target
        if turn is None or self.answering is not None:
            return
        whole = [reply for reply in self.answered()[1] if reply.stop != "lost"]
        if not whole and turn.voices == [who.key for who in self.voices]:
            self._begin(turn)
            return
        if self.options.temperature and turn.options == self.options:
            self.options = msgspec.structs.replace(self.options, seed=(self.options.seed + 1) % 2**31)
        self.ask(turn.question, turn.parent)

    def action_branch(self) -> None:
        """The next question follows the chosen turn."""
        turn = self.pane.target
        if turn is not None:
            self.follows = turn.id
            self.query_one(Composer).focus()

    def action_older_sample(self) -> None:
        self._beside(-1)

    def action_newer_sample(self) -> None:
        self._beside(1)

    def _beside(self, by: int) -> None:
        turn, conversation = self.pane.target, self.pane.conversation
        leaf = conversation.beside(turn.id, by) if turn else None
        if turn is None or leaf is None or self.answering is not None:
            return
        depth = len(conversation.path(turn.id))
        conversation.take(chat.At(turn=leaf))
        self.pane.chosen = conversation.path()[depth - 1].id if leaf != conversation.path()[depth - 1].id else ""
        self._save_place(leaf)
        self.paint()

    @work(exit_on_error=False)
    async def _save_place(self, leaf: str) -> None:
        await asyncio.to_thread(self.store.save, chat.At(turn=leaf))
