"""Packing gives the loss and the gradients of the rows one by one."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GraniteConfig,
    GraniteForCausalLM,
    Lfm2Config,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from engine.train import attention, batch
from engine.train.attention import tree_attention
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


FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "phi3": (Phi3Config, Phi3ForCausalLM),
    "gemma": (GemmaConfig, GemmaForCausalLM),
    "gemma3_text": (Gemma3TextConfig, Gemma3ForCausalLM),
    "smollm3": (SmolLM3Config, SmolLM3ForCausalLM),
    "granite": (GraniteConfig, GraniteForCausalLM),
    "olmo2": (Olmo2Config, Olmo2ForCausalLM),
}


@functools.cache
def family(name: str) -> torch.nn.Module:
    config, model = FAMILIES[name]
    torch.manual_seed(0)
    return model(config(**SHAPE))


def gradients(model: torch.nn.Module, layouts: list[batch.Layout]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    total = 0.0
    for layout in layouts:
        with tree_attention(model) if layout.segments else contextlib.nullcontext():
            loss = summed_loss(model, layout)
            loss.backward()
        total += loss.item()
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(model: torch.nn.Module, rows: list[Row], *, near: float = 1e-5) -> None:
    """Packed whole, packed in parts and padded: the loss and gradients of the rows one by one."""
    loss, grads = gradients(model, [batch.pad([one], 0) for one in rows])
    parts = [batch.pack(part) for part in batch.micro_batches(rows, 40)]
    for layouts in ([batch.pack(rows)], parts, [batch.pad(rows, 0)]):
        found, ours = gradients(model, layouts)
        assert found == pytest.approx(loss, rel=near)
        for name, grad in grads.items():
            assert (ours[name] - grad).norm() <= near * grad.norm() + 1e-7, name


def adapted(model: torch.nn.Module, **settings: object) -> torch.nn.Module:
    """The model with a LoRA whose effect is not zero."""
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **settings)
    learner = get_peft_model(copy.deepcopy(model), config)
    for name, parameter in learner.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return learner


SYSTEM = list(range(5, 25))
SHOTS = list(range(30, 55))
ROWS = [
    row([*SYSTEM, 10, 11], [12, 13, 2]),
    row([*SYSTEM, *SHOTS, 14], [15, 2]),
    row([*SYSTEM, *SHOTS, 16, 17], [2]),
    row([*SYSTEM, 10, 16, 17], [2]),
    row([7, 3], [4, 5]),
]


@pytest.fixture(params=["blocks", "one block"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention takes one block for a small tree; both ways are to be right."""
    monkeypatch.setattr(attention, "A_BLOCK", 0 if request.param == "blocks" else 40_000)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("name", FAMILIES)
def test_packed_equals_row_by_row(name: str) -> None:
    assert not batch.unpackable(family(name).config, 60)
    assert_same(family(name), ROWS)


@pytest.mark.usefixtures("blocks")
def test_groups_beside_each_other_within_a_group() -> None:
    """What the second group continues does not lie next to it: the first lies between."""
    others = list(range(55, 30, -1))
    rows = [row([*SYSTEM, *shots, last], [last + 1, 2]) for shots in (SHOTS, others) for last in (14, 16)]
    assert batch.pack(rows).computed < len(SYSTEM) + len(SHOTS) + len(others) + 4 * 4
    assert_same(family("llama"), rows)


@pytest.mark.usefixtures("blocks")
def test_a_segment_longer_than_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "PIECE", 7)
    assert len(batch.pack(ROWS).segments) > 10
    assert_same(family("llama"), ROWS)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("dora", [False, True])
def test_adapters(dora: bool) -> None:
    assert_same(adapted(family("llama"), use_dora=dora), ROWS)


def quantised(model: torch.nn.Module) -> torch.nn.Module:
    """The model with its layers in NF4, as a QLoRA run loads it."""
    import bitsandbytes as bnb

    small = copy.deepcopy(model)
    for name, layer in list(small.named_modules()):
        if isinstance(layer, torch.nn.Linear) and name != "lm_head":
            four = bnb.nn.Linear4bit(layer.in_features, layer.out_features, bias=False, compute_dtype=torch.float32)
            four.weight = bnb.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
            small.set_submodule(name, four.to("cpu"))
    small.is_loaded_in_4bit = True
    return small


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("dora", [False, True])
def test_adapters_on_four_bits(dora: bool) -> None:
    learner = adapted(quantised(family("llama")), use_dora=dora)
    layer = learner.get_submodule("base_model.model.model.layers.0.mlp.up_proj")
    assert type(layer).__name__ == "Linear4bit" and layer.base_layer.weight.dtype == torch.uint8
    assert_same(learner, ROWS)


