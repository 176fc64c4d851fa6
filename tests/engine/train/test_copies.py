"""How much of an answer is copied from the rows that were learned from."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from engine.data.rows import EncodedRow, labelled
from engine.train.copies import Copies


def row(prompt: list[int], answer: list[int]) -> EncodedRow:
    ends = len(prompt), len(prompt) + len(answer)
    return labelled(prompt + answer, [(0, ends[0], "user"), (*ends, "assistant")])


LEARNED = [11, 12, 13, 14, 15, 16, 17, 18, 2]


def copies() -> Copies:
    made = Copies()
    made.note([row([5, 6, 7, 8, 9, 10, 20], LEARNED), row([5], [30, 31, 2])])
    return made


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        (LEARNED, 1.0),
        ([11, 12, 13, 14, 15, 16], 1.0),
        ([90, 91, 92, 11, 12, 13, 14, 15, 16, 93, 94, 95], 0.5),
        ([11, 12, 13, 14, 15, 99], 0.0),  # five in a row are no copy
        ([18, 17, 16, 15, 14, 13, 12, 11], 0.0),
        ([5, 6, 7, 8, 9, 10, 20], 0.0),  # a question is not learned
        ([30, 31, 2], 1.0),  # a short answer as a whole
        ([30, 31], 0.0),
        ([], None),
    ],
)
def test_six_tokens_in_a_row_are_a_copy(answer: list[int], share: float | None) -> None:
    assert copies().share(answer) == share


def test_unknown_answers_are_hardly_ever_mistaken() -> None:
    made, draw = Copies(), random.Random(0)
    made.note([row([1], [draw.randrange(50_000) for _ in range(500)]) for _ in range(400)])
    shares = [made.share([draw.randrange(50_000) for _ in range(60)]) for _ in range(50)]
    assert sum(share or 0.0 for share in shares) / len(shares) < 0.01


def noted(per_epoch: int, first: int, until: int) -> tuple[list[int], Copies]:
    """The steps whose rows were read, of a run that goes on at `first`."""
    read: list[int] = []

    def of_step(step: int) -> list[EncodedRow]:
        read.append(step)
        return [row([1], [step * 10 + i for i in range(8)])]

    made = Copies()
    rows_of: Callable[[int], list[EncodedRow]] = made.noting(of_step, per_epoch)
    for step in range(first, until):
        assert rows_of(step)[0].input_ids[1] == step * 10
    return read, made


def test_a_resumed_run_notes_what_was_learned_before() -> None:
    read, made = noted(per_epoch=20, first=3, until=5)
    assert read == [0, 1, 2, 3, 4]
    assert made.share([10, 11, 12, 13, 14, 15, 16, 17]) == 1.0


def test_of_a_stream_nothing_is_read_again() -> None:
    read, made = noted(per_epoch=0, first=3, until=5)
    assert read == [3, 4]
    assert made.share([10, 11, 12, 13, 14, 15, 16, 17]) == 0.0
    assert made.share([30, 31, 32, 33, 34, 35, 36, 37]) == 1.0
