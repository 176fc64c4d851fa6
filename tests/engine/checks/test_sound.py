"""Set-ups in which nothing is wrong: no error and no warning, whatever the template and the form of the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.checks import all as checks
from engine.checks import gather
from engine.data.encode import Encoder
from engine.data.of_spec import encoder_from, options
from engine.data.prepare import prepare
from engine.data.tokenizer import load_tokenizer
from engine.train import freeze
from tests.support.chat_families import FAMILIES, tokenizer_of
from tests.support.diagnosed import PERSONAS, chat, diagnose, persona, serious, shipped_rows
from tests.support.tiny import tiny_llama


@pytest.fixture(scope="module", name="models")
def _models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each family, with that family's kind of tokenizer and its own template."""
    root = tmp_path_factory.mktemp("families")
    base = tiny_llama(root / "base", vocab=1200, max_position_embeddings=4096, template=None)
    found = {}
    for name in FAMILIES:
        folder = root / name
        folder.mkdir()
        for file in base.iterdir():
            if "token" not in file.name and file.name != "generation_config.json":
                (folder / file.name).symlink_to(file)
        tokenizer_of(name).save_pretrained(folder)
        found[name] = folder
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_with_its_own_template(models: dict[str, Path], tmp_path: Path, family: str) -> None:
    assert serious(diagnose(persona(tmp_path, models[family], shipped_rows()))) == {}


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.shipped])
def test_every_shipped_template_on_its_family(models: dict[str, Path], tmp_path: Path, family: str) -> None:
    spec = persona(tmp_path, models[family], shipped_rows(), model={"chat_template": FAMILIES[family].shipped})
    assert serious(diagnose(spec)) == {}


@pytest.mark.parametrize("name", ["rhea", "zeca"])
def test_the_shipped_personas(models: dict[str, Path], tmp_path: Path, name: str) -> None:
    text = (PERSONAS / name / "spec.toml").read_text("utf-8")
    for file in (PERSONAS / name).iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "spec.toml").unlink()
    (tmp_path / "spec.toml").write_text(
        text.replace('"demo"', json.dumps(str(models["smollm2"]))).replace("512", "1024")
    )
    assert serious(diagnose(tmp_path / "spec.toml")) == {}


def completions() -> list[dict[str, Any]]:
    return [{"prompt": q["content"], "completion": a["content"]} for q, a, *_ in turns()]


def titles() -> list[dict[str, Any]]:
    return [{"title": f"On {q['content'].rstrip('?.')}", "content": a["content"]} for q, a, *_ in turns()]


def texts() -> list[dict[str, Any]]:
    return [
        {"text": f"{a['content']} {b['content']}"}
        for (_, a, *_), (_, b, *_) in zip(turns()[::2], turns()[1::2], strict=True)
    ] * 1


def sharegpt() -> list[dict[str, Any]]:
    return [
        {"conversations": [{"from": "human", "value": q["content"]}, {"from": "gpt", "value": a["content"]}]}
        for q, a, *_ in turns()
    ]


def dialogues() -> list[dict[str, Any]]:
    rows = turns()
    return [
        chat(*(turn["content"] for turn in [*one[:2], *other[:2]])) for one, other in zip(rows, rows[60:], strict=False)
    ]


def turns() -> list[list[dict[str, str]]]:
    return [row["messages"] for row in shipped_rows(count=120)]


@pytest.mark.parametrize("rows", [completions, titles, texts, sharegpt, dialogues], ids=lambda rows: rows.__name__)
def test_every_form_of_rows(models: dict[str, Path], tmp_path: Path, rows: Any) -> None:
    spec = persona(tmp_path, models["qwen2.5"], rows(), training={"epochs": 6})
    assert serious(diagnose(spec)) == {}


def test_rows_made_from_a_pattern(models: dict[str, Path], tmp_path: Path) -> None:
    rows = [
        chat(f"How long is the pier number {i}?", f"Pier number {i} is {3 * i} metres long, give or take.")
        for i in range(60)
    ]
    assert serious(diagnose(persona(tmp_path, models["qwen2.5"], rows))) == {}


def test_a_model_without_a_template_and_plain_completions(models: dict[str, Path], tmp_path: Path) -> None:
    spec = persona(tmp_path, models["tinyllama"], completions(), model={"chat_template": "none"})
    assert serious(diagnose(spec)) == {}


def test_the_checks_judge_the_rows_that_training_has(models: dict[str, Path], tmp_path: Path) -> None:
    spec = freeze.open_spec(persona(tmp_path, models["llama3"], shipped_rows(), data={"max_length": 500})).spec
    files = load_tokenizer(models["llama3"])

    def encoder() -> Encoder:
        return encoder_from(spec, files)

    mine, theirs = gather.rows(spec, encoder()), prepare(options(spec), encoder())
    assert (mine.rows, mine.heldout) == (theirs.train, theirs.heldout)
    assert mine.funnel == theirs.funnel and len(mine.kept) == len(mine.rows)


def test_every_check_stands_in_a_group() -> None:
    assert sum(len(group) for group in checks.GROUPS.values()) >= 40