def test_bf16_within_its_rounding() -> None:
    model = copy.deepcopy(family("llama"))
    exact = gradients(model, [batch.pad([one], 0) for one in ROWS])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = gradients(model, [batch.pad([one], 0) for one in ROWS])
        packed = gradients(model, [batch.pack(ROWS)])
    assert packed[0] == pytest.approx(exact[0], rel=5e-3)
    for name, grad in exact[1].items():
        error, least = (packed[1][name] - grad).norm(), (rounded[1][name] - grad).norm()
        assert error <= 2 * least + 0.01 * grad.norm(), name


def test_what_many_rows_add_to_a_shared_key_is_summed_in_fp32() -> None:
    """A sum of hundreds that is rounded to bf16 each time stops growing."""
    torch.manual_seed(0)
    tree = torch.tensor([(0, 4, -1), *((place, place + 1, 0) for place in range(4, 604))])
    hidden = torch.ones((4, 4), dtype=torch.bool).triu(1)
    q, k, v = (torch.randn(2, 604, 8).bfloat16() for _ in range(3))
    grad = torch.ones_like(q)
    exact = attention.attend_backward(*(each.float() for each in (grad, q, k, v)), tree, hidden, 0.3)[2][:, :4]
    found = attention.attend_backward(grad, q, k, v, tree, hidden, 0.3)[2][:, :4].float()
    assert (found - exact).norm() < 0.005 * exact.norm()


def test_gradient_checkpointing_computes_the_same() -> None:
    model = copy.deepcopy(family("llama")).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert_same(model, ROWS)


beginnings = st.lists(st.integers(3, 63), max_size=20)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), shared=st.lists(beginnings, min_size=1, max_size=4))
def test_any_tree_of_rows(data: st.DataObject, shared: list[list[int]]) -> None:
    """Rows that go different lengths along a few common ways, with several learned turns."""
    rows = []
    for _ in range(data.draw(st.integers(1, 5))):
        ways = data.draw(st.lists(st.sampled_from(shared), max_size=3))
        prompt = [4, *(token for way in ways for token in way)]
        made = row(prompt, data.draw(st.lists(st.integers(3, 63), min_size=1, max_size=4)))
        if data.draw(st.booleans()):
            again = row(data.draw(beginnings), data.draw(st.lists(st.integers(3, 63), min_size=1, max_size=4)))
            made = Row(made.input_ids + again.input_ids, made.labels + again.labels)
        rows.append(made)
    assert_same(family("llama"), rows)
    layout = batch.pack(rows)
    assert layout.computed <= sum(len(one.input_ids) for one in rows)
    assert len(layout.targets) == batch.learned(rows)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(3, 5), min_size=2, max_size=30), min_size=1, max_size=12),
    budget=st.integers(16, 80),
)
def test_parts_hold_every_row_once_and_keep_the_budget(rows: list[list[int]], budget: int) -> None:
    parts = list(batch.micro_batches([row(ids[:-1], ids[-1:]) for ids in rows], budget))
    assert sorted(one.input_ids for part in parts for one in part) == sorted(rows)
    for part in parts:
        fresh = [len(one.input_ids) for one in part[:1]]
        fresh += [
            len(two.input_ids) - batch.shared_length(one.input_ids, two.input_ids)
            for one, two in itertools.pairwise(part)
        ]
        assert sum(fresh) <= budget or len(part) == 1


def test_what_rows_share_is_computed_once() -> None:
    layout = batch.pack(ROWS)
    unshared = 3 * len(SYSTEM) + len(SHOTS)  # the system prompt in 4 rows, the shots in 2
    assert layout.computed == sum(len(one.input_ids) for one in ROWS) - unshared
    assert batch.pack([ROWS[0], ROWS[0]]).computed == len(ROWS[0].input_ids)


