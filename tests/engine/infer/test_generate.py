from __future__ import annotations

import contextlib
import itertools
import logging

import pytest
import torch

from engine.contract.errors import MoltingError
from engine.contract.spec import Generation
from engine.infer.generate import Generated, generate
from tests.support.voices import PROMPTS, STOP, plain_model, with_adapter


@pytest.fixture(scope="module")
def model():
    return plain_model()


def answer(model, prompts=PROMPTS, *, stop_ids=(STOP,), **options):
    extra = {key: options.pop(key) for key in ("adapters", "on_token", "should_stop") if key in options}
    options.setdefault("max_new_tokens", 24)
    return generate(model, prompts, stop_ids=stop_ids, pad_id=STOP, options=Generation(**options), **extra)


def reference(model, prompt, steps):
    """Greedy tokens without any cache, batch, mask or library loop."""
    ids = list(prompt)
    for _ in range(steps):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_a_batch_answers_as_each_prompt_alone(model):
    together = answer(model, stop_ids=())
    assert together == [answer(model, [prompt], stop_ids=())[0] for prompt in PROMPTS]
    assert [item.ids for item in together] == [reference(model, prompt, 24) for prompt in PROMPTS]


SYSTEM = list(range(40, 70))
BEHIND = [[*SYSTEM, *prompt] for prompt in PROMPTS]


