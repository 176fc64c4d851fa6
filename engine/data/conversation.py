"""What a row becomes: a conversation of turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

Role = Literal["system", "user", "assistant"]
Kind = Literal["chat", "completion", "text"]


class BadRow(Exception):
    """A row that cannot be used. `why` is a phrase that follows "dropped: "."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Turn(msgspec.Struct, frozen=True):
    """What one side says."""

    role: Role
    content: str


class Conversation(msgspec.Struct, frozen=True):
    """Turns in order.

    chat        rendered by the chat template; every assistant turn is learned
    completion  a prompt and its answer, maybe after a system turn: a chat where there is a template, else
                plain text, of which the answer is learned
    text        one assistant turn that is plain text in every model; all of it is learned
    """

    turns: Sequence[Turn]
    kind: Kind = "chat"
