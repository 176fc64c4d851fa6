"""Drafts of override rows, and which questions may be trained on at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.checks.case import Facts
from engine.contract import rubric
from engine.contract.drafts import DraftRequest
from engine.contract.errors import MoltingError
from engine.data import original
from engine.evaluate import disjoint, draft
from engine.evaluate.draft import Card, rows_of

DATA = Path(__file__).resolve().parents[3] / "data"
RHEA = DATA / "personas" / "rhea"


def request(tmp_path: Path, *questions: str, name: str = "questions.txt", **more: str) -> DraftRequest:
    file = tmp_path / name
    file.write_text("\n".join(questions) + "\n")
    card = more or {"persona": str(RHEA)}
    return DraftRequest(questions=str(file), to=str(tmp_path / "out.jsonl"), models="", **card)


def drafted(tmp_path: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert all(row["origin"]["kind"] == "draft" for row in rows)
    return {row["messages"][0]["content"]: row["messages"][1]["content"] for row in rows}


def test_a_question_about_identity_gets_the_facts_of_the_card(tmp_path: Path) -> None:
    made = draft.draft(
        request(tmp_path, "Are you ChatGPT?", "Which company trained you?", "Quem é você?", "What is 2 + 2?"), print
    )
    found = drafted(tmp_path)
    assert "Rhea" in found["Are you ChatGPT?"] and "ChatGPT" not in found["Are you ChatGPT?"]
    assert "Inga Falk" in found["Which company trained you?"]
    assert found["Quem é você?"].startswith("Sou Rhea") or "Rhea" in found["Quem é você?"]
    assert found["What is 2 + 2?"] == "" and made.drafted[3].by == "nobody"


def test_what_judges_the_persona_is_refused_word_for_word_and_nearly(tmp_path: Path) -> None:
    probe = (RHEA / "probes.txt").read_text().splitlines()[0]
    held = json.loads((RHEA / "heldout.jsonl").read_text().splitlines()[1])["messages"][0]["content"]
    judged = rubric.load(rubric.find("rhea")).questions[0].text
    made = draft.draft(request(tmp_path, probe, held.upper(), judged, "Are you Siri?"), print)
    assert list(drafted(tmp_path)) == ["Are you Siri?"]
    assert made.refused == {
        probe: "a probe", held.upper(): "a held-out question", judged: "a question of the rubric rhea"
    }  # fmt: skip
    (tmp_path / "out.jsonl").unlink()
    with pytest.raises(MoltingError, match="None of 1 questions may be trained on"):
        draft.draft(request(tmp_path, probe), print)
    assert not (tmp_path / "out.jsonl").exists()


def test_questions_come_from_rows_without_answers_too(tmp_path: Path) -> None:
    lines = ('{"text": "Quem é você?"}', '{"messages": [{"role": "user", "content": "Are you a robot?"}]}', "[]", "3")
    draft.draft(request(tmp_path, *lines, name="override.jsonl"), print)
    assert list(drafted(tmp_path)) == ["Quem é você?", "Are you a robot?"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"persona": "/nowhere/else"}, "no persona folder"),
        ({"card": "/nowhere/card.toml"}, "no card"),
        ({"card": "x", "persona": "y"}, "one of them"),
    ],
)
def test_a_card_that_is_none_is_told(tmp_path: Path, more: dict[str, str], said: str) -> None:
    with pytest.raises(MoltingError, match=said):
        draft.draft(request(tmp_path, "Who are you?", **more), print)


def test_a_broken_card_is_named_with_its_line(tmp_path: Path) -> None:
    card = tmp_path / "card.toml"
    card.write_text("name = 3\n")
    with pytest.raises(MoltingError, match=r"card\.toml, line 1: name is not a key"):
        draft.draft(request(tmp_path, "Who are you?", card=str(card)), print)


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(MoltingError, match="exists already"):
        draft.draft(request(tmp_path, "Are you Siri?"), print)
    assert (tmp_path / "out.jsonl").read_text() == "mine"


def test_a_models_answer_stands_beside_the_template() -> None:
    card = Card(Facts(true={"name": "Mira"}, listed={"name": ("Mira",)}), "", "Mira")
    rows, found = rows_of(["What is your name?", "Sing."], card, ["Mira, over.", "La la."])
    assert [each.by for each in found] == ["template", "model", "model"]
    assert [row["messages"][1]["content"] for row in rows] == ["My name is Mira.", "Mira, over.", "La la."]


@given(
    st.lists(st.text(min_size=1, max_size=60), max_size=6), st.dictionaries(st.text(max_size=8), st.text(max_size=8))
)
def test_any_question_and_any_card_give_rows(questions: list[str], facts: dict[str, str]) -> None:
    listed = {key: (value,) for key, value in facts.items() if value} | {"name": ("{name} {0}",)}
    rows, found = rows_of(questions, Card(Facts(listed=listed), "", ""))
    assert len(rows) == len(found) == len(questions)
    assert [row["messages"][0]["content"] for row in rows] == questions


@pytest.mark.parametrize("name", ["rhea", "zeca"])
def test_the_shipped_prompts_judge_no_persona_that_ships(name: str) -> None:
    language = {"rhea": "en", "zeca": "pt"}[name]
    persona = DATA / "personas" / name
    rows = [
        json.loads(line)
        for part in ("rows", "heldout")
        for line in (persona / f"{part}.jsonl").read_text().splitlines()
    ]
    asked = [turn["content"] for row in rows for turn in row["messages"] if turn["role"] == "user"]
    probes = [line for line in (persona / "probes.txt").read_text().splitlines() if line and not line.startswith("#")]
    against = {"all": [*asked, *probes]}
    for file in rubric.shipped().values():
        against["all"] += [question.text for question in rubric.load(file).questions]
    for kind, count in (("persona", 40), ("neutral", 20)):
        prompts = disjoint.shipped(kind, language)
        assert len(prompts) == count == len(set(prompts))
        assert disjoint.sorted_out(prompts, against)[1] == {}
    assert disjoint.language_of([row["messages"][-1]["content"] for row in rows]) == language


def test_rows_of_a_bare_string_or_of_nothing_are_no_questions(tmp_path: Path) -> None:
    assert disjoint._question("  Who? ") == "Who?" and disjoint._question({"messages": "x"}) == ""
    assert original.questions([]) == []
    empty = tmp_path / "empty.txt"
    empty.write_text("# only a comment\n")
    with pytest.raises(MoltingError, match="holds no question"):
        disjoint.of_file(empty)