@pytest.fixture
def computed(monkeypatch):
    """Sizes of what passes through the layers of every model, as (rows, tokens)."""
    from transformers.models.llama.modeling_llama import LlamaModel

    seen = []
    own = LlamaModel.forward

    def forward(self, input_ids=None, **kwargs):
        seen.append(tuple(input_ids.shape))
        return own(self, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(LlamaModel, "forward", forward)
    return seen


def test_what_prompts_share_is_computed_once_and_changes_no_token(model, computed):
    together = answer(model, BEHIND, stop_ids=())
    assert computed[:2] == [(1, len(SYSTEM)), (4, 7)]
    assert [item.ids for item in together] == [reference(model, prompt, 24) for prompt in BEHIND]
    penalised = answer(model, BEHIND, repetition_penalty=3.0, stop_ids=())
    assert penalised == [answer(model, [prompt], repetition_penalty=3.0, stop_ids=())[0] for prompt in BEHIND]


def test_each_voice_has_its_own_shared_beginning(computed):
    tuned = with_adapter(plain_model(), strength=0.3)
    voices = ["__base__"] * 4 + ["default"] * 4
    together = answer(tuned, BEHIND * 2, adapters=voices, stop_ids=())
    assert computed[0] == (2, len(SYSTEM))
    with tuned.disable_adapter():
        base = [reference(tuned, prompt, 24) for prompt in BEHIND]
    assert [item.ids for item in together] == base + [reference(tuned, prompt, 24) for prompt in BEHIND]
    assert together[:4] != together[4:]


def test_equal_prompts_and_a_prompt_that_begins_another(model):
    prompts = [SYSTEM, SYSTEM, [*SYSTEM, 5, 6]]
    assert [item.ids for item in answer(model, prompts, stop_ids=())] == [
        reference(model, prompt, 24) for prompt in prompts
    ]


def test_a_sliding_window_is_answered_as_before():
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    shape = {"vocab_size": 512, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "initializer_range": 0.1}
    model = MistralForCausalLM(MistralConfig(**shape, **heads, sliding_window=40)).eval()
    answers = answer(model, BEHIND, stop_ids=())
    assert answers == [answer(model, [prompt], stop_ids=())[0] for prompt in BEHIND]


def test_the_repetition_penalty_does_not_see_padding(model):
    # The pad token is the end token: it must not be penalised more in rows that are padded.
    rows = answer(model, repetition_penalty=3.0, stop_ids=())
    assert rows == [answer(model, [prompt], repetition_penalty=3.0, stop_ids=())[0] for prompt in PROMPTS]
    assert rows != answer(model, stop_ids=())


def test_an_end_token_ends_the_answer_and_is_kept(model):
    free = answer(model, [PROMPTS[0]], stop_ids=())[0].ids
    stop = free[7]
    cut = answer(model, PROMPTS, stop_ids=(stop, STOP))
    first = free.index(stop)
    assert cut[0] == Generated(free[: first + 1], "end")
    assert all(stop not in item.ids[:-1] for item in cut)


def test_an_answer_that_reaches_the_cap_says_so(model):
    (item,) = answer(model, [PROMPTS[0]], stop_ids=(), max_new_tokens=5)
    assert item.stop == "cap"
    assert len(item.ids) == 5


def test_sampling_depends_on_its_seed_alone(model):
    torch.manual_seed(1)
    one = answer(model, temperature=1.0, seed=7)
    torch.manual_seed(2)
    assert answer(model, temperature=1.0, seed=7) == one
    assert answer(model, temperature=1.0, seed=8) != one


def test_top_k_of_one_is_greedy_and_zero_means_off(model):
    assert answer(model, temperature=1.5, top_k=1) == answer(model)
    wide = answer(model, [[5]] * 64, temperature=5.0, top_k=0, max_new_tokens=1, stop_ids=())
    assert len({item.ids[0] for item in wide}) > 50  # a silent default of 50 would forbid it


def test_randomness_mode_gradients_and_settings_are_as_before(model):
    model.train()
    model.model.layers[0].eval()  # a part frozen by hand stays so
    modes = [module.training for module in model.modules()]
    settings, state = model.generation_config, torch.get_rng_state()
    try:
        answer(model, temperature=1.0)
        assert torch.equal(torch.get_rng_state(), state)
        assert [module.training for module in model.modules()] == modes
        assert torch.is_grad_enabled()
        assert model.generation_config is settings
        assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    finally:
        model.eval()


def test_dropout_does_not_reach_a_sample_in_the_middle_of_training():
    tuned = with_adapter(plain_model(), strength=0.1, lora_dropout=0.5)
    still = answer(tuned)
    tuned.train()
    assert answer(tuned) == still
    assert tuned.training


def test_settings_that_came_with_the_model_do_not_leak_in(model):
    before = model.generation_config
    plain = answer(model)
    model.generation_config = type(before)(
        do_sample=True, temperature=9.0, suppress_tokens=[plain[0].ids[0]], max_length=3, eos_token_id=5
    )
    try:
        assert answer(model) == plain
    finally:
        model.generation_config = before


def test_tokens_are_streamed_as_they_come(model):
    streamed: dict[int, list[int]] = {}
    stop = answer(model, [PROMPTS[1]], stop_ids=())[0].ids[3]

    def hear(row, token):
        streamed.setdefault(row, []).append(token)

    rows = answer(model, stop_ids=(stop,), on_token=hear)
    assert [streamed[row] for row in range(len(rows))] == [item.ids for item in rows]


def test_a_stop_from_outside_ends_the_batch_and_says_so(model):
    asked = itertools.count(1)
    rows = answer(model, stop_ids=(), should_stop=lambda: next(asked) == 3)
    assert [(item.stop, len(item.ids)) for item in rows] == [("stopped", 3)] * len(PROMPTS)


def test_a_prompt_as_long_as_the_window_is_refused_in_a_sentence(model):
    with pytest.raises(MoltingError, match=r"512 tokens.*window holds 512"):
        answer(model, [[5] * 512])


def test_the_cap_is_lowered_to_the_window(model):
    (item,) = answer(model, [[5] * 506], stop_ids=(), max_new_tokens=80)
    assert (item.stop, len(item.ids)) == ("cap", 6)


def test_nothing_is_warned_about(model, caplog, recwarn, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with caplog.at_level(logging.WARNING, logger="transformers"):
        answer(model)
        answer(model, temperature=0.7, top_p=0.9, top_k=20, repetition_penalty=1.2)
    assert caplog.records == []
    assert list(recwarn) == []


def test_no_prompts_give_no_answers(model):
    assert answer(model, []) == []


@pytest.mark.parametrize("adapters", [None, ["__base__", "default"]])
def test_an_exception_in_the_middle_leaves_the_model_healthy(adapters):
    tuned = with_adapter(plain_model(), strength=0.1)
    prompts = PROMPTS[:2]
    healthy = answer(tuned, prompts, adapters=adapters)

    def fail(row, token):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer(tuned, prompts, adapters=adapters, on_token=fail)
    assert not [module for module in tuned.modules() if module._forward_pre_hooks]
    assert answer(tuned, prompts, adapters=adapters) == healthy
    tuned(torch.tensor([PROMPTS[0]]))  # a leaked hook would complain about the batch size


def test_what_prompts_begin_with_is_computed_once_for_all_questions(computed):
    from engine.infer.generate import answering
    from engine.infer.prefix import Prefixes, pieces

    tuned = with_adapter(plain_model(), strength=0.3)
    kept, voices = Prefixes(), ["__base__", "default"]

    def begin(voice, prompt, ends):
        @contextlib.contextmanager
        def speaking():
            with answering(tuned), tuned.disable_adapter() if voice == "__base__" else contextlib.nullcontext():
                yield

        return kept.begin(tuned, voice, prompt, pieces(prompt, ends), speaking)

    def ask(prompts, *ends):
        computed.clear()
        begun = [begin(*row) for row in zip(voices, prompts, ends, strict=True)]
        options = Generation(max_new_tokens=12)
        return generate(tuned, prompts, stop_ids=(), pad_id=STOP, options=options, adapters=voices, begun=begun)

    def plain(prompts):
        options = Generation(max_new_tokens=12)
        return generate(tuned, prompts, stop_ids=(), pad_id=STOP, options=options, adapters=voices)

    end = [len(SYSTEM)]
    for prompt in BEHIND:
        answered, sizes = ask([prompt] * 2, end, end), list(computed)
        assert answered == plain([prompt] * 2)
        new = [(1, len(SYSTEM))] * 2 if prompt is BEHIND[0] else []
        assert sizes[: len(new) + 1] == [*new, (2, len(prompt) - len(SYSTEM))]
    # Each voice has said something else since: two beginnings of different lengths, and only what is new is computed.
    longer = [[*BEHIND[0], *range(70, 95), 7, 8], [*BEHIND[0], *range(30, 80), 7, 8]]
    ends = [[len(SYSTEM), len(prompt) - 2] for prompt in longer]
    first = ask(longer, *ends)
    behind = [(1, end - len(SYSTEM)) for _, end in ends]
    assert computed[:3] == [*behind, (2, 2)]
    assert ask(longer, *ends) == first and computed[0] == (2, 2)  # what is kept does not grow
    assert first == plain(longer)
    one = ask([longer[0], BEHIND[1]], ends[0], [])  # one of the two begins with nothing known
    assert computed[0] == (2, len(BEHIND[1])) and one == plain([longer[0], BEHIND[1]])
    kept.most = 0  # no room: the next one is not kept, and the answer is the same
    assert ask([[50, *longer[0]]] * 2, [40], [40]) == plain([[50, *longer[0]]] * 2) and not kept._kept
    assert pieces(range(40), [5, 18, 20, 34, 900]) == (18, 34)  # too near to each other, or not in the prompt


def test_the_vocabulary_is_given_whole_rows_not_views(model, monkeypatch):
    """A strided view is multiplied 60 times slower in bf16 on a CPU: longer than all the rest of a first token."""
    seen = []
    own = model.lm_head.forward

    def forward(hidden):
        seen.append(hidden.is_contiguous())
        return own(hidden)

    monkeypatch.setattr(model.lm_head, "forward", forward)
    answer(model, BEHIND)
    assert len(seen) > 2 and all(seen)
    assert not model.lm_head._forward_pre_hooks
