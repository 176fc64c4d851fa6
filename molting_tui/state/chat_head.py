"""The lines above and below a conversation: who answers, and how they are asked. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence

from textual.content import Content

from engine.contract import host
from engine.contract.errors import MoltingError
from engine.contract.safe import safe
from engine.contract.spec import Generation

from .. import text
from .chat_answer import Answering
from .chat_lines import beside, column
from .chat_out import parameters
from .chat_voices import Who

_COLOURS = {"dim": "$muted", "answer": "$accent", "third": "$primary"}


def head_lines(voices: Sequence[Who], opened: host.Opened | None, base: str, active: str, width: int) -> Content:
    """Who answers, each above its column."""
    room = column(width, len(voices)) if beside(width, len(voices)) else width // len(voices) - 1
    parts: list[Content] = []
    for who in voices:
        said = text.fit(f"{who.mark}  {_about(who, opened, base, active)}", room - 1)
        parts.append(Content.assemble(" " if not parts else "", (said, f"bold {_COLOURS[who.role]}")))
    return Content.assemble(*_between(parts))


def _between(parts: Sequence[Content]) -> list[Content | tuple[str, str]]:
    found: list[Content | tuple[str, str]] = []
    for part in parts:
        found += [(" │ ", "$rule"), part] if found else [part]
    return found


def _about(who: Who, opened: host.Opened | None, base: str, active: str) -> str:
    if who.key == "base":
        name = safe(base.rstrip("/").rsplit("/", 1)[-1], False)
        how = f" · {opened.precision}" if opened else ""
        how += f" {opened.quantization}" if opened and opened.quantization != "none" else ""
        return f"base {name}{how}"
    if who.key == "adapter":
        return safe(who.name, False) + (f" · {active}" if active else " · effect not proven")
    return safe(who.name, False)


def status_line(
    *,
    width: int,
    preset: str,
    options: Generation,
    system: str | None,
    trained: str,
    shared: bool,
    saved: int,
    loading: Answering | None,
    stopping: bool,
    branch: bool,
    trouble: MoltingError | None,
) -> Content:
    """How the next question is asked; before it what goes on, and what is wrong."""
    parts: list[tuple[str, str]] = []
    if trouble is not None:
        parts.append((f"! {safe(trouble.message, False)}", "bold $error"))
    if loading is not None:
        parts.append((_loading(loading), "$primary"))
    if stopping:
        parts.append(("stopping", "$warning"))
    if branch:
        parts.append(("asks a branch; esc does not", "bold $warning"))
    same = system is None or system == trained
    prompt = _system(system, trained)
    # What is not as usual comes first: the end of the line may have no room.
    parts += [] if same else [prompt]
    parts += [("all are told A's answers", "$warning")] if shared else []
    parts.append((f"preset {preset}", "$foreground"))
    parts.append((parameters(options), "$muted"))
    parts += [prompt] if same else []
    if saved:
        parts.append((f"{text.plural(saved, 'turn')} saved", "$success"))
    parts += [] if shared else [("each its own history", "$muted")]
    return _as_many(parts, width)


def _system(system: str | None, trained: str) -> tuple[str, str]:
    if system is None or system == trained:
        return ("system = training" if trained else "no system prompt, as in training"), "$muted"
    return ("system ≠ training" if system else "NO system ≠ training"), "bold $warning"


def _loading(loading: Answering) -> str:
    told = loading.progress
    if told is None:
        return "starting the inference host"
    left = loading.seconds_left(time.monotonic())
    share = f" {text.percent(told.done / told.total)}" if told.total else ""
    return f"{safe(told.phase, False)}{share}" + (f", {text.clock(left)} left" if left is not None else "")


def _as_many(parts: Sequence[tuple[str, str]], width: int) -> Content:
    """As many of the parts as there is room for, the first ones first."""
    line: list[tuple[str, str]] = [("", "")]
    used = 1
    for said, style in parts:
        said = text.fit(said, width - 2).rstrip() if len(said) > width - 2 else said
        if used + len(said) > width:
            break
        line += [(" · " if used > 1 else " ", "$rule"), (said, style)]
        used += len(said) + 3
    return Content.assemble(*line)
