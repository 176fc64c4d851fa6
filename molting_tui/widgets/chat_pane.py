"""The conversation: turn below turn, the voices beside each other; of a long one only what changed is laid out anew."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from engine.contract.safe import safe

from .. import text
from ..state.chat import Conversation, Turn
from ..state.chat_answer import Answering
from ..state.chat_lines import Said, Shown, answer_lines, badge, coming, question_lines, stats
from ..state.chat_voices import Who, known
from ..state.lines import Line, clipped
from .lines_pane import ROLES, LinesPane

_OURS = ("rule", "third", "differs", "plain")


class ChatPane(LinesPane):
    """Follows the end until somebody scrolls up. `chosen` is the turn that keys act on."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"lines-pane--{role}" for role in (*ROLES, *_OURS)}
    DEFAULT_CSS = """
    ChatPane {
        .lines-pane--rule { color: $rule; }
        .lines-pane--third { color: $primary; }
        .lines-pane--differs { text-style: bold underline; color: $warning; }
        .lines-pane--match { text-style: bold; color: $primary; background: $background; }
    }
    """

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.conversation = Conversation("")
        self.answering: Answering | None = None
        self.voices: list[Who] = []
        self.run = ""  # its name, for voices that are not asked any more
        self.diff = False
        self.chosen = ""
        self.empty: list[Line] = []
        self.why, self.again = "W", "R"  # keys
        self.sticks = True
        self._starts: list[tuple[str, int]] = []  # turn -> its first row
        self._laid: dict[str, tuple[object, list[Line]]] = {}

    @property
    def target(self) -> Turn | None:
        """The turn that keys act on: the chosen one, else the last."""
        path = self.conversation.path()
        return next((turn for turn in path if turn.id == self.chosen), path[-1] if path else None)

    def show(self, conversation: Conversation) -> None:
        """Another conversation, from its end."""
        self.conversation, self.chosen, self.sticks, self.answering = conversation, "", True, None
        self._laid.clear()

    def follows(self) -> bool:
        return self.sticks

    def lines(self, width: int) -> list[Line]:
        path = self.conversation.path()
        if not path:
            self._starts = []
            return self.empty
        rows: list[Line] = []
        self._starts = []
        for turn in path:
            self._starts.append((turn.id, len(rows)))
            rows += self._turn(turn, width)
            rows.append([])
        self._laid = {turn.id: self._laid[turn.id] for turn in path if turn.id in self._laid}
        return self._with_room(rows[:-1])

    def _with_room(self, rows: list[Line]) -> list[Line]:
        """Followed answers grow into empty rows: a page that moves, or only gets longer, with every line would be
        written anew to the terminal each time."""
        end, at = len(rows) - self.size.height, self.scroll_offset.y
        if not self.sticks:
            return rows
        room = self.size.height // 3 if self.answering is not None else 0
        if end <= 0:
            at = 0
        elif not end <= at <= end + self.size.height // 3:
            at = end + room
        return [*rows, *([[]] * (at - end))]

    def _turn(self, turn: Turn, width: int) -> list[Line]:
        if self.answering is not None and self.answering.turn.id == turn.id:
            return self._coming(turn, self.answering, width)
        replies = tuple(map(id, self.conversation.replies.get(turn.id, {}).values()))
        key = (width, self.diff, turn.id == self.chosen, len(self.conversation.siblings(turn.id)), replies)
        laid = self._laid.get(turn.id)
        if laid is None or laid[0] != key:
            laid = self._laid[turn.id] = (key, self._said(turn, width))
        return laid[1]

    def _shown(self, turn: Turn, width: int) -> Shown:
        row = self.conversation.siblings(turn.id)
        place = f"branch {row.index(turn.id) + 1} of {len(row)}" if len(row) > 1 else ""
        return Shown(width, self.diff, turn.id == self.chosen, self.why, self.again, place)

    def _said(self, turn: Turn, width: int) -> list[Line]:
        shown = self._shown(turn, width)
        replies = [reply for voice in turn.voices if (reply := self.conversation.answer(turn.id, voice))]
        lines = question_lines(turn, shown)
        if not replies:
            return [*lines, [(f"  not answered; {self.again} asks again", "warning")]]
        lines += answer_lines([Said(self._who(r.voice), r.text, stats(r)) for r in replies], shown)
        if any(reply.stop == "lost" for reply in replies):
            lines += _wrapped(f"This answer is not whole; {self.again} asks again.", "warning", width)
        if replies[0].mode == "two-pass":
            lines.append([("  two passes: the voices answered one after the other", "dim")])
        for sentence in badge(replies, self.why):
            lines += _rule(sentence, width)
        return lines

    def _coming(self, turn: Turn, answering: Answering, width: int) -> list[Line]:
        now = time.monotonic()
        shown = self._shown(turn, width)
        lines = question_lines(turn, shown)
        if not answering.under_way:
            return [*lines, [("  " + waiting(answering, now), "note")]]
        said = [
            Said(self._who(key), voice.text, coming(answering, index, now), coming=True)
            for index, (key, voice) in enumerate(zip(turn.voices, answering.voices, strict=True))
        ]
        lines += answer_lines(said, shown)
        if answering.mode == "two-pass":
            lines += _wrapped(f"Two passes. {safe(answering.why, False)}", "dim", width)
        known_kl = [kl for kl in answering.kl[1:] if kl is not None]
        if known_kl:
            lines += _rule("KL of the first token " + ", ".join(map(text.number, known_kl)), width)
        return lines

    def _who(self, key: str) -> Who:
        return next((who for who in self.voices if who.key == key), None) or known(key, self.run)

    def choose(self, by: int) -> None:
        """The turn above or below becomes the one that keys act on."""
        path = [turn.id for turn in self.conversation.path()]
        if not path:
            return
        at = path.index(self.chosen) if self.chosen in path else len(path) - 1
        self.chosen = path[max(0, min(at + by, len(path) - 1))]
        self.sticks = self.chosen == path[-1]
        self.repaint()
        first = dict(self._starts).get(self.chosen, 0)
        if not self.sticks:
            self._go(first)

    def _go(self, y: float) -> None:
        end = max(0, len(self.rows) - self.size.height)
        self.sticks = y >= end
        super()._go(min(max(0, y), end))

    def action_up(self) -> None:
        self.choose(-1)

    def action_down(self) -> None:
        self.choose(1)

    def on_mouse_scroll_up(self) -> None:
        self._go(self.scroll_offset.y - 3)

    def on_mouse_scroll_down(self) -> None:
        self._go(self.scroll_offset.y + 3)