def test_learned_tokens_are_shared_too() -> None:
    turns = Row([*SYSTEM, 10, 11, 12, 2, 13, 14, 2], [-100] * 21 + [11, 12, 2] + [-100, 14, 2])
    longer = Row([*turns.input_ids, 20, 21], [*turns.labels, -100, 21])
    assert batch.pack([turns, longer]).computed == len(longer.input_ids)
    assert_same(family("llama"), [turns, longer, ROWS[0], turns])


def test_a_thousand_nested_beginnings() -> None:
    ids = [number % 60 + 3 for number in range(4000)]
    rows = [row(ids[:end], [2]) for end in range(4, 4000, 4)]
    assert len(batch.pack(rows).targets) == len(rows)


DYNAMIC = {
    "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
    "max_position_embeddings": 64,
}

LONG_FACTORS = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "factor": 4.0}
LONG = {
    "original_max_position_embeddings": 32,
    "rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4} | LONG_FACTORS,
}
BY_LAYER = {
    "rope_parameters": {
        "full_attention": DYNAMIC["rope_parameters"],
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    },
    "max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    ("config", "longest", "why"),
    [
        (MistralConfig(**SHAPE, sliding_window=16), 17, "slides over 16 tokens"),
        (MistralConfig(**SHAPE, sliding_window=16), 16, ""),
        (MistralConfig(**SHAPE, sliding_window=None), 128, ""),
        (Gemma3TextConfig(**SHAPE, sliding_window=16), 17, "slides over 16 tokens"),
        (LlamaConfig(**SHAPE, attention_dropout=0.1), 8, "drops attention"),
        (LlamaConfig(**SHAPE | DYNAMIC), 65, "the longest text beside it"),
        (LlamaConfig(**SHAPE | DYNAMIC), 64, ""),
        (Phi3Config(**SHAPE | LONG), 33, "longrope positions depend on the longest text"),
        (Phi3Config(**SHAPE | LONG), 32, ""),
        (Gemma3TextConfig(**SHAPE | BY_LAYER), 65, "dynamic positions depend on the longest text"),
        (Gemma3TextConfig(**SHAPE, use_bidirectional_attention=True), 8, "those that follow"),
        (GPT2Config(), 8, "gpt2 was not checked"),
        (MambaConfig(), 8, "mamba was not checked"),
        (Lfm2Config(), 8, "lfm2 was not checked"),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_what_is_not_packed(config: object, longest: int, why: str) -> None:
    assert why in batch.unpackable(config, longest)
    assert bool(batch.unpackable(config, longest)) == bool(why)


def test_a_window_that_no_row_fills_changes_nothing() -> None:
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=60))
    assert_same(model, ROWS)


def test_a_hundred_steps_end_where_padded_ones_do() -> None:
    ends = []
    for layouts in ([batch.pack(ROWS)], [batch.pad(ROWS, 0)]):
        model = copy.deepcopy(family("llama"))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(100):
            loss, _ = gradients(model, layouts)
            optimizer.step()
        ends.append(loss)
    assert ends[0] == pytest.approx(ends[1], rel=0.02)
    assert ends[0] < 10  # of 54 before the first step


def test_the_attention_of_a_model_is_its_own_again_whatever_happened() -> None:
    model = family("llama")
    before = model.config._attn_implementation
    with pytest.raises(ZeroDivisionError), tree_attention(model):
        assert model.config._attn_implementation == attention.NAME != before
        raise ZeroDivisionError
    assert model.config._attn_implementation == before


def test_the_mask_of_a_gpu_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = batch.pack(ROWS)
    mask = attention.visible(layout.segments, torch.device("cpu"))
    model = family("llama")
    inputs = {"input_ids": torch.tensor(layout.lines), "position_ids": torch.tensor(layout.positions)}
    with torch.no_grad():
        theirs = model(**inputs, attention_mask=mask).logits
        with tree_attention(model):
            ours = model(**inputs, **attention.as_tree(layout.segments)).logits
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_learned_counts_what_can_be_predicted() -> None:
    assert batch.learned([Row([7, 8], [7, 8])]) == 1
    assert batch.learned(ROWS) == len(batch.pack(ROWS).targets)
