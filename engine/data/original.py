"""The rows of a run with where each came from: what the next set of self-training begins with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.contract.errors import MoltingError
from engine.contract.spec import Spec

from .conversation import BadRow, Conversation, Turn
from .convert import Mapping, to_conversation
from .of_spec import options
from .prepare import data_mapping, hold_out, share_of
from .read import open_records

SELF = "self-training"


@dataclass(frozen=True)
class Origin:
    """A row as a conversation; `origin` is what it says of itself, empty where it says nothing."""

    row: Conversation
    origin: dict[str, Any]

    @property
    def generated(self) -> bool:
        """Whether a model wrote it for an earlier generation."""
        return self.origin.get("kind") == SELF

    def as_row(self, **more: Any) -> dict[str, Any]:
        """As a line of a file of rows; `more` goes into its origin where nothing of that name is there."""
        turns = [{"role": turn.role, "content": turn.content} for turn in self.row.turns]
        return {"messages": turns, "origin": more | self.origin}


def trained(spec: Spec) -> tuple[list[Origin], list[Origin]]:
    """The rows that a run trains on, and those held out; of a spec whose paths are absolute.

    MoltingError (code 2) for plain texts, in which nobody asks, and for a stream, which is no set to curate.
    """
    if spec.data.stream is True:
        raise MoltingError(
            "The rows of this run are a stream: self-training is for sets that a person can read.", code=2
        )
    chosen = options(spec)
    mapping = data_mapping(chosen)
    rows = read_rows(chosen.train, mapping)
    if any(each.row.kind == "text" for each in rows):
        raise MoltingError("The rows of this run are plain texts, so there is no question to answer anew.", code=2)
    if chosen.heldout:
        return rows, read_rows(chosen.heldout, mapping)
    taken = hold_out([share_of(each.row, chosen.seed) for each in rows], chosen.heldout_fraction)
    return [row for i, row in enumerate(rows) if i not in taken], [row for i, row in enumerate(rows) if i in taken]


def read_rows(path: Path, mapping: Mapping) -> list[Origin]:
    """All rows of a file that hold a conversation. MoltingError (bad_data) where it cannot be read."""
    found = []
    for record in open_records(path):
        try:
            row = to_conversation(record.value, mapping)
        except BadRow:
            continue  # dropped by training too
        said = record.value.get("origin") if isinstance(record.value, dict) else None
        found.append(Origin(row, said if isinstance(said, dict) else {}))
    return found


def questions(rows: list[Origin]) -> list[str]:
    """Everything that a user says in them."""
    return [turn.content for each in rows for turn in each.row.turns if turn.role == "user"]


def answers(rows: list[Origin]) -> list[str]:
    """Everything that is learned in them."""
    return [turn.content for each in rows for turn in each.row.turns if turn.role == "assistant"]


def asked(question: str, answer: str, origin: dict[str, Any]) -> Origin:
    """A row of one question and its answer."""
    return Origin(Conversation([Turn("user", question), Turn("assistant", answer)]), origin)
