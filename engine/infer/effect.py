"""Measures of what an adapter does to its base model, and the verdict over them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

from engine.contract.errors import MoltingError
from engine.train import batch
from engine.train.attention import tree_attention
from engine.train.loss import model_inputs

from .generate import answering
from .head import chunk_length, hidden_states, logits
from .voices import Voices

# Measured on SmolLM2-135M in bf16 with a rank-16 adapter, over 8 probes behind a system prompt: one optimizer step
# at a rate of 1e-3 gives a KL of 0.02, two 0.08, eight 0.4, thirty-two 1.3; eight steps at 1e-4 give 0.01. Those
# weak ones already flip 3 to 6 % of the top tokens and change greedy answers, since rounding to bf16 makes near-ties:
# so neither proves much without the KL, while weights that flip nothing change no answer whatever their KL.
LEAST_KL = 0.05
LEAST_FLIP_RATE = 0.01
TOKENS = 2048  # that pass through the model at once

Verdict = Literal["effective", "too_weak", "not_applied"]


@dataclass(frozen=True)
class Shift:
    """How far next-token distributions moved: mean KL(base || tuned) in nats, share of changed top tokens."""

    kl: float
    flip_rate: float
    positions: int


class _Row(NamedTuple):
    input_ids: Sequence[int]
    labels: Sequence[int]


@dataclass(frozen=True)
class Weights:
    """Tensors that could carry an effect and those that do: B matrices, or all weights of a full tuning."""

    nonzero: int
    total: int
    active: bool = True


def measure_shift(
    voices: Voices, sequences: Sequence[Sequence[int]], advance: Callable[[int], None] = lambda done: None
) -> Shift:
    """The shift over every position of `sequences` (token ids), some positions at a time.

    Positions count alike whichever sequence they are in; what sequences begin with alike is computed once and counted
    for each. Raises MoltingError (nan_loss) where a model's answer is not a number.
    """
    nats, flips, positions, done = 0.0, 0, 0, 0
    for layout, finished in _layouts(voices.tuned, [ids for ids in sequences if len(ids)]):
        kl, flipped = _shift_of(voices, layout)
        nats, flips, positions = nats + kl, flips + flipped, positions + len(layout.sources)
        done += finished
        advance(done)
    if not positions:
        raise ValueError("no position to measure at")
    if not math.isfinite(nats):
        raise MoltingError(
            "The probabilities of the base or of the trained model are not numbers (NaN or infinite).",
            remedy="Its weights are broken: train again with a lower learning rate.",
            reason="nan_loss",
        )
    return Shift(nats / positions, flips / positions, positions)


def _layouts(model: Any, sequences: Sequence[Sequence[int]]) -> Iterator[tuple[batch.Layout, int]]:
    """Layouts whose `sources` are every position of every sequence, and how many sequences each holds."""
    if batch.unpackable(model.config.get_text_config(), max(map(len, sequences), default=0) + 1):
        for ids in sequences:
            places = [(0, place) for place in range(len(ids))]
            yield batch.Layout([list(ids)], [list(range(len(ids)))], [len(ids)], places), 1
        return
    # A position is a source where something follows it, so a token is put behind each sequence.
    rows = [_Row([*ids, ids[-1]], [0] * (len(ids) + 1)) for ids in sequences]
    for part in batch.micro_batches(rows, TOKENS):
        yield batch.pack(part), len(part)


def _shift_of(voices: Voices, layout: batch.Layout) -> tuple[float, int]:
    """Sum of KL in nats and number of flips over the sources of one layout."""
    places, counts = torch.tensor([place for _, place in layout.sources]).unique(return_counts=True)
    base, tuned = (_states_of(voice, layout)[places] for voice in (voices.as_base, voices.as_tuned))
    nats, flips = 0.0, 0
    step = chunk_length(voices.tuned)
    for start in range(0, len(places), step):
        p = log_probabilities(voices.as_base, base[start : start + step])
        q = log_probabilities(voices.as_tuned, tuned[start : start + step])
        kl, flipped = divergence(p, q)
        times = counts[start : start + step].to(kl.device)
        nats += float((kl * times).sum())
        flips += int((flipped * times).sum())
    return nats, flips


def _states_of(voice: Callable[[], Any], layout: batch.Layout) -> torch.Tensor:
    """The last hidden states [tokens, width] of one voice over the one line of `layout`."""
    with voice() as model, answering(model), tree_attention(model) if layout.segments else contextlib.nullcontext():
        return hidden_states(model, **model_inputs(layout, model.device))[0]


def divergence(p: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(p || q) in nats [n] and whether the top token differs [n], of log-probabilities [n, vocabulary].

    Tokens that p rules out add nothing; equal inputs give exactly 0.
    """
    terms = torch.where(p == -math.inf, 0.0, p.exp() * (p - q))
    return terms.sum(dim=1), p.argmax(dim=1) != q.argmax(dim=1)


