"""What can be done with what was said in Chat: keep it as a row, send it to grading, export it, ask why."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from textual import work

from engine.contract import calls, durable, sheets
from engine.contract import rubric as rubrics
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Generation
from engine.contract.summary import Summary

from ..services import chat_store
from ..state import chat_out
from ..state.chat import Reply, Turn
from ..widgets.chat_pane import ChatPane
from .dialog import Ask, Choice
from .run_actions import RunActions
from .why import Why

_ROWS = "kept-rows.jsonl"


class ChatActions(RunActions):
    """Needs what `chat.py` has: the run, the pane, and how questions are asked now."""

    run: RunDir
    system: str | None
    trained_system: str
    options: Generation
    template: str | None

    def __init__(self) -> None:
        super().__init__()
        self._rows_file = ""

    @property
    def pane(self) -> ChatPane:
        return self.query_one(ChatPane)

    def targets(self) -> list[Summary]:
        run = self.molting.runs.known.get(self.run.id)
        return [run] if run is not None else []

    def answered(self) -> tuple[Turn, list[Reply]]:
        """The turn that keys act on with its answers; none where there is nothing to act on."""
        turn = self.pane.target
        if turn is None:
            return Turn(id="", question="", t=0.0), []
        said = self.pane.conversation.replies.get(turn.id, {})
        return turn, [said[voice] for voice in turn.voices if voice in said]

    @work(exit_on_error=False)
    async def action_keep_row(self) -> None:
        """A good answer becomes a row of data, with where it came from."""
        turn, replies = self.answered()
        if not replies:
            return
        learned = [each for each in replies if each.voice != "base"]
        chosen: str | None = (learned or replies)[0].voice
        if len(learned) > 1:
            names = [each.voice for each in replies]
            chosen = await self.app.push_screen_wait(Choice("Whose answer becomes a row?", names, names[0]))
        reply = next((each for each in replies if each.voice == chosen), None)
        if reply is None:
            return
        file = await self.app.push_screen_wait(
            Ask(
                "Append this answer as a row to",
                self._rows_file or str(self.run.path / _ROWS),
                hint="a .jsonl file; the row says which run, question and parameters it came from",
                problem=lambda value: "" if value.strip().endswith(".jsonl") else "Name a .jsonl file.",
            )
        )
        if file is None:
            return
        self._rows_file = file
        path = Path(file.strip()).expanduser().absolute()
        row = chat_out.row(
            self.pane.conversation,
            turn,
            reply,
            run=self.run.id,
            adapter=await asyncio.to_thread(chat_store.adapter_sha, self.run),
            t=time.time(),
            system=self.trained_system,
        )
        await asyncio.to_thread(chat_store.keep_row, path, row)
        self.molting.tell(f"Kept as a row in {path}.")

    @work(exit_on_error=False)
    async def action_to_grading(self) -> None:
        """The question and its answers as a sealed sheet that can be graded."""
        turn, replies = self.answered()
        if replies:
            path = await asyncio.to_thread(self._sheet, turn)
            self.molting.tell(f"Ready to grade: {path}.")

    def _sheet(self, turn: Turn) -> Path:
        rubric = rubrics.load(rubrics.for_persona(self.molting.runs.name(self.run.id)))
        header, items = chat_out.sheet(
            self.pane.conversation,
            turn,
            rubric,
            name="chat",
            run=self.run.id,
            adapter=chat_store.adapter_sha(self.run),
            t=time.time(),
            system=self.trained_system,
        )
        header.name = sheets.new_name(self.run, header.rubric)
        return sheets.write(self.run, header, items)

    @work(exit_on_error=False)
    async def action_write(self) -> None:
        """The conversation as Markdown."""
        conversation = self.pane.conversation
        if not conversation.turns:
            return
        usual = self.run.conversations / f"{conversation.id}.md"

        def problem(value: str) -> str:
            path = Path(value.strip()).expanduser()
            return f"{path} exists already." if path != usual and path.exists() else ""

        file = await self.app.push_screen_wait(
            Ask("Export the conversation as Markdown to", str(usual), hint="what is read now, question by question",
                problem=problem)
        )  # fmt: skip
        if file is None:
            return
        path = Path(file.strip()).expanduser().absolute()
        page = chat_out.markdown(conversation, self.molting.runs.name(self.run.id), self.trained_system)
        try:
            await asyncio.to_thread(durable.write_replace, path, page.encode("utf-8", "replace"))
        except OSError as error:
            raise durable.explain(error, f"write {path}") from error
        self.molting.tell(f"Exported to {path}.")

    @work(exit_on_error=False)
    async def action_why(self) -> None:
        """Why base and adapter say the same, asked exactly as they are asked here."""
        options = self.options
        request = calls.WhyRequest(
            run=str(self.run.path),
            models=str(self.molting.places.models),
            system=self.system,
            chat_template=self.template,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=options.top_k,
            repetition_penalty=options.repetition_penalty,
            seed=options.seed,
        )
        name = self.molting.runs.name(self.run.id)
        found = await self.wait_for(
            f"Why {name} changed nothing, if so", lambda task: task.call("why", request, calls.Investigation)
        )
        if found is not None:
            await self.app.push_screen_wait(Why(name, found))

    def copyable(self) -> str:
        from ..widgets.chat_pane import copyable

        turn = self.pane.target
        return copyable(self.pane.conversation, turn) if turn else str(self.run.path)

    def tell_error(self, error: MoltingError) -> None:
        """What could not be done, as a sentence over the screen."""
        self.molting.fail(error)
