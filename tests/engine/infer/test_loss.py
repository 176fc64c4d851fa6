from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.infer import head, loss
from engine.infer.loss import answer_loss
from tests.support.voices import plain_model, with_adapter


@dataclass
class Row:
    input_ids: list[int]
    labels: list[int]


def row(ids, learned):
    return Row(list(ids), [token if i in learned else -100 for i, token in enumerate(ids)])


ROWS = [
    row(range(5, 25), range(10, 20)),
    row(range(40, 47), {0, 1, 6}),  # the first token is learned too, as in plain text
    row(range(60, 63), set()),
    row(range(70, 170), range(30, 100)),
]


def reference(model, rows):
    """Row by row, all logits at once, in fp32."""
    nats, count = 0.0, 0
    for item in rows:
        with torch.no_grad():
            scores = model(torch.tensor([item.input_ids])).logits[0, :-1].float()
        labels = torch.tensor(item.labels[1:])
        nats += float(torch.nn.functional.cross_entropy(scores, labels, ignore_index=-100, reduction="sum"))
        count += int((labels != -100).sum())
    return nats / count, count


@pytest.fixture(scope="module")
def model():
    return plain_model()


@pytest.mark.parametrize("batch_tokens", [1, 64, 10_000])
def test_it_is_the_mean_over_all_learned_tokens(model, batch_tokens):
    value, learned = answer_loss(model, ROWS, batch_tokens=batch_tokens, pad_id=2)
    expected, count = reference(model, ROWS)
    assert learned == count == 82
    assert value == pytest.approx(expected, rel=1e-5)


def test_what_rows_share_is_computed_once(model, monkeypatch):
    system = list(range(200, 240))
    rows = [Row([*system, *item.input_ids], [-100] * len(system) + item.labels) for item in ROWS]
    seen = []
    own = loss.hidden_states
    monkeypatch.setattr(
        loss, "hidden_states", lambda model, **inputs: seen.append(inputs["input_ids"].numel()) or own(model, **inputs)
    )
    value, _ = answer_loss(model, rows, pad_id=2)
    assert value == pytest.approx(reference(model, rows)[0], rel=1e-5)
    assert sum(seen) == len(system) + sum(len(item.input_ids) for item in ROWS)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(3, 511), st.booleans()), min_size=2, max_size=40), max_size=6))
def test_any_rows_in_any_batches(model, drawn):
    rows = [Row([t for t, _ in tokens], [t if on else -100 for t, on in tokens]) for tokens in drawn]
    value, learned = answer_loss(model, rows, batch_tokens=50, pad_id=2)
    if learned == 0:
        assert value is None
    else:
        expected, count = reference(model, rows)
        assert (value, learned) == (pytest.approx(expected, rel=1e-4), count)


def test_a_peft_model_answers_with_its_adapter_and_keeps_its_mode(model):
    tuned = with_adapter(plain_model(), strength=0.1, lora_dropout=0.5)
    expected = reference(tuned, ROWS)[0]
    tuned.train()
    state = torch.get_rng_state()
    value, _ = answer_loss(tuned, ROWS, pad_id=2)
    assert value == pytest.approx(expected, rel=1e-5)
    assert value != pytest.approx(reference(model, ROWS)[0], rel=1e-3)
    assert tuned.training
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in tuned.parameters())


def test_bf16_is_close(model):
    value, _ = answer_loss(plain_model(dtype="bfloat16"), ROWS, pad_id=2)
    assert value == pytest.approx(reference(model, ROWS)[0], rel=0.02)


def test_nothing_learned_is_none_and_not_zero(model):
    assert answer_loss(model, [ROWS[2]], pad_id=2) == (None, 0)
    assert answer_loss(model, [], pad_id=2) == (None, 0)


def test_a_broken_model_gives_nan(model):
    broken = plain_model()
    with torch.no_grad():
        broken.lm_head.weight[7] = float("nan")
    assert answer_loss(broken, ROWS, pad_id=2)[0] != answer_loss(broken, ROWS, pad_id=2)[0]


def test_logits_are_held_for_few_positions_at_a_time(model, monkeypatch):
    monkeypatch.setattr(head, "LOGITS_AT_ONCE", 512 * 8)
    seen = []
    real = head.logits
    monkeypatch.setattr(loss, "logits", lambda m, hidden: seen.append(len(hidden)) or real(m, hidden))
    value, learned = answer_loss(model, ROWS, pad_id=2)
    assert max(seen) == 8
    assert sum(seen) == learned  # and none for a position that is not learned
    assert value == pytest.approx(reference(model, ROWS)[0], rel=1e-5)


def family(name):
    import transformers

    sizes = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "pad_token_id": 2,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    special = {
        "Gemma2": {"final_logit_softcapping": 0.5, "head_dim": 16},
        "Gemma3Text": {"head_dim": 16, "final_logit_softcapping": 0.5},
        "Cohere": {"logit_scale": 4.0},
        "Granite": {"logits_scaling": 8.0},
        "Qwen3": {"head_dim": 16},
        "GraniteMoe": {"logits_scaling": 8.0, "num_local_experts": 2, "num_experts_per_tok": 1},
    }
    config = getattr(transformers, f"{name}Config")(**sizes, **special.get(name, {}))
    kind = {"Gemma3Text": "Gemma3"}.get(name, name)
    torch.manual_seed(0)
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


@pytest.mark.parametrize(
    "name", ["Gemma2", "Gemma3Text", "Cohere", "Granite", "GraniteMoe", "Qwen3", "Phi3", "Mistral"]
)
def test_families_that_scale_or_cap_their_logits_keep_doing_so(name):
    model = family(name)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        whole = model(ids).logits[0]
        hidden = head.hidden_states(model, ids, torch.ones_like(ids))[0]
        assert torch.allclose(head.logits(model, hidden), whole, atol=1e-5)
        assert torch.allclose(model(ids).logits[0], whole)  # the model itself is untouched


def test_gpt2_with_its_other_names_works_too():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=128, bos_token_id=1, eos_token_id=2)
    model = GPT2LMHeadModel(config).eval()
    value, _ = answer_loss(model, ROWS[:2], pad_id=2)
    assert value == pytest.approx(reference(model, ROWS[:2])[0], rel=1e-5)