def states(voice: Callable[[], Any], ids: Sequence[int]) -> torch.Tensor:
    """The last hidden states [n, width] of one voice (`voices.as_base`, `as_tuned`) over token ids [n]."""
    with voice() as model, answering(model):
        row = torch.tensor([list(ids)], device=model.device)
        return hidden_states(model, row, torch.ones_like(row))[0]


def log_probabilities(voice: Callable[[], Any], hidden: torch.Tensor) -> torch.Tensor:
    """What one voice makes of hidden states [n, width]: log-probabilities [n, vocabulary], fp32."""
    with voice() as model, answering(model):
        return logits(model, hidden).log_softmax(dim=1)


def count_weights(voices: Voices) -> Weights:
    """How many tensors carry an effect, and whether the adapter is enabled, active and not merged."""
    if voices.base is not None:
        return _changed_weights(voices.base, voices.tuned)
    status = voices.tuned.get_model_status()
    # What is merged into the weights cannot be switched off, so "base" would be the tuned model too.
    only_it = status.active_adapters == [voices.adapter]
    active = status.enabled is True and only_it and not status.merged_adapters
    b_matrices = [
        parameter
        for name, parameter in voices.tuned.named_parameters()
        if f".lora_B.{voices.adapter}." in name or name.endswith(f".lora_embedding_B.{voices.adapter}")
    ]
    nonzero = sum(bool(parameter.detach().any()) for parameter in b_matrices)
    return Weights(nonzero, len(b_matrices), active)


def _changed_weights(base: Any, tuned: Any) -> Weights:
    before = dict(base.named_parameters())
    pairs = [(parameter, before.get(name)) for name, parameter in tuned.named_parameters()]
    changed = sum(old is None or not torch.equal(new.detach(), old.detach()) for new, old in pairs)
    return Weights(changed, len(pairs))


def judge(weights: Weights, shift: Shift, *, differing: int, probes: int) -> tuple[Verdict, str]:
    """The verdict and one sentence with its numbers. `differing` of `probes` greedy answers differ.

    Not applied: no tensor carries an effect, the adapter is not active, or the KL is exactly 0. Too weak: the
    KL or the flip rate is below its threshold, or no answer differs. Effective: everything else.
    """
    if not weights.active:
        return (
            "not_applied",
            "Not applied: the adapter is disabled, inactive, or merged into the base's weights.",
        )
    if weights.nonzero == 0:
        return (
            "not_applied",
            f"Not applied: none of the {weights.total} trained tensors differs from the base.",
        )
    numbers = (
        f"KL {shift.kl:.3g} nats, {shift.flip_rate:.1%} of top tokens changed over {shift.positions} positions, "
        f"{differing} of {probes} answers differ"
    )
    if shift.kl == 0.0:
        return "not_applied", f"Not applied: no probability changes at all ({numbers})."
    if shift.kl < LEAST_KL or shift.flip_rate < LEAST_FLIP_RATE or differing == 0:
        return (
            "too_weak",
            f"Applied but too weak: {numbers}. More steps, a higher learning rate or rank may help.",
        )
    return "effective", f"Effective: {numbers}."
