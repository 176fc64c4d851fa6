"""The two voices of a run: its base model, and the same model with what was learned."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.contract.spec import Generation

from .generate import Generated, generate

TOKENS_AT_ONCE = 8192  # of both voices, prompts and answers: bounds the key-value cache (1 GiB for an 8B Llama)
Mode = Literal["batched", "two-pass"]


@dataclass(frozen=True)
class Voices:
    """`tuned` is a PeftModel with one active adapter, or a fully fine-tuned model with its `base`.

    Two whole models are in memory then, which is why full fine-tuning is for small ones. `name` is the adapter's,
    where the PeftModel has several.
    """

    tuned: Any
    base: Any | None = None
    name: str | None = None

    @contextlib.contextmanager
    def as_base(self) -> Iterator[Any]:
        """The base model while the body runs. PEFT would ignore the names of a mixed batch in here."""
        if self.base is not None:
            yield self.base
            return
        with self.tuned.disable_adapter():
            yield self.tuned

    @contextlib.contextmanager
    def as_tuned(self) -> Iterator[Any]:
        """The model with what was learned."""
        self.activate()
        yield self.tuned

    def activate(self) -> None:
        """Let this voice's adapter, of several, be the one that the model applies."""
        if self.name is not None and self.tuned.active_adapters != [self.name]:
            self.tuned.set_adapter(self.name, inference_mode=True)

    @property
    def adapter(self) -> str:
        """Name of the adapter."""
        return self.name or str(self.tuned.active_adapters[0])

    @property
    def mixes(self) -> bool:
        """Whether PEFT can hold both voices in one batch: plain LoRA, active, not merged into the weights."""
        if self.base is not None:
            return False
        from peft import LoraConfig

        config = self.tuned.peft_config[self.adapter]
        status = self.tuned.get_model_status()
        return (
            isinstance(config, LoraConfig)
            and not config.use_dora
            and status.enabled is True
            and status.merged_adapters == []
        )


def generate_both(
    voices: Voices,
    prompts: Sequence[Sequence[int]],
    *,
    stop_ids: Collection[int],
    pad_id: int,
    options: Generation,
    mode: Mode | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> tuple[list[Generated], list[Generated], Mode]:
    """Answers of the base and of the tuned model to each prompt, and how they were made.

    Greedy answers do not depend on the mode in fp32; in bf16 a tie may fall the other way in another batch
    shape, so both voices always have the same. `mode` is chosen unless given; `advance` hears how many
    prompts are answered.
    """
    mode = mode or ("batched" if voices.mixes else "two-pass")
    base: dict[int, Generated] = {}
    tuned: dict[int, Generated] = {}
    settings: dict[str, Any] = {"stop_ids": stop_ids, "pad_id": pad_id, "options": options}
    for batch in batches([len(prompt) + options.max_new_tokens for prompt in prompts]):
        some = [prompts[index] for index in batch]
        if mode == "batched":
            adapters = ["__base__"] * len(some) + [voices.adapter] * len(some)
            answers = generate(voices.tuned, some + some, adapters=adapters, **settings)
            before, after = answers[: len(some)], answers[len(some) :]
        else:
            with voices.as_base() as model:
                before = generate(model, some, **settings)
            with voices.as_tuned() as model:
                after = generate(model, some, **settings)
        base |= zip(batch, before, strict=True)
        tuned |= zip(batch, after, strict=True)
        advance(len(base))
    order = range(len(prompts))
    return [base[index] for index in order], [tuned[index] for index in order], mode


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices of prompts that are answered together, with both voices within TOKENS_AT_ONCE tokens a batch.

    `lengths` count prompt and answer. Where one batch does not hold all, those of like length come together, the
    longest first, because a batch is as wide as its longest; memory that does not suffice shows at once.
    """
    order = list(range(len(lengths)))
    if len(order) * 2 * max(lengths, default=0) > TOKENS_AT_ONCE:
        order.sort(key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        size = max(1, TOKENS_AT_ONCE // (2 * max(lengths[index] for index in order[start:])))
        yield order[start : start + size]
        start += size


def first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Index of the first token that differs or that only one of the two has; None when they are identical."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return None if len(one) == len(other) else min(len(one), len(other))
