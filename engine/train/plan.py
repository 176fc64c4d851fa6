"""The arithmetic of a run, without I/O: how many steps, which rows in which step, what "auto" becomes."""

from __future__ import annotations

import math
import random
from functools import lru_cache

import msgspec

from engine.contract.errors import MoltingError
from engine.contract.spec import Spec, steps_per_epoch, total_steps

CHECKPOINTS_A_RUN = 10
EVALUATIONS_A_RUN = 5
SAMPLES_A_RUN = 4


@lru_cache(maxsize=4)
def epoch_order(rows: int, epoch: int, seed: int) -> tuple[int, ...]:
    """The order in which `epoch` visits `rows` rows.

    Drawn from (seed, epoch) alone, so a resumed run continues in the same order whatever happened before. Never
    sorted by length: that groups topics, and cost quality where it was measured.
    """
    order = list(range(rows))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return tuple(order)


def rows_of_step(step: int, rows: int, per_step: int, seed: int) -> tuple[int, ...]:
    """Indices of the rows that optimizer step `step` (from 0) learns from; an epoch's last step may be short."""
    per_epoch = -(-rows // per_step)
    epoch, position = divmod(step, per_epoch)
    return epoch_order(rows, epoch, seed)[position * per_step : (position + 1) * per_step]


def learning_rate(parameters: int, kind: str) -> float:
    """A peak rate that fits: 1e-3 for a LoRA of 135M parameters, 2e-4 at 1B, never below 1e-4 (LoRA).

    Full fine-tuning moves every weight, so it takes a tenth of that.
    """
    lora = min(1e-3, max(1e-4, 2e-4 * (1e9 / max(parameters, 1)) ** 0.8))
    rate = lora / 10 if kind == "full" else lora
    return float(f"{rate:.2g}")


def warmup_steps(steps: int, share: float) -> int:
    """Steps over which the rate rises; at least one step is left at the peak."""
    return min(math.ceil(steps * share), max(steps - 1, 0))


def rate_share(step: int, steps: int, warmup: int, schedule: str) -> float:
    """The share of the peak rate that optimizer step `step` (from 0) is made with.

    It rises over `warmup` steps and then falls to nearly 0. No step has rate 0: the first of a warm-up that begins
    at 0 and the last of a fall that ends there would be computed for nothing.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    gone = min(1.0, (step - warmup) / max(1, steps - warmup))
    return {"constant": 1.0, "linear": 1.0 - gone, "cosine": 0.5 * (1.0 + math.cos(math.pi * gone))}[schedule]


def _every(steps: int, times: int) -> int:
    return max(1, round(steps / times))


def resolve(spec: Spec, *, rows: int, parameters: int, precision: str) -> Spec:
    """`spec` with everything that is "auto" decided. `rows` are training rows, 0 where they are streamed.

    Raises MoltingError where a stream has no max_steps, or where there is nothing to train on.
    """
    training = spec.training
    if not rows and not training.max_steps:
        raise MoltingError(
            "The rows are read while training, so their number is not known and epochs cannot be counted.",
            remedy="Set training.max_steps, or data.stream = false.",
            reason="bad_data",
            code=2,
        )
    steps = total_steps(rows, spec)
    rate = training.learning_rate
    chosen = msgspec.structs.replace(
        training,
        max_steps=steps,
        learning_rate=learning_rate(parameters, spec.method.kind) if rate == "auto" else rate,
        save_every=_every(steps, CHECKPOINTS_A_RUN) if training.save_every == "auto" else training.save_every,
    )
    evaluation = spec.evaluation
    watched = msgspec.structs.replace(
        evaluation,
        every=_every(steps, EVALUATIONS_A_RUN) if evaluation.every == "auto" else evaluation.every,
        sample_every=(_every(steps, SAMPLES_A_RUN) if evaluation.sample_every == "auto" else evaluation.sample_every),
    )
    method = spec.method
    if method.alpha == "auto":
        method = msgspec.structs.replace(method, alpha=2.0 * method.rank)
    model = msgspec.structs.replace(spec.model, precision=precision)
    return msgspec.structs.replace(spec, training=chosen, evaluation=watched, method=method, model=model)


def epoch_of(step: int, rows: int, spec: Spec) -> float:
    """How often each row was seen after `step` steps; 0 for a stream of unknown length."""
    return step / steps_per_epoch(rows, spec) if rows else 0.0
