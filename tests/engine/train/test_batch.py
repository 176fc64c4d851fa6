"""Packing gives the loss and the gradients of the rows one by one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from engine.train import batch
from engine.train.loss import summed_loss

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "max_position_embeddings": 128,
}


@dataclass
class Row:
    input_ids: list[int]
    labels: list[int]


def row(prompt: list[int], answer: list[int]) -> Row:
    return Row(prompt + answer, [-100] * len(prompt) + answer)


def models() -> list:
    torch.manual_seed(0)
    return [
        LlamaForCausalLM(LlamaConfig(**SHAPE)),
        Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
        Phi3ForCausalLM(Phi3Config(**SHAPE)),
        GemmaForCausalLM(GemmaConfig(**SHAPE)),
    ]


def gradients(model: torch.nn.Module, layouts: list[batch.Layout]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    total = 0.0
    for layout in layouts:
        loss = summed_loss(model, layout)
        loss.backward()
        total += loss.item()
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(model: torch.nn.Module, rows: list[Row]) -> None:
    reference = gradients(model, [batch.pad([one], 0) for one in rows])
    for layout in (batch.pack(rows), batch.pad(rows, 0)):
        loss, grads = gradients(model, [layout])
        assert loss == pytest.approx(reference[0], rel=1e-5)
        for name, grad in grads.items():
            scale = reference[1][name].abs().max().clamp(min=1e-6)
            assert (grad - reference[1][name]).abs().max() / scale < 1e-4, name


SYSTEM = [5, 6, 7, 8, 9]
ROWS = [row([*SYSTEM, 10, 11], [12, 13, 2]), row([*SYSTEM, 14], [15, 2]), row([*SYSTEM, 10, 16, 17], [2])]


@pytest.mark.parametrize("model", models(), ids=lambda model: model.config.model_type)
def test_packed_equals_row_by_row(model: torch.nn.Module) -> None:
    assert batch.packable(model.config)
    assert_same(model, ROWS)


@settings(max_examples=25, deadline=None)
@given(
    system=st.lists(st.integers(3, 63), max_size=6),
    turns=st.lists(
        st.tuples(st.lists(st.integers(3, 63), max_size=5), st.lists(st.integers(3, 63), min_size=1, max_size=4)),
        min_size=1,
        max_size=5,
    ),
)
def test_any_rows(system: list[int], turns: list[tuple[list[int], list[int]]]) -> None:
    model = models()[0]
    assert_same(model, [row([4, *system, *prompt], answer) for prompt, answer in turns])


def test_identical_rows_and_a_row_that_begins_another() -> None:
    assert_same(models()[0], [ROWS[0], ROWS[0], row([*SYSTEM, 10], [11, 12])])


def test_multi_turn_rows_share_only_what_is_not_learned() -> None:
    two_turns = Row([*SYSTEM, 10, 11, 12, 2, 13, 14, 2], [-100] * 6 + [11, 12, 2] + [-100, 14, 2])
    assert batch.common_prefix([two_turns, two_turns]) == 6
    assert_same(models()[0], [two_turns, ROWS[0], two_turns])


def test_a_sliding_window_is_not_packed() -> None:
    assert not batch.packable(MistralConfig(**SHAPE, sliding_window=16))
    assert batch.packable(MistralConfig(**SHAPE, sliding_window=None))


def test_learned_counts_what_can_be_predicted() -> None:
    assert batch.learned([Row([7, 8], [7, 8])]) == 1
    assert batch.learned(ROWS) == len(batch.pack(ROWS).targets) == 6
