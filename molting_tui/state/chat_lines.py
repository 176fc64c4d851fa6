"""One turn of a conversation as lines: the question, the answers beside or below each other, what tells them apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len, chop_cells

from engine.contract.safe import safe

from .. import text
from .chat import Reply, Turn
from .chat_answer import Answering
from .chat_voices import Who
from .lines import Line
from .word_diff import word_diff

LEAST = 34  # cells of a column; with less the answers stand below each other
WHILE_IT_COMES = 4_000  # characters of an answer that are laid out at every repaint
_HEAD = 1_000  # of these, from its beginning
AT_REST = 40_000
_STOPS = {"end": "end token", "cap": "cap", "stopped": "stopped by you", "lost": "broken off before its end"}
_WORDS = re.compile(r" *[^ ]+| +")  # each with the spaces before it
Part = tuple[str, str]  # (text, role)


@dataclass(frozen=True)
class Said:
    """What one voice has said, as it is shown. `state` stands below it."""

    who: Who
    text: str
    state: str
    coming: bool = False


@dataclass(frozen=True)
class Shown:
    """How turns are shown. `why` is the key that investigates, `again` the one that asks once more."""

    width: int
    diff: bool = False
    chosen: bool = False
    why: str = "W"
    again: str = "R"
    place: str = ""  # among its siblings, as "2/3"


def beside(width: int, voices: int) -> bool:
    """Whether so many answers have room beside each other."""
    return column(width, voices) >= LEAST


def column(width: int, voices: int) -> int:
    """Cells of one of so many columns, rules between them."""
    return (width - 3 * (voices - 1)) // max(1, voices)


def stats(reply: Reply) -> str:
    """`end token · 18 tok · 14 tok/s · first after 0.3 s`"""
    parts = ["stopped: longer than is kept" if reply.cut else _STOPS[reply.stop], f"{reply.tokens} tok"]
    if reply.per_second:
        parts.append(f"{text.number(reply.per_second)} tok/s")
    if reply.to_first:
        parts.append(f"first after {text.number(reply.to_first)} s")
    return " · ".join(parts)


def coming(answering: Answering, index: int, now: float) -> str:
    """The same for an answer that still comes."""
    voice = answering.voices[index]
    if voice.done is not None:
        done = voice.done
        reply = Reply(
            turn="", voice="", text="", stop=done.stop, tokens=done.tokens, to_first=done.to_first, seconds=done.seconds
        )
        return stats(reply)
    if not voice.tokens:
        return "its turn comes after the other's" if answering.mode == "two-pass" and index else "…"
    rate = voice.per_second(now)
    return f"{voice.tokens} tok" + (f" · {rate:.0f} tok/s" if rate else "")


def badge(replies: Sequence[Reply], why: str) -> list[str]:
    """What tells the answers from the first one's, a sentence each; `why` is the key that finds out more."""
    found = []
    for reply in replies[1:]:
        if not reply.compared:
            continue
        kl = "" if reply.kl is None else f"KL of the first token {text.number(reply.kl)}"
        if reply.differs is not None:
            found.append(" · ".join(filter(None, [f"differs from token {reply.differs + 1} on", kl])))
        elif reply.kl is None:
            found.append("identical, token for token, though they were told different things before")
        elif reply.kl > 0:
            found.append(
                f"identical, token for token. This proves nothing against the adapter: its probabilities differ ({kl}),"
                f" only not enough to show here. {why} finds out why"
            )
        else:
            found.append(
                "identical, token for token, and so are the probabilities of the first token. One question does not "
                f"prove that the adapter does nothing; {why} finds out"
            )
    return found


def question_lines(turn: Turn, shown: Shown) -> list[Line]:
    """The question over the whole width, and which of its siblings it is."""
    mark = "▸ " if shown.chosen else "  "
    place = f"  {shown.place}" if shown.place else ""
    room = max(8, shown.width - 6 - len(place))
    rows = text.wrap(safe(clip(turn.question, AT_REST)).expandtabs(4), room)
    head = "match" if shown.chosen else "dim"
    lines: list[Line] = [[(mark, "bold"), ("you ", head), (row, "bold")] for row in rows[:1]]
    lines += [[(" " * 6, ""), (row, "bold")] for row in rows[1:]]
    if place:
        lines[0].append((" " * max(0, shown.width - 6 - cell_len(rows[0]) - len(place)) + place, "dim"))
    return lines


