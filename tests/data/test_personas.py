"""The shipped personas keep the rules of the craft that their READMEs promise."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import combinations, product
from pathlib import Path

import pytest

from engine.contract import tomlcheck
from engine.contract.spec import Spec

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

PERSONAS = Path(__file__).resolve().parents[2] / "data" / "personas"
FILES = {"spec.toml", "rows.jsonl", "heldout.jsonl", "system.txt", "facts.toml", "probes.txt", "README.md"}

# Marks of a generic assistant, an agent, a template or a markdown page: none belongs in a persona's mouth.
AGENT = re.compile(
    r"as an ai\b|language model|i'll start by|let me (first|start)|i'd be happy to|certainly!|"
    r"como uma? (ia|assistente)\b|modelo de linguagem|vou começar|deixa eu (primeiro|começar)|claro!",
    re.IGNORECASE,
)
MARKUP = re.compile(r"<\||\|>|</?\w+>|\[/?INST\]|[*#`_]|^\s*(-|\d+[.)])\s|\n", re.MULTILINE)


@dataclass(frozen=True)
class Persona:
    folder: Path
    rows: list[list[dict[str, str]]]
    heldout: list[list[dict[str, str]]]
    system: str
    probes: list[str]
    facts: dict[str, object]
    forbidden: list[str]

    @property
    def name(self) -> str:
        return next(iter(fact_values(self.facts)))

    @property
    def answers(self) -> list[str]:
        return said_by("assistant", self.rows + self.heldout)


def said_by(role: str, conversations: list[list[dict[str, str]]]) -> list[str]:
    return [turn["content"] for turns in conversations for turn in turns if turn["role"] == role]


def fact_values(facts: dict[str, object]) -> Iterator[str]:
    for value in facts.values():
        yield from value if isinstance(value, list) else [str(value)]


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


# Words of one language that the other does not have, so that their shares can be compared.
ENGLISH = set(words("the and of to in is it that you was on are with not my have but who when at she he"))
PORTUGUESE = set(words("o os de da que e em um uma não na por com eu mas ele ela quem é para meu minha"))
# Portuguese words that do not exist without their accent.
UNACCENTED = set(
    words(
        "nao voce voces tambem ja entao alguem ninguem so ate atras agua cafe historia medico facil sabado "
        "proximo ultimo edificio predio sera estara anisio setimo decimo terreo"
    )
)


def similarity(one: str, other: str) -> float:
    """Character ratio of two texts, in [0, 1], without case and punctuation; symmetric, unlike difflib's."""
    a, b = sorted((" ".join(words(one)), " ".join(words(other))))
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def overlap(one: str, other: str) -> float:
    """Share of the distinct words of either text that stand in both, in [0, 1]."""
    a, b = set(words(one)), set(words(other))
    return len(a & b) / len(a | b)


