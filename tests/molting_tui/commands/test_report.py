"""`molting report`: what it prints, and what it says of a run that is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.contract.rundir import RunDir
from tests.support.command import Scripted
from tests.support.runs import finished_run

MADE = {
    "run": "rhea-1",
    "markdown": "/runs/rhea-1/report.md",
    "html": "/runs/rhea-1/report.html",
    "verdict": "better",
    "sentence": "Against one: Better: +2.63 \x1b[2Jpoints.",
    "score": 5.5,
    "against": "one-1",
    "short": "rhea: Better.\nScore 5.50 of 10.",
    "missing": ["proof.json is damaged."],
    "warnings": ["The earlier report.md is kept whole as report-kept-1.md."],
}


@pytest.fixture(autouse=True)
def run(tmp_path: Path, molting: Scripted) -> RunDir:
    molting.answers("report", MADE)
    return finished_run(tmp_path / "runs", "rhea")


def test_the_verdict_then_where_the_files_are(molting: Scripted) -> None:
    said = molting("report", "rhea")
    assert said.code == 0
    assert said.out.splitlines() == ["Against one: Better: +2.63 ␛[2Jpoints.", MADE["markdown"], MADE["html"]]
    assert "report-kept-1.md" in said.err and "proof.json is damaged." in said.err


def test_the_short_version_is_fit_to_post(molting: Scripted) -> None:
    assert molting("report", "rhea", "--short").out.splitlines() == ["rhea: Better.", "Score 5.50 of 10."]


def test_one_object_for_scripts_and_the_other_run_is_found(molting: Scripted, run: RunDir, tmp_path: Path) -> None:
    other = finished_run(tmp_path / "runs", "older")
    found: dict[str, Any] = molting("report", "rhea", "--against", "older", "--json").json
    assert found == MADE
    (asked,) = molting.requests
    assert asked["request"] == {"run": str(run.path), "against": str(other.path)}


@pytest.mark.parametrize("words", [["nobody"], ["rhea", "--against", "nobody"]])
def test_a_run_that_is_not_there_is_a_wrong_call(molting: Scripted, words: list[str]) -> None:
    said = molting("report", *words)
    assert said.code == 2 and "is called 'nobody'" in said.err and "Traceback" not in said.err
