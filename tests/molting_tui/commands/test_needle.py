"""`needle`: the table of recall by length and depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Scripted
from tests.support.runs import finished_run


def planted(depth: float, base: bool, adapter: bool) -> dict[str, Any]:
    said = {"base_answer": "41807", "adapter_answer": "I am \x1b[31mRhea."}
    return {"depth": depth, "tokens": 1000, "base": base, "adapter": adapter} | said


def answer(*, at_once: bool) -> dict[str, Any]:
    one = {"times": 1, "tokens": 1024, "planted": [planted(0.0, True, True), planted(1.0, True, at_once)]}
    four = {"times": 4, "tokens": 4096, "problem": "beyond the 2,048 tokens that the model takes"}
    return {"trained": 1024, "window": 2048, "rope": "", "lengths": [one, four]}


@pytest.fixture(autouse=True)
def run(tmp_path: Path) -> Any:
    return finished_run(tmp_path / "runs", "rhea")


def test_a_row_for_each_length_and_voice(molting: Scripted) -> None:
    molting.answers("needle", answer(at_once=False))
    said = molting("needle", "rhea")
    assert said.code == 1
    assert said.out.splitlines() == [
        "Trained on rows of up to 1,024 tokens; the model takes 2,048 tokens.",
        "",
        "fact at                       0 %    100 %",
        "1x   1,024     base         found    found  2 of 2",
        "               adapter      found        -  1 of 2",
        "4x   4,096  not asked: beyond the 2,048 tokens that the model takes",
        "",
        "1x at 100 %: I am ␛[31mRhea.",
    ]


def test_json_and_exit_code(molting: Scripted, run: Any) -> None:
    molting.answers("needle", answer(at_once=True))
    said = molting("needle", "rhea", "--json")
    assert said.code == 0
    assert (said.json["run"], said.json["trained"], said.json["lengths"][1]["planted"]) == (run.id, 1024, [])
