from __future__ import annotations

import math

import pytest
import torch

from engine.contract.errors import MoltingError
from engine.infer import effect, head
from engine.infer.effect import (
    LEAST_FLIP_RATE,
    LEAST_KL,
    Shift,
    Weights,
    count_weights,
    divergence,
    judge,
    measure_shift,
)
from engine.infer.voices import Voices
from tests.support.voices import PROMPTS, plain_model, with_adapter


def voices(strength, **lora):
    return Voices(with_adapter(plain_model(), strength=strength, **lora))


def test_the_shift_is_the_mean_over_all_positions():
    both = voices(0.1)
    nats, flips, positions = 0.0, 0, 0
    for ids in PROMPTS:
        row = torch.tensor([ids])
        with torch.no_grad():
            p = plain_model()(row).logits[0].double().log_softmax(-1)
            q = both.tuned(row).logits[0].double().log_softmax(-1)
        nats += float((p.exp() * (p - q)).sum())
        flips += int((p.argmax(-1) != q.argmax(-1)).sum())
        positions += len(ids)
    shift = measure_shift(both, PROMPTS)
    assert shift.positions == positions == 15
    assert shift.kl == pytest.approx(nats / positions, rel=1e-4)
    assert shift.flip_rate == flips / positions
    assert shift.kl > 0.1


@pytest.mark.parametrize("packed", [True, False])
def test_a_beginning_that_sequences_share_counts_for_each(monkeypatch, packed):
    both, system = voices(0.1), list(range(100, 140))
    sequences = [system + ids for ids in PROMPTS]
    alone = [measure_shift(both, [ids]) for ids in sequences]
    seen = []
    own = effect.hidden_states
    monkeypatch.setattr(
        effect,
        "hidden_states",
        lambda model, **inputs: seen.append(inputs["input_ids"].numel()) or own(model, **inputs),
    )
    if not packed:
        monkeypatch.setattr(effect.batch, "PACKABLE", frozenset())
    shift = measure_shift(both, sequences)
    positions = sum(map(len, sequences))
    assert shift.positions == positions == sum(one.positions for one in alone)
    assert shift.kl == pytest.approx(sum(one.kl * one.positions for one in alone) / positions, rel=1e-4)
    assert shift.flip_rate == pytest.approx(sum(one.flip_rate * one.positions for one in alone) / positions)
    ends = len(sequences) if packed else 0
    assert sum(seen) == 2 * (positions + ends - (len(sequences) - 1) * len(system) * packed)


def test_pieces_of_the_vocabulary_sized_part_add_up(monkeypatch):
    both = voices(0.1)
    whole = measure_shift(both, PROMPTS)
    monkeypatch.setattr(head, "LOGITS_AT_ONCE", 512 * 2)
    pieces = measure_shift(both, PROMPTS)
    assert (pieces.kl, pieces.flip_rate) == (pytest.approx(whole.kl, rel=1e-5), whole.flip_rate)


@pytest.mark.parametrize("lora", [{}, {"use_rslora": True}, {"use_dora": True}])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_untrained_adapter_moves_nothing_at_all(lora, dtype):
    both = Voices(with_adapter(plain_model(dtype=dtype), **lora))
    weights = count_weights(both)
    assert (weights.nonzero, weights.total, weights.active) == (0, 14, True)
    if not lora.get("use_dora"):  # its norm is computed anew and may round
        assert measure_shift(both, PROMPTS).kl == 0.0


@pytest.mark.parametrize("lora", [{}, {"use_rslora": True}, {"use_dora": True}, {"target_modules": ["embed_tokens"]}])
def test_trained_b_matrices_are_counted(lora):
    both = voices(0.1, **lora)
    with torch.no_grad():
        for name, parameter in both.tuned.named_parameters():
            if "lora_embedding_B" in name:
                parameter.fill_(0.1)
    weights = count_weights(both)
    assert weights.nonzero == weights.total > 0


def test_a_disabled_or_merged_adapter_is_not_active():
    both = voices(0.1)
    both.tuned.base_model.disable_adapter_layers()
    assert not count_weights(both).active
    both.tuned.base_model.enable_adapter_layers()
    assert count_weights(both).active
    both.tuned.merge_adapter()
    assert not count_weights(both).active


def test_full_fine_tuning_counts_the_tensors_that_changed():
    tuned = plain_model()
    both = Voices(tuned=tuned, base=plain_model())
    assert count_weights(both).nonzero == 0
    assert measure_shift(both, PROMPTS).kl == 0.0
    with torch.no_grad():
        tuned.model.norm.weight[0] += 1
    assert count_weights(both).nonzero == 1
    assert measure_shift(both, PROMPTS).kl > 0


def test_numbers_that_are_not_numbers_are_an_error_and_not_a_verdict():
    both = voices(0.1)
    with torch.no_grad():
        next(p for n, p in both.tuned.named_parameters() if "down_proj.lora_B" in n)[0] = float("nan")
    with pytest.raises(MoltingError, match="not numbers") as caught:
        measure_shift(both, PROMPTS)
    assert caught.value.reason == "nan_loss"


def test_tokens_that_are_ruled_out_add_nothing():
    p = torch.tensor([[1.0, 0.0]]).log()
    kl, flips = divergence(p, torch.tensor([[0.5, 0.5]]).log())
    assert float(kl) == pytest.approx(math.log(2))
    assert not flips.any()


ON = Weights(14, 14)
CASES = [
    (Weights(0, 14), Shift(0.0, 0.0, 100), 0, "not_applied"),
    (Weights(14, 14, active=False), Shift(1.0, 0.5, 100), 8, "not_applied"),
    (ON, Shift(0.0, 0.0, 100), 0, "not_applied"),
    (ON, Shift(0.007, 0.0, 100), 0, "too_weak"),  # as measured on a weak adapter
    (ON, Shift(0.007, 0.5, 100), 5, "too_weak"),
    (ON, Shift(LEAST_KL, 0.0, 100), 0, "too_weak"),
    (ON, Shift(3.0, 0.9, 100), 0, "too_weak"),
    (ON, Shift(LEAST_KL, LEAST_FLIP_RATE, 100), 1, "effective"),
    (ON, Shift(1.2, 0.3, 100), 8, "effective"),
]


@pytest.mark.parametrize(("weights", "shift", "differing", "expected"), CASES)
def test_the_verdict_follows_the_numbers(weights, shift, differing, expected):
    verdict, sentence = judge(weights, shift, differing=differing, probes=8)
    assert verdict == expected
    assert sentence.endswith(".")
    if expected != "not_applied":
        assert f"{shift.kl:.3g}" in sentence
        assert f"{differing} of 8" in sentence