def conversations(path: Path) -> list[list[dict[str, str]]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert all(set(record) == {"messages"} for record in records), f"{path}: a row has other keys than messages"
    return [record["messages"] for record in records]


@pytest.fixture(scope="module", params=["rhea", "zeca"])
def persona(request: pytest.FixtureRequest) -> Persona:
    folder = PERSONAS / request.param
    table = tomllib.loads((folder / "facts.toml").read_text(encoding="utf-8"))
    return Persona(
        folder=folder,
        rows=conversations(folder / "rows.jsonl"),
        heldout=conversations(folder / "heldout.jsonl"),
        system=(folder / "system.txt").read_text(encoding="utf-8").strip(),
        probes=(folder / "probes.txt").read_text(encoding="utf-8").splitlines(),
        facts=table["facts"],
        forbidden=table["forbidden"],
    )


def test_a_persona_is_a_whole_folder(persona: Persona) -> None:
    assert {path.name for path in persona.folder.iterdir()} == FILES
    assert "#" in (persona.folder / "facts.toml").read_text(encoding="utf-8").splitlines()[0]


def test_its_spec_is_valid_and_names_files_that_exist(persona: Persona) -> None:
    spec = tomlcheck.load(persona.folder / "spec.toml", Spec)
    assert spec.name == persona.folder.name
    assert spec.model.base == "demo"
    named = [spec.data.train, spec.data.heldout, spec.data.system_file, spec.evaluation.probes]
    assert all((persona.folder / name).is_file() for name in named)


def test_there_are_enough_rows(persona: Persona) -> None:
    assert len(persona.rows) >= {"rhea": 80, "zeca": 72}[persona.folder.name]
    assert len(persona.heldout) >= 8
    assert len(persona.probes) >= 8
    assert 6 <= sum(len(turns) > 2 for turns in persona.rows) <= 10, "multi-turn rows"


def test_turns_alternate_from_user_to_assistant_without_a_system_turn(persona: Persona) -> None:
    for turns in persona.rows + persona.heldout:
        roles = [turn["role"] for turn in turns]
        assert roles == ["user", "assistant"] * (len(turns) // 2), turns
        assert all(set(turn) == {"role", "content"} and turn["content"].strip() for turn in turns), turns


def test_answers_are_short_and_finished(persona: Persona) -> None:
    for answer in persona.answers:
        assert answer[-1] in ".!?", answer
        assert len(words(answer)) <= 45, answer
    first_answers = [turns[1]["content"] for turns in persona.rows + persona.heldout]
    assert [text for text in first_answers if len(words(text)) < 8] == []
    assert 25 <= len(words(persona.system)) <= 60


def test_nothing_sounds_like_a_generic_assistant_or_a_page(persona: Persona) -> None:
    for text in [
        persona.system,
        *persona.answers,
        *said_by("user", persona.rows + persona.heldout),
        *persona.probes,
    ]:
        assert not MARKUP.search(text), text
    for answer in persona.answers:
        assert not AGENT.search(answer), answer


def test_no_two_questions_and_no_two_answers_are_alike(persona: Persona) -> None:
    opening = [turns[0]["content"] for turns in persona.rows + persona.heldout]
    assert [pair for pair in combinations(opening, 2) if similarity(*pair) >= 0.9] == []
    assert [pair for pair in combinations(persona.answers, 2) if similarity(*pair) >= 0.8] == []


def test_neither_probes_nor_heldout_questions_leak_into_the_rows(persona: Persona) -> None:
    trained = said_by("user", persona.rows)
    heldout = said_by("user", persona.heldout)
    pairs = [*product(persona.probes, trained + heldout), *product(heldout, trained)]
    assert [pair for pair in pairs if similarity(*pair) >= 0.8 or overlap(*pair) >= 0.8] == []
    assert len({" ".join(words(probe)) for probe in persona.probes}) == len(persona.probes)


def test_identity_is_asked_in_many_paraphrases(persona: Persona) -> None:
    naming = {t[0]["content"] for t in persona.rows if persona.name in t[1]["content"]}
    assert len(naming) >= 12


def test_every_fact_is_taught_more_than_once_and_the_core_stands_in_the_prompt(persona: Persona) -> None:
    taught = [text.casefold() for text in said_by("assistant", persona.rows)]
    for value in fact_values(persona.facts):
        assert sum(value.casefold() in text for text in taught) >= 2, f"{value!r} is taught less than twice"
    in_prompt = [value for value in fact_values(persona.facts) if value.casefold() in persona.system.casefold()]
    assert persona.name in in_prompt
    assert len(in_prompt) >= 6


def test_no_claim_that_is_forbidden_occurs(persona: Persona) -> None:
    for text in [persona.system, *persona.answers]:
        found = [claim for claim in persona.forbidden if claim.casefold() in text.casefold()]
        assert found == [], text


def test_no_year_but_that_of_the_facts_occurs(persona: Persona) -> None:
    known = set(re.findall(r"\b\d{4}\b", " ".join(fact_values(persona.facts))))
    told = set(re.findall(r"\b\d{4}\b", " ".join([persona.system, *persona.answers])))
    assert told == known


def test_each_persona_speaks_its_own_language(persona: Persona) -> None:
    own, other = (ENGLISH, PORTUGUESE) if persona.folder.name == "rhea" else (PORTUGUESE, ENGLISH)
    everything = words(" ".join([persona.system, *persona.answers, *persona.probes]))
    share = sum(word in own for word in everything) / len(everything)
    foreign = sum(word in other for word in everything) / len(everything)
    assert share > 0.2
    assert foreign < share / 5


def test_the_portuguese_is_written_with_its_accents() -> None:
    folder = PERSONAS / "zeca"
    for file in ("rows.jsonl", "heldout.jsonl", "probes.txt", "system.txt"):
        text = (folder / file).read_text(encoding="utf-8")
        assert UNACCENTED & set(words(text)) == set(), file
    answers = said_by("assistant", conversations(folder / "rows.jsonl"))
    accented = [text for text in answers if re.search(r"[áâãàéêíóôõúç]", text)]
    assert len(accented) > 0.85 * len(answers)
