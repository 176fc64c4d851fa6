"""How much of the trained answers comes back: runs of four words that two texts share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from engine.contract.spec import Spec
from engine.data.conversation import Conversation
from engine.data.funnel import Funnel
from engine.data.of_spec import options
from engine.data.prepare import conversations, data_mapping, hold_out, share_of
from engine.data.read import open_records

from .words import plain, shingles

RUN = 4  # words
LOOKED_AT = 2000  # rows of the training file, which may be huge


@dataclass(frozen=True)
class Said:
    """An answer to a question; `cut`: it ran into the cap of tokens."""

    question: str
    answer: str
    cut: bool = False


def overlap(answer: str, trained: str) -> float:
    """The share of four-word runs that the shorter of both texts has in common with the other, 0 to 1.

    The shorter one, since an answer may be cut by its cap or run on behind what it learned. Shorter texts than
    four words are compared in runs of their own length.
    """
    said, known = plain(answer).split(), plain(trained).split()
    if not said or not known:
        return 0.0
    size = min(RUN, len(known))
    one, other = shingles(said, size), shingles(known, size)
    return len(one & other) / min(len(one), len(other))


def recalled(answers: Iterable[Said], trained: Mapping[str, Sequence[str]]) -> list[float]:
    """For each answer to a question that was trained, how much of a trained answer is in it (the best match).

    `trained`: answers by question, as `by_question` gives them.
    """
    known = ((said.answer, trained[plain(said.question)]) for said in answers if plain(said.question) in trained)
    return [max(overlap(answer, each) for each in expected) for answer, expected in known]


def by_question(rows: Iterable[Conversation]) -> dict[str, list[str]]:
    """What was trained as the answer to each question, the questions made plain; plain text has none."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for asked, answer in zip(row.turns, row.turns[1:], strict=False):
            if asked.role == "user" and answer.role == "assistant":
                found.setdefault(plain(asked.content), []).append(answer.content)
    return found


def taught(spec: Spec) -> list[Conversation]:
    """The first rows of a run's training file without those held out of it. MoltingError where it is not readable."""
    mapping = data_mapping(options(spec))
    rows: list[Conversation] = []
    for _, row in conversations(open_records(options(spec).train), mapping, Funnel()):
        rows.append(row)
        if len(rows) == LOOKED_AT:
            break
    if spec.data.heldout:
        return rows
    taken = hold_out([share_of(row, spec.training.seed) for row in rows], spec.data.heldout_fraction)
    return [row for i, row in enumerate(rows) if i not in taken]


def constant_share(rows: Sequence[Conversation]) -> float:
    """The share of the learned text that is the same in every row: what all plain texts begin with, 0 to 1.

    A system prompt in front of every text is learned again and again, and its loss falls fast and means nothing.
    """
    texts = [row.turns[-1].content for row in rows if row.kind == "text"]
    if len(texts) < 2 or len(texts) < len(rows):
        return 0.0
    first, last = min(texts), max(texts)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return same * len(texts) / max(1, sum(map(len, texts)))
