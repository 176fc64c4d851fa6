"""`molting host`: the process that keeps models in memory, and giving that memory back."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from engine.contract import host as protocol
from engine.contract.errors import MoltingError
from engine.contract.host_client import Client, Gone, end, places, silent

from .. import terminal, text
from .context import Json, print_json


class Order(str, Enum):
    """What to do with it."""

    status = "status"
    free = "free"
    stop = "stop"


def host(
    order: Annotated[Order, typer.Argument(metavar="[status|free|stop]", help="stop ends it; free empties it.")] = (
        Order.status
    ),
    json: Json = False,
) -> None:
    """What the inference host holds in memory; `free` gives that back, `stop` ends it. It starts by itself."""
    if order is Order.stop:
        ended = [path.stem for path in places() if end(path)]
        _say({"ended": ended}, f"Ended: {', '.join(ended)}." if ended else _NONE, json)
        return
    if order is Order.free:
        _free(json)
        return
    states = [state for path in places() if (state := _state(path))]
    if json:
        print_json({"hosts": states})
        return
    out = terminal.out()
    for line in [line for state in states for line in _lines(state)] or [_NONE]:
        out.line(line)


_NONE = "No inference host is running; the next question starts one."


def _say(value: dict[str, object], sentence: str, json: bool) -> None:
    if json:
        print_json(value)
    else:
        terminal.out().line(sentence)


def _state(path: Path) -> Optional[protocol.State]:
    try:
        with Client(path, "host") as client:
            state = client.ask(protocol.Status(id="status"))
    except Gone:
        if hangs := silent(path):
            raise hangs from None
        return None
    assert isinstance(state, protocol.State)
    return state


def _free(json: bool) -> None:
    given, busy = 0, ""
    for path in places():
        try:
            with Client(path, "host") as client:
                freed = client.ask(protocol.Free(id="free", why="`molting host free` asked for it"))
        except Gone:
            if hangs := silent(path):
                raise hangs from None
            continue
        assert isinstance(freed, protocol.Freed)
        given, busy = given + freed.bytes, busy or freed.busy
    if busy:
        raise MoltingError(f"The inference host is at work: {busy}.", remedy="`molting host stop` ends it anyway.")
    _say({"bytes": given}, f"{text.size(given)} were given back.", json)


def _lines(state: protocol.State) -> list[str]:
    doing = f"at work: {state.working}" if state.working else f"idle for {text.clock(state.idle_seconds)}"
    memory = state.device_bytes or state.resident_bytes
    lines = [
        f"host on {state.device}: process {state.pid}, {text.size(memory)}, {doing}, "
        f"{text.plural(state.clients - 1, 'client')} besides this one; ends after "
        f"{text.clock(state.exits_after)} without a question"
    ]
    for model in state.models:
        kind = model.precision if model.quantization == "none" else f"{model.quantization} {model.precision}"
        lines.append(
            f"  {model.name}: {text.size(model.bytes)} in {kind}, {text.plural(len(model.adapters), 'adapter')}"
        )
        lines += [f"    {terminal.one_line(name)}" for name in model.adapters]
    return lines