def answer_lines(said: Sequence[Said], shown: Shown) -> list[Line]:
    """All answers, beside each other where there is room."""
    across = beside(shown.width, len(said))
    width = column(shown.width, len(said)) if across else shown.width
    parts = [_parts(each) for each in said]
    if shown.diff and len(said) > 1 and not any(each.coming for each in said):
        parts = _marked(said)
    blocks = [_block(each, some, width) for each, some in zip(said, parts, strict=True)]
    if not across:
        return [line for block in blocks for line in block]
    return [_joined(rows, width) for rows in zip_longest(*blocks, fillvalue=[])]


def _block(said: Said, parts: list[Part], width: int) -> list[Line]:
    rows: list[Line] = wrap_parts(parts, width)
    for n, state in enumerate(text.wrap(said.state, width - 2) if said.state else []):
        rows.append([("  " if n else f"{said.who.mark} ", said.who.role), (state, "dim")])
    return rows


def _joined(rows: tuple[Line, ...], width: int) -> Line:
    line: Line = []
    for index, row in enumerate(rows):
        line += [(" │ ", "rule")] if index else []
        used = sum(cell_len(part) for part, _ in row)
        line += [*row, (" " * (width - used), "")]
    return line


def _parts(said: Said) -> list[Part]:
    whole = clip(said.text, WHILE_IT_COMES if said.coming else AT_REST)
    return [(_tidy(whole) or ("" if said.coming else "(nothing)"), said.who.role)]


def _marked(said: Sequence[Said]) -> list[list[Part]]:
    """What only one has stands in brackets, not just in a style: `[-so-]` in the first, `{+so+}` in the others."""
    first = said[0]
    found: list[list[Part]] = [_parts(first)]
    for index, other in enumerate(said[1:]):
        lefts, rights = word_diff(_tidy(first.text), _tidy(other.text))
        if index == 0:
            found[0] = _bracketed(lefts, "[-", "-]", first.who.role)
        found.append(_bracketed(rights, "{+", "+}", other.who.role))
    return found


def _bracketed(parts: Sequence[tuple[str, bool]], begin: str, end: str, role: str) -> list[Part]:
    found: list[Part] = []
    for said, differs in parts:
        if not differs or not said.strip():
            found.append((said, role))
            continue
        space = said[: len(said) - len(said.lstrip())]
        found += [(space, role), (f"{begin}{said.strip()}{end}", "differs")]
    return found


def _tidy(said: str) -> str:
    return safe(said).expandtabs(4).strip()


def clip(said: str, most: int) -> str:
    """The beginning and the end of a text that is longer than `most`, and how much is left out between."""
    if len(said) <= most:
        return said
    tail = most - _HEAD
    return f"{said[:_HEAD]}\n… {len(said) - most:,} characters are not shown …\n{said[-tail:]}"


def wrap_parts(parts: Sequence[Part], width: int) -> list[Line]:
    """Text in parts as lines of at most `width` cells, broken at spaces where possible; each part keeps its role."""
    lines: list[Line] = [[]]
    used = 0
    for said, role in parts:
        for row, paragraph in enumerate(said.split("\n")):
            if row:
                lines.append([])
                used = 0
            for word in _WORDS.findall(paragraph):
                used = _put(lines, used, word, role, width)
    return lines


def _put(lines: list[Line], used: int, word: str, role: str, width: int) -> int:
    """Add a word to the last line, or to a new one; the cells that are then used."""
    size = cell_len(word)
    if used and used + size > width:
        word = word.lstrip(" ")
        lines.append([])
        used, size = 0, cell_len(word)
    if size > width:
        *full, word = chop_cells(word, width)
        for piece in full:
            lines[-1].append((piece, role))
            lines.append([])
        size = cell_len(word)
    last = lines[-1]
    if last and last[-1][1] == role:
        last[-1] = (last[-1][0] + word, role)
    elif word:
        last.append((word, role))
    return used + size
