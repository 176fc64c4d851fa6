"""`molting chat`: base and adapter side by side; the app on a terminal, questions from stdin elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from engine.contract import calls, host, presets, settings, summary
from engine.contract.errors import MoltingError
from engine.contract.host_client import Client, Gone
from engine.contract.rundir import RunDir
from engine.contract.spec import Generation

from .. import terminal, voices
from ..begin import Begin
from ..services import engine
from ..state.chat import Conversation, Reply, Turn
from ..state.chat_answer import Answering
from .context import Places, Run, places, progress

_VOICES: tuple[Literal["base", "adapter"], ...] = ("base", "adapter")


def chat(
    ctx: typer.Context,
    run: Run,
    preset: Annotated[
        str,
        typer.Option(metavar="NAME", help="creative, conservative, technical agent, deterministic, or your own."),
    ] = "",
) -> None:
    """Chat with base and adapter at once. Without a terminal each line of stdin is a question of one conversation."""
    where = places(ctx)
    found = where.find(run)
    if sys.stdin.isatty() and terminal.out().tty:
        if preset:
            raise MoltingError("In the app P chooses the preset.", remedy="Leave --preset away.", code=2)
        from .open_app import open_app  # Textual is for the app alone

        raise typer.Exit(open_app(where, Begin(chat=found)))
    _converse(where, found, _options(found, preset))


def _options(run: RunDir, preset: str) -> Generation:
    trained = summary.load_spec(run).generation
    known = presets.every(settings.load().presets)
    if preset and preset not in known:
        raise MoltingError(f"There is no preset {preset!r}.", remedy=f"There are {', '.join(known)}.", code=2)
    return known[preset or presets.AS_TRAINED].over(trained)


def _converse(where: Places, run: RunDir, options: Generation) -> None:
    """Every line of stdin as the next question; both answers below it. An error ends it, as it would each next one."""
    conversation, out, client = Conversation("stdin"), terminal.out(), _connect()
    try:
        for number, line in enumerate(sys.stdin, 1):
            question = line.strip()
            if not question:
                continue
            turn = Turn(id=str(number), question=question, t=0.0, parent=conversation.at, voices=list(_VOICES))
            asked = host.Chat(
                id=turn.id,
                run=str(run.path),
                models=str(where.models),
                options=options,
                goes_on=True,
                voices=[_voice(conversation, turn, kind) for kind in _VOICES],
            )
            try:
                base, adapter = _answers(client, asked, turn)
            except Gone as gone:
                terminal.warn(f"{gone.message} It is started again, and asked once more.")
                client.close()
                client = _connect()
                base, adapter = _answers(client, asked, turn)
            for record in (turn, base, adapter):
                conversation.take(record)
            pair = calls.Pair(
                question=question, base=_plain(base), adapter=_plain(adapter), first_difference=adapter.differs
            )
            for each in voices.pair_lines(pair, out):
                out.line(each)
    finally:
        client.close()


def _connect() -> Client:
    place = engine.call("host-start", calls.HostRequest(), calls.HostPlace)
    return Client(Path(place.path), "chat")


def _voice(conversation: Conversation, turn: Turn, kind: Literal["base", "adapter"]) -> host.Voice:
    said = conversation.messages(turn.parent, turn.question, kind, shared=False)
    return host.Voice(source=host.Source(kind=kind), messages=said)


def _answers(client: Client, asked: host.Chat, turn: Turn) -> list[Reply]:
    """What both said. Raises MoltingError for a Failure, and Gone when the host ends."""
    answering = Answering(turn, 0.0)
    with progress(json_wanted=False) as shown:
        for reply in client.replies(asked):
            answering.hear(reply, 0.0)
            if isinstance(reply, host.Progress):
                shown(calls.Progress(phase=reply.phase, done=reply.done, total=reply.total, unit=reply.unit))
            elif isinstance(reply, host.Note):
                shown(calls.Note(text=reply.text))
    if answering.failed is not None:
        raise answering.failed
    return answering.replies()


def _plain(reply: Reply) -> calls.Answer:
    return calls.Answer(text=reply.text, tokens=reply.tokens, stop="end" if reply.stop == "end" else "cap")
