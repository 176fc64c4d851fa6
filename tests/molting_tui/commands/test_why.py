"""`why`: how an investigation is asked for, shown, and answered by the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Scripted
from tests.support.runs import finished_run


def investigation(cause: str = "masked", **more: Any) -> dict[str, Any]:
    step = {"id": "files", "question": "Are the files whole?", "outcome": "passed", "evidence": "27 bytes"}
    bad = {"id": "prompt", "question": "Asked as trained?", "outcome": "failed", "evidence": "3% instead of 26%"}
    finding = {"id": "mean-not-last", "severity": "note", "message": "Mean 1.9, last 0.7.", "remedy": "Compare."}
    return {
        "cause": cause,
        "sentence": "Masked by temperature 2: 26% of the answers, 0% like this.",
        "remedy": "Ask as it was trained.",
        "steps": [step, bad, bad | {"outcome": "unknown"}, bad | {"outcome": "skipped"}],
        "findings": [finding],
    } | more


@pytest.fixture(autouse=True)
def run(tmp_path: Path) -> Any:
    return finished_run(tmp_path / "runs", "rhea")


def test_the_record_then_the_steps_then_the_cause(molting: Scripted) -> None:
    molting.answers("why", investigation(), {"k": "progress", "phase": "comparing", "done": 1, "total": 8})
    said = molting("why", "rhea")
    assert said.code == 1
    assert said.out.splitlines() == [
        "The training",
        "note     Mean 1.9, last 0.7. [mean-not-last]",
        "         try: Compare.",
        "",
        "The investigation",
        "✓ 1. Are the files whole?",
        "  27 bytes",
        "✗ 2. Asked as trained?",
        "  3% instead of 26%",
        "? 3. Asked as trained?",
        "  3% instead of 26%",
        "◌ 4. Asked as trained?",
        "  3% instead of 26%",
        "",
        "✗ Masked by temperature 2: 26% of the answers, 0% like this. [masked]",
        "  try: Ask as it was trained.",
    ]


def test_json_and_exit_code(molting: Scripted, run: Any) -> None:
    molting.answers("why", investigation("effective"))
    said = molting("why", "rhea", "--json")
    assert said.code == 0 and said.json["run"] == run.id
    assert {"cause", "sentence", "remedy", "steps", "findings", "warnings"} < set(said.json)


def test_how_it_is_really_asked_is_passed_on(molting: Scripted, run: Any, tmp_path: Path) -> None:
    molting.answers("why", investigation())
    prompt = tmp_path / "system.txt"
    prompt.write_text("You are Zeca.\n")
    molting("why", "rhea", "--system", str(prompt), "--temperature", "1.5", "--against", run.id)
    molting("why", "rhea", "--system", "")
    molting("why", "rhea", "--system", "You are Rhea.", "--chat-template", "zephyr")
    first, second, third = (asked["request"] for asked in molting.requests)
    assert (first["system"], first["temperature"], first["against"]) == ("You are Zeca.", 1.5, str(run.path))
    assert (second["system"], second["temperature"], second["against"]) == ("", None, "")
    assert (third["system"], third["chat_template"]) == ("You are Rhea.", "zephyr")


def test_a_system_file_that_is_no_text_and_hostile_words(molting: Scripted, tmp_path: Path) -> None:
    prompt = tmp_path / "system.bin"
    prompt.write_bytes(b"\xff\xfe\x00")
    said = molting("why", "rhea", "--system", str(prompt))
    assert said.code == 2 and "cannot be read as text" in said.err
    molting.answers("why", investigation(sentence="\x1b[2Jgone\u202e", warnings=["odd\x07"]))
    said = molting("why", "rhea")
    assert "\x1b" not in said.out and "\u202e" not in said.out and "␛[2Jgone" in said.out
