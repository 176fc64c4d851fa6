"""Measures of what an adapter does to its base model, and the verdict over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from engine.contract.errors import MoltingError

from .generate import answering
from .head import chunk_length, hidden_states, logits
from .voices import Voices

# Measured on SmolLM2-135M in bf16 with a rank-16 adapter, over 8 probes behind a system prompt: one optimizer step
# at a rate of 1e-3 gives a KL of 0.02, two 0.08, eight 0.4, thirty-two 1.3; eight steps at 1e-4 give 0.01. Those
# weak ones already flip 3 to 6 % of the top tokens and change greedy answers, since rounding to bf16 makes near-ties:
# so neither proves much without the KL, while weights that flip nothing change no answer whatever their KL.
LEAST_KL = 0.05
LEAST_FLIP_RATE = 0.01

Verdict = Literal["effective", "too_weak", "not_applied"]


@dataclass(frozen=True)
class Shift:
    """How far next-token distributions moved: mean KL(base || tuned) in nats, share of changed top tokens."""

    kl: float
    flip_rate: float
    positions: int


@dataclass(frozen=True)
class Weights:
    """Tensors that could carry an effect and those that do: B matrices, or all weights of a full tuning."""

    nonzero: int
    total: int
    active: bool = True


def measure_shift(
    voices: Voices, sequences: Sequence[Sequence[int]], advance: Callable[[int], None] = lambda done: None
) -> Shift:
    """The shift over every position of `sequences` (token ids), one sequence and some positions at a time.

    Positions count alike whichever sequence they are in. Raises MoltingError (nan_loss) where a model's
    answer is not a number.
    """
    nats, flips, positions = 0.0, 0, 0
    for done, ids in enumerate(sequences, start=1):
        kl, flipped = _shift_of_one(voices, ids)
        nats, flips, positions = nats + kl, flips + flipped, positions + len(ids)
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


def _shift_of_one(voices: Voices, ids: Sequence[int]) -> tuple[float, int]:
    """Sum of KL in nats and number of flips over the positions of one sequence."""
    base = _hidden(voices.as_base, ids)
    tuned = _hidden(voices.as_tuned, ids)
    nats, flips = 0.0, 0
    step = chunk_length(voices.tuned)
    for start in range(0, len(ids), step):
        p = _log_probabilities(voices.as_base, base[start : start + step])
        q = _log_probabilities(voices.as_tuned, tuned[start : start + step])
        kl, flipped = divergence(p, q)
        nats += float(kl.sum())
        flips += int(flipped.sum())
    return nats, flips


def divergence(p: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(p || q) in nats [n] and whether the top token differs [n], of log-probabilities [n, vocabulary].

    Tokens that p rules out add nothing; equal inputs give exactly 0.
    """
    terms = torch.where(p == -math.inf, 0.0, p.exp() * (p - q))
    return terms.sum(dim=1), p.argmax(dim=1) != q.argmax(dim=1)


def _hidden(voice: Callable[[], Any], ids: Sequence[int]) -> torch.Tensor:
    with voice() as model, answering(model):
        row = torch.tensor([list(ids)], device=model.device)
        return hidden_states(model, row, torch.ones_like(row))[0]


def _log_probabilities(voice: Callable[[], Any], hidden: torch.Tensor) -> torch.Tensor:
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
