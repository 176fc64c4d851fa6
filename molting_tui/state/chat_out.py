"""What leaves Chat: a conversation as Markdown, an answer as a row of data, a turn as an answer sheet. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import msgspec

from engine.contract import sheets
from engine.contract.errors import MoltingError
from engine.contract.rubric import Question, Rubric
from engine.contract.safe import safe
from engine.contract.spec import Generation

from .chat import Conversation, Reply, Turn
from .chat_lines import badge, stats


def markdown(conversation: Conversation, run: str, system: str) -> str:
    """The path that is read, as Markdown; what was said is quoted, so that nothing in it is a heading or a link."""
    lines = [f"# Chat with {run}", ""]
    if system:
        lines += ["System prompt of the training:", "", *_quoted(system), ""]
    for turn in conversation.path():
        lines += ["## You", "", *_quoted(turn.question), ""]
        if turn.system is not None:
            lines += ["System prompt (not that of the training):", "", *_quoted(turn.system or "(none)"), ""]
        replies = [reply for voice in turn.voices if (reply := conversation.answer(turn.id, voice))]
        for reply in replies:
            lines += [f"**{reply.voice}** · {stats(reply)}", "", *_quoted(reply.text or "(nothing)"), ""]
        if len(replies) > 1:
            lines += [*(f"*{sentence}*" for sentence in badge(replies, "`molting why`")), ""]
        if turn.options is not None:
            lines += [f"Parameters: {parameters(turn.options)}", ""]
    return "\n".join(lines).rstrip() + "\n"


def _quoted(said: str) -> list[str]:
    return [f">     {row}".rstrip() for row in safe(said).splitlines() or [""]]


def parameters(options: Generation) -> str:
    """`T 0.9 · top_p 0.95 · rep 1.2 · 80 tok · seed 0`; what is off is left out."""
    parts = ["greedy" if not options.temperature else f"T {options.temperature:g}"]
    if options.temperature:
        parts += [f"top_p {options.top_p:g}"] if options.top_p < 1 else []
        parts += [f"top_k {options.top_k}"] if options.top_k else []
    parts += [f"rep {options.repetition_penalty:g}"] if options.repetition_penalty != 1 else []
    return " · ".join([*parts, f"{options.max_new_tokens} tok", f"seed {options.seed}"])


def row(
    conversation: Conversation, turn: Turn, reply: Reply, *, run: str, adapter: str, t: float, system: str
) -> dict[str, Any]:
    """The answer as a row in the `messages` format, with where it came from. `system` is that of the training."""
    said = conversation.messages(turn.parent, turn.question, reply.voice, shared=turn.shared)
    messages = [{"role": each.role, "content": each.content} for each in said]
    used = system if turn.system is None else turn.system
    head = [{"role": "system", "content": used}] if used else []
    return {
        "messages": [*head, *messages, {"role": "assistant", "content": reply.text}],
        "origin": {
            "kind": "chat",
            "run": run,
            "adapter": adapter,
            "voice": reply.voice,
            "conversation": conversation.id,
            "question": turn.question,
            "parameters": msgspec.to_builtins(turn.options) if turn.options else {},
            "stop": reply.stop,
            "date": datetime.fromtimestamp(t, timezone.utc).isoformat(timespec="seconds"),
        },
    }


def sheet(
    conversation: Conversation, turn: Turn, rubric: Rubric, *, name: str, run: str, adapter: str, t: float, system: str
) -> tuple[sheets.Header, list[sheets.Item]]:
    """A turn as a sheet to grade, with the dimensions of `rubric`. MoltingError where no voice of it can be graded."""
    voices = {"base": "base", "adapter": "adapter"}
    voices |= {each: "checkpoint" for each in turn.voices if each.startswith("checkpoint ")}
    replies = [reply for each in turn.voices if each in voices and (reply := conversation.answer(turn.id, each))]
    whole = [reply for reply in replies if reply.stop in ("end", "cap")]
    if not whole:
        raise MoltingError("Only whole answers of base, adapter or a checkpoint can be graded.", code=2)
    options = turn.options or Generation()
    header = sheets.Header(
        name=name,
        run=run,
        rubric=msgspec.structs.replace(rubric, name="chat", questions=[Question(id="chat", text=turn.question[:4000])]),
        t=t,
        adapter=adapter,
        system=system if turn.system is None else turn.system,
        checkpoint=next((int(reply.voice.split()[1]) for reply in whole if voices[reply.voice] == "checkpoint"), None),
        decoding=sheets.Decoding(
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=options.top_k,
            repetition_penalty=options.repetition_penalty,
            seed=options.seed,
        ),
        notes=_notes(conversation, turn),
    )
    return header, [_item(turn, reply, voices[reply.voice], options) for reply in whole]


def _item(turn: Turn, reply: Reply, voice: Any, options: Generation) -> sheets.Item:
    return sheets.Item(
        id=f"chat-{voice}",
        question_id="chat",
        question=turn.question,
        voice=voice,
        answer=reply.text,
        sample=1 if options.temperature else 0,
        seed=options.seed if options.temperature else None,
        tokens=reply.tokens,
        stop="end" if reply.stop == "end" else "cap",
    )


def _notes(conversation: Conversation, turn: Turn) -> list[str]:
    notes = [f"Asked in Chat, conversation {conversation.id}."]
    before: Sequence[Turn] = conversation.path(turn.parent)
    if before:
        notes.append(f"{len(before)} questions were asked before it, whose answers the voices were told.")
    return notes
