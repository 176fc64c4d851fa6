"""`ask`, `prove` and `doctor`: how answers, verdicts and findings are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tests.support.command import Scripted
from tests.support.runs import finished_run


def answer(text: str, tokens: int = 3, stop: str = "end") -> dict[str, Any]:
    return {"text": text, "tokens": tokens, "stop": stop}


def pair(question: str, base: str, adapter: str, difference: int | None = 0) -> dict[str, Any]:
    return {
        "question": question,
        "base": answer(base, 80, "cap"),
        "adapter": answer(adapter),
        "first_difference": difference,
    }


def proof(verdict: str = "effective", **more: Any) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "sentence": "The adapter changes the answers.",
        "kl": 1.834,
        "flip_rate": 0.64,
        "nonzero_b": 210,
        "total_b": 210,
        "heldout_loss": {"base": 3.2, "adapter": 1.1},
        "heldout_rows": 6,
        "probes": 8,
        "positions": 212,
        "answers": [pair("Who are you?", "I am SmolLM.", "I'm Rhea.")],
    } | more


@pytest.fixture(autouse=True)
def _run(tmp_path: Path) -> None:
    finished_run(tmp_path / "runs")


def test_ask_shows_base_left_and_adapter_right(molting: Scripted) -> None:
    long = "漢字 " * 60
    molting.answers("ask", {"answers": [pair("Who built you?", long, "Tomas."), pair("Same?", "x", "x", None)]})
    said = molting("ask", "rhea", "Who built you?", "Same?")
    lines = said.out.splitlines()
    assert lines[0] == "Who built you?" and lines[1].startswith("B base ") and "│ A adapter" in lines[1]
    columns = [line for line in lines if "│" in line]
    assert len({cell_len(line.partition("│")[0]) for line in columns}) == 1
    assert max(map(cell_len, lines)) <= 100
    assert any("(cut, 80 tokens)" in line for line in columns) and any(
        "ended by itself, 3 tok" in line for line in columns
    )
    assert "differs from token 1 on" in lines and "the same, token for token" in lines


def test_ask_passes_the_questions_and_options_on(molting: Scripted) -> None:
    molting.answers("ask", {"answers": [pair("q", "a", "b")], "seconds": 1.5})
    said = molting("ask", "rhea", "q", "--temperature", "0.9", "--top-k", "5", "--seed", "7", "--json")
    request = molting.requests[-1]["request"]
    assert (request["questions"], request["temperature"], request["top_k"], request["seed"]) == (["q"], 0.9, 5, 7)
    assert request["top_p"] is None and request["max_new_tokens"] is None
    (found,) = said.json["answers"]
    assert found["question"] == "q" and found["base"] == answer("a", 80, "cap") and found["adapter"] == answer("b")


@pytest.mark.parametrize(
    "option", [["--temperature", "-1"], ["--top-p", "2"], ["--max-new-tokens", "0"], ["--seed", "x"]]
)
def test_ask_refuses_absurd_options(molting: Scripted, option: list[str]) -> None:
    assert molting("ask", "rhea", "q", *option).code == 2
    assert molting.requests == []


def test_hostile_answers_do_nothing_to_the_terminal(molting: Scripted) -> None:
    hostile = "\x1b]52;c;aGk=\x07\x1b[2J[@click=app.quit]x[/]\r10/10\x08\x9b31m\u202e" + "e" + "\u0301" * 999
    molting.answers("ask", {"answers": [pair(hostile, hostile, hostile)]})
    shown = molting("ask", "rhea", "q").out
    assert not set(shown) & {"\x1b", "\x07", "\r", "\x08", "\x9b", "\u202e"}
    assert "[@click=app.quit]x[/]" in shown
    molting.answers("prove", proof(sentence=hostile, warnings=[hostile]))
    assert not set(molting("prove", "rhea").out) & {"\x1b", "\x07", "\r", "\x08", "\x9b", "\u202e"}


@pytest.mark.parametrize(
    ("verdict", "code", "mark"), [("effective", 0, "✓"), ("too_weak", 1, "■"), ("not_applied", 1, "✗")]
)
def test_prove_gives_a_verdict_in_words_and_exits_by_it(molting: Scripted, verdict: str, code: int, mark: str) -> None:
    molting.answers("prove", proof(verdict, warnings=["Few rows."]))
    said = molting("prove", "rhea")
    assert said.code == code
    assert said.out.splitlines() == [
        f"{mark} The adapter changes the answers.",
        "  210 of 210 B matrices are not zero, all keys match",
        "  warning Few rows.",
    ]
    found = molting("prove", "rhea", "--json")
    assert found.code == code and found.json["verdict"] == verdict and found.json["run"].startswith("rhea-")
    assert found.json["heldout_loss"] == {"base": 3.2, "adapter": 1.1}
    assert {"kl", "flip_rate", "nonzero_b"} <= set(found.json)


def test_prove_without_held_out_rows_or_with_strange_keys(molting: Scripted) -> None:
    molting.answers("prove", proof(heldout_loss={"base": None, "adapter": None}, missing_keys=2, unexpected_keys=1))
    said = molting("prove", "rhea").out
    assert "no held-out rows" in said and "2 keys missing, 1 unexpected" in said


def test_doctor_puts_the_worst_first_and_exits_1_for_errors(molting: Scripted, tmp_path: Path) -> None:
    (tmp_path / "spec.toml").touch()
    findings = [
        {"id": "rows.few", "severity": "warning", "message": "Only 12 rows.", "remedy": "Write more."},
        {
            "id": "template.eos",
            "severity": "error",
            "message": "No end token.",
            "evidence": "row 3",
            "why": "It never stops.",
        },
    ]
    plan = {
        "rows": 64, "heldout": 6, "rows_per_step": 4, "steps": 96, "seen": 6.0, "warmup_steps": 5,
        "learning_rate": 1e-3, "tokens_per_row": 92.4, "learned_share": 0.41,
    }  # fmt: skip
    molting.answers("preflight", {"findings": findings, "plan": plan})
    said = molting("doctor", str(tmp_path))
    assert said.code == 1
    assert said.out.splitlines() == [
        "error    No end token.  [template.eos]",
        "         why: It never stops.",
        "         evidence: row 3",
        "warning  Only 12 rows.  [rows.few]",
        "         try: Write more.",
        "plan: 64 rows × 6, 4 a step = 96 steps, 5 of them warm-up, learning rate 0.001, 92 tokens a row, "
        "41 % learned, 6 held out, how long it takes is known after a first run of such a model here",
    ]
    found = molting("doctor", str(tmp_path), "--json")
    assert found.code == 1 and len(found.json["findings"]) == 2 and found.json["plan"]["steps"] == 96
    molting.answers("preflight", {"findings": findings[:1], "plan": plan})
    assert molting("doctor", str(tmp_path)).code == 0
