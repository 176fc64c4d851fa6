"""A row as the trainer, the data screen and the checks see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from engine.data.conversation import BadRow, Role

IGNORED = -100  # the label of a token that is not learned


class Span(msgspec.Struct, frozen=True, gc=False):
    """Tokens [start, end) of a row. The spans of a row follow each other and cover it; `template` is the rest."""

    start: int
    end: int
    role: Literal["template", "system", "user", "assistant"]
    learned: bool


class EncodedRow(msgspec.Struct, gc=False):
    """A row as it is trained on: `labels[i]` is `input_ids[i]` where it is learned, else -100.

    `truncated_turns` turns and `lost_tokens` tokens did not fit. `added_end`: the end token is ours, because the
    template writes none.
    """

    input_ids: list[int]
    labels: list[int]
    spans: list[Span]
    n_learned: int
    truncated_turns: int = 0
    lost_tokens: int = 0
    added_end: bool = False


def labelled(ids: list[int], pieces: Sequence[tuple[int, int, Role]], *, added_end: bool = False) -> EncodedRow:
    """The row in which the tokens [start, end) of every assistant piece are learned; pieces stand in order.

    Raises BadRow when nothing could be learned from it; the first token has nothing before it to be told from.
    """
    labels = [IGNORED] * len(ids)
    spans: list[Span] = []
    position = 0
    for start, end, role in pieces:
        start = max(start, position)
        if start >= end:
            continue
        if position < start:
            spans.append(Span(position, start, "template", False))
        learned = role == "assistant"
        spans.append(Span(start, end, role, learned))
        if learned:
            labels[start:end] = ids[start:end]
        position = end
    if position < len(ids):
        spans.append(Span(position, len(ids), "template", False))
    if all(label == IGNORED for label in labels[1:]):
        raise BadRow("nothing in it can be learned")
    return EncodedRow(ids, labels, spans, len(labels) - labels.count(IGNORED), added_end=added_end)
