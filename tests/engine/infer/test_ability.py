"""Abilities that are not trained: the file of prompts, and what is measured on a model that changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from engine.contract.errors import MoltingError
from engine.data.encode import Encoder
from engine.data.template import ChatTemplate
from engine.infer.ability import MOST, Abilities, load
from tests.support.tiny import CHATML, tiny_config, tiny_tokenizer


@pytest.mark.parametrize(
    ("name", "text", "items"),
    [
        ("a.txt", "# sums\n2 + 2 =\n\n3 + 3 =\n", [("2 + 2 =", ""), ("3 + 3 =", "")]),
        ("a.jsonl", '{"prompt": "2 + 2 =", "expected": "4"}\n{"question": "Why?"}', [("2 + 2 =", "4"), ("Why?", "")]),
        ("a.csv", "instruction,output\nSay yes,yes\n", [("Say yes", "yes")]),
        ("a.json", '["Count to three"]', [("Count to three", "")]),
    ],
)
def test_prompts_are_read_from_every_kind_of_file(
    tmp_path: Path, name: str, text: str, items: list[tuple[str, str]]
) -> None:
    (tmp_path / name).write_text(text)
    assert load(tmp_path / name) == items


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "# nothing\n", "no prompt to measure"),
        ("a.jsonl", '{"prompt": "x"}\n{"text": "x"}', "Row 2 of .* holds no prompt"),
        ("a.jsonl", '{"prompt": ["x"]}', "Row 1 of .* holds no prompt"),
        ("a.jsonl", '{"prompt": "x", "expected": 4}', "Row 1 of .* holds no prompt"),
    ],
)
def test_a_file_without_prompts_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(MoltingError, match=said) as caught:
        load(tmp_path / name)
    assert caught.value.code == 2


def test_no_more_than_so_many_are_measured(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(f"prompt {i}" for i in range(3 * MOST)))
    assert len(load(tmp_path / "a.txt")) == MOST


def test_the_base_is_at_home_and_a_changed_model_is_not() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(tiny_config())
    encoder = Encoder(tiny_tokenizer(), ChatTemplate(CHATML, {}), eos_ids=[2])
    watched = Abilities(model, encoder, [("Who are you?", "I am Molting."), ("Where are you from?", "")])

    before = watched.measure(model, 0)
    with torch.no_grad():
        model.lm_head.weight += 0.05 * torch.randn_like(model.lm_head.weight)
    after = watched.measure(model, 5)

    assert (before.step, before.prompts, before.loss) == (0, 2, before.base)
    assert before.kl == pytest.approx(0.0, abs=1e-6)
    assert after.kl is not None and after.kl > 0.001
    assert after.base == before.base and after.loss != after.base


def test_prompts_without_answers_have_no_loss() -> None:
    encoder = Encoder(tiny_tokenizer(), ChatTemplate(CHATML, {}), eos_ids=[2])
    model = LlamaForCausalLM(tiny_config())
    said = Abilities(model, encoder, [("Why?", "")]).measure(model, 1)
    assert (said.loss, said.base) == (None, None) and said.kl is not None
