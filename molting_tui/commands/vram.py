"""`molting vram`: what holds the memory of the GPUs and of the host."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
import typer

from .. import terminal
from ..services.gpu import MachineSampler
from ..state import memory_lines
from ..state.gpu import Machine, RunUse
from ..state.lines import Line
from ..terminal import Terminal
from .context import Json, places, print_json

_EVERY = 1.0  # seconds
_WIDEST = 100
_ROLES = {
    "run": "adapter",
    "others": "dim",
    "free": "dim",
    "dim": "dim",
    "bold": "title",
    "warn": "warning",
    "mark": "warning",
}


def vram(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Print it once and end.")] = False,
    json: Json = False,
) -> None:
    """Show GPU and host memory, every second on a terminal until ctrl+c."""
    out = terminal.out()
    with MachineSampler(places(ctx).runs) as sampler:
        machine = sampler.sample()
        if json:
            print_json(as_json(machine))
            return
        painted = _paint(machine, out, 0)
        while out.tty and not once:
            time.sleep(_EVERY)
            painted = _paint(sampler.sample(), out, painted)


def as_json(machine: Machine) -> dict[str, Any]:
    """The object that scripts get: bytes, shares, °C, watts, MHz; null for what is not known."""
    found = msgspec.to_builtins(machine)
    for holder in (*found["gpus"], found["host"]):
        for process in holder["processes"]:
            del process["ancestors"]
    return {"gpus": found["gpus"], "host": found["host"], "note": found["note"], "t": found["t"]}


def _paint(machine: Machine, out: Terminal, before: int) -> int:
    """Print in place of the `before` lines that were printed last; how many there are now."""
    signs = memory_lines.UNICODE if out.unicode else memory_lines.ASCII
    lines = [_painted(line, out) for line in memory_lines.lines(machine, RunUse(), min(_WIDEST, out.width - 1), signs)]
    clear = f"\x1b[{before}A\x1b[J" if before else ""
    out.line(clear + "\n".join(lines))
    return len(lines)


def _painted(line: Line, out: Terminal) -> str:
    return "".join(out.paint(_ROLES.get(role, ""), out.signs(said)) for said, role in line).rstrip()
