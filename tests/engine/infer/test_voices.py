from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.spec import Generation
from engine.infer import voices as module
from engine.infer.generate import generate
from engine.infer.voices import Voices, first_difference, generate_both
from tests.support.voices import PROMPTS, STOP, plain_model, with_adapter

SETTINGS = {"stop_ids": {STOP}, "pad_id": STOP, "options": Generation(max_new_tokens=20)}


def voices(**lora):
    return Voices(with_adapter(plain_model(), strength=0.1, **lora))


def test_one_batch_gives_the_answers_of_separate_greedy_runs():
    both = voices()
    base, tuned, mode = generate_both(both, PROMPTS, **SETTINGS)
    assert mode == "batched"
    assert base == generate(plain_model(), PROMPTS, **SETTINGS)
    assert tuned == generate(both.tuned, PROMPTS, **SETTINGS)
    assert base != tuned


def test_two_passes_give_the_same():
    both = voices()
    base, tuned, _ = generate_both(both, PROMPTS, **SETTINGS)
    assert generate_both(both, PROMPTS, mode="two-pass", **SETTINGS) == (base, tuned, "two-pass")


def test_more_questions_than_a_batch_holds(monkeypatch):
    both = voices()
    whole = generate_both(both, PROMPTS, **SETTINGS)
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", 6 * (7 + 20))
    seen = []
    assert generate_both(both, PROMPTS, advance=seen.append, **SETTINGS) == whole
    assert seen == [3, 4]


def test_dora_is_answered_in_two_passes():
    both = voices(use_dora=True)
    base, tuned, mode = generate_both(both, PROMPTS, **SETTINGS)
    assert mode == "two-pass"
    assert base == generate(plain_model(), PROMPTS, **SETTINGS)
    assert tuned == generate(both.tuned, PROMPTS, **SETTINGS)
    assert base != tuned


def test_a_merged_adapter_is_answered_in_two_passes():
    both = voices()
    expected = generate_both(both, PROMPTS, **SETTINGS)[1]
    both.tuned.merge_adapter()
    _, tuned, mode = generate_both(both, PROMPTS, **SETTINGS)
    assert mode == "two-pass"
    assert tuned == expected


def test_full_fine_tuning_has_two_models():
    both = Voices(tuned=plain_model(seed=5), base=plain_model())
    base, tuned, mode = generate_both(both, PROMPTS, **SETTINGS)
    assert mode == "two-pass"
    assert base == generate(plain_model(), PROMPTS, **SETTINGS)
    assert tuned == generate(plain_model(seed=5), PROMPTS, **SETTINGS)


def test_the_adapter_is_back_after_the_base_spoke_even_when_that_failed():
    both = voices()
    ids = torch.tensor([PROMPTS[0]])
    with torch.no_grad():
        expected = both.tuned(ids).logits
        with pytest.raises(KeyError), both.as_base() as model:
            assert not torch.equal(model(ids).logits, expected)
            raise KeyError
        assert torch.equal(both.tuned(ids).logits, expected)


@given(st.lists(st.integers(0, 3), max_size=6), st.lists(st.integers(0, 3), max_size=6))
def test_the_first_difference_is_where_the_common_start_ends(one, other):
    at = first_difference(one, other)
    if at is None:
        assert one == other
    else:
        assert one[:at] == other[:at]
        assert one[at : at + 1] != other[at : at + 1]


def test_prompts_of_like_length_are_answered_together_where_one_batch_does_not_hold_all(monkeypatch):
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", 400)
    lengths = [100, 10, 90, 10, 300, 10]
    groups = list(module.batches(lengths))
    assert groups == [[4], [0, 2], [1, 3, 5]]
    assert list(module.batches([10, 20, 5])) == [[0, 1, 2]]
    assert list(module.batches([])) == []
