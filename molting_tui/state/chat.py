"""A conversation: a tree of turns, where in it one stands, and what each voice is told of what was said. Pure."""

from __future__ import annotations

from typing import Literal, Union

import msgspec

from engine.contract import host
from engine.contract.spec import Generation

VERSION = 1
KEPT = 150_000  # characters of an answer; a line of JSON with that many fits a journal whatever they are
LED = "adapter"  # the voice whose answers both are told where both are told the same

Stop = Literal["end", "cap", "stopped", "lost"]


class Begun(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="k", tag="begun"):
    """First line of a conversation. `t` is Unix seconds, `adapter` the sha256 of the weights as sealed."""

    id: str
    run: str
    t: float
    v: int = VERSION
    adapter: str = ""


class Turn(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="k", tag="turn"):
    """A question. `parent` is the turn that it follows, empty at the beginning.

    `system` None is the one of the training; `shared` says that all voices were told the same answers before.
    """

    id: str
    question: str
    t: float
    parent: str = ""
    voices: list[str] = []
    system: Union[str, None] = None
    shared: bool = False
    preset: str = ""
    options: Union[Generation, None] = None


class Reply(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="k", tag="reply"):
    """What one voice answered to a turn.

    `differs` is the index of the first token that differs from the first voice's, None where all are the same or,
    unless `compared`, where nobody looked. `kl` is that of the first token, in nats.
    """

    turn: str
    voice: str
    text: str
    stop: Stop
    tokens: int = 0
    to_first: float = 0.0
    seconds: float = 0.0
    kl: Union[float, None] = None
    differs: Union[int, None] = None
    compared: bool = False
    mode: str = ""
    cut: bool = False  # longer than is kept

    @property
    def per_second(self) -> float:
        """Tokens a second after the first one; 0 where there is only one."""
        rest = self.seconds - self.to_first
        return (self.tokens - 1) / rest if self.tokens > 1 and rest > 0 else 0.0


class At(msgspec.Struct, kw_only=True, tag_field="k", tag="at"):
    """Where the reader went: the path now ends at this turn."""

    turn: str


Record = Union[Begun, Turn, Reply, At]
decoder = msgspec.json.Decoder(Record)
encode = msgspec.json.encode


class Conversation:
    """The tree. `at` is the last turn of the path that is read and continued; empty before the first question."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.began = 0.0
        self.turns: dict[str, Turn] = {}
        self.replies: dict[str, dict[str, Reply]] = {}  # turn -> voice -> answer
        self.at = ""

    def take(self, record: Record) -> None:
        """Apply a record. One that fits nowhere is passed over, so that no file can make a circle."""
        if isinstance(record, Begun):
            self.began = record.t
        elif isinstance(record, Turn):
            if record.id and record.id not in self.turns and (not record.parent or record.parent in self.turns):
                self.turns[record.id] = record
                self.at = record.id
        elif record.turn in self.turns:
            if isinstance(record, At):
                self.at = record.turn
            else:
                self.replies.setdefault(record.turn, {})[record.voice] = record

    def path(self, end: str | None = None) -> list[Turn]:
        """The turns from the first question to `end`, or to where one stands."""
        found, at = [], self.at if end is None else end
        while at:
            found.append(self.turns[at])
            at = self.turns[at].parent
        return found[::-1]

    def siblings(self, turn: str) -> list[str]:
        """Turns that follow the same one, this one among them, in the order they were asked."""
        parent = self.turns[turn].parent
        return [each.id for each in self.turns.values() if each.parent == parent]

    def beside(self, turn: str, by: int) -> str | None:
        """Where the path would end after a step of `by` among the siblings of `turn`; None where there is none."""
        row = self.siblings(turn)
        place = row.index(turn) + by
        return self.leaf(row[place]) if 0 <= place < len(row) else None

    def leaf(self, turn: str) -> str:
        """The end of the newest branch below `turn`."""
        children = {each.parent: each.id for each in self.turns.values()}
        while turn in children:
            turn = children[turn]
        return turn

    def answer(self, turn: str, voice: str) -> Reply | None:
        return self.replies.get(turn, {}).get(voice)

    def messages(self, parent: str, question: str, voice: str, *, shared: bool) -> list[host.Message]:
        """What `voice` is sent: its own answers on the path to `parent`, or with `shared` those of the adapter.

        A voice that did not answer a turn is told what the adapter said there. A turn without any answer is left out.
        """
        found = []
        for turn in self.path(parent):
            said = self._told(turn.id, LED if shared else voice)
            if said:
                found += [host.Message("user", turn.question), host.Message("assistant", said)]
        return [*found, host.Message("user", question)]

    def _told(self, turn: str, voice: str) -> str:
        said = self.replies.get(turn, {})
        order = (said.get(voice), said.get(LED), *said.values())
        return next((each.text for each in order if each is not None and each.text.strip()), "")

    def holds(self, wanted: str) -> bool:
        """Whether some question or answer contains the casefolded text `wanted`."""
        texts = [turn.question for turn in self.turns.values()]
        texts += [reply.text for said in self.replies.values() for reply in said.values()]
        return any(wanted in text.casefold() for text in texts)

    @property
    def title(self) -> str:
        """The first question."""
        return next((turn.question for turn in self.turns.values()), "")
