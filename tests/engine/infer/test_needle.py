"""The text of the needle; recall itself is measured on a real run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.contract import calls
from engine.contract.errors import MoltingError
from engine.contract.needle import NeedleRequest
from engine.contract.rundir import RunDir
from engine.infer.needle import CAP, needle, planted


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_the_fact_stands_where_it_should_in_a_text_that_fits(depth: float) -> None:
    text = planted(1000, depth, "48170", words)
    assert 985 < words(text) <= 1000
    before, _, after = text.partition("48170")
    assert words(before) / 1000 == pytest.approx(depth, abs=0.03)
    assert after.endswith("Answer with the number.") and text.count("48170") == 1


def test_the_same_number_makes_the_same_text() -> None:
    assert planted(300, 0.5, "12345", words) == planted(300, 0.5, "12345", words) != planted(300, 0.5, "12346", words)


def test_no_room_for_the_fact_is_said() -> None:
    with pytest.raises(MoltingError, match="hold not even the fact"):
        planted(10, 0.5, "12345", words)


def test_a_run_is_asked_at_every_length_its_model_takes(make_run: Callable[..., RunDir], tmp_path: Path) -> None:
    run = make_run(**{"model.rope": {"type": "yarn", "factor": 2.0}, "data": {"max_length": 400}})
    told: list[object] = []
    request = NeedleRequest(run=str(run.path), models=str(tmp_path / "models"), depths=(0.0, 1.0))

    found = needle(request, told.append)

    assert (found.trained, found.window, found.rope) == (400, 1024, "yarn x 2")
    one, two, four = found.lengths
    for length in (one, two):
        assert [each.depth for each in length.planted] == [0.0, 1.0]
        assert all(length.tokens - 60 < each.tokens <= length.tokens - CAP for each in length.planted)
        assert not any(each.base or each.adapter for each in length.planted)  # random weights recall nothing
    assert (four.planted, four.problem) == ([], "beyond the 1,024 tokens that the model takes")
    progress = [line for line in told if isinstance(line, calls.Progress) and line.phase == "answering"]
    assert (progress[-1].done, progress[-1].total) == (5, 6)