def waiting(answering: Answering, now: float) -> str:
    """What goes on before the first token, how far it is, and how long it will take."""
    told = answering.progress
    if told is None:
        return "asking the inference host …"
    done = f" {text.percent(told.done / told.total)}" if told.total else ""
    if told.phase == "waiting":
        return f"waiting for {text.plural(int(told.done), 'request')} that the inference host has before it …"
    left = answering.seconds_left(now)
    return f"{safe(told.phase, False)}{done} …" + (f" {text.clock(left)} left" if left is not None else "")


def _wrapped(said: str, role: str, width: int) -> list[Line]:
    return [[("  ", ""), (row, role)] for row in text.wrap(said, width - 2)]


def _rule(said: str, width: int) -> list[Line]:
    """`──── differs from token 3 on ─────`; what is longer goes on below."""
    rows = text.wrap(said, width - 8)
    fill = "─" * max(0, width - 6 - len(rows[0]))
    head: Line = [("──── ", "rule"), (rows[0], "note"), (f" {fill}", "rule")]
    return [clipped(head, width), *([("     ", ""), (row, "note")] for row in rows[1:])]


def copyable(conversation: Conversation, turn: Turn) -> str:
    """A turn as plain text."""
    said: Sequence[str] = [
        f"[{voice}]\n{reply.text}" for voice in turn.voices if (reply := conversation.answer(turn.id, voice))
    ]
    return "\n\n".join([turn.question, *said])
