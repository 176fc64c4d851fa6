"""Answers from a model: one left-padded batch, no trace left on the model or the caller's randomness."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
)

from engine.contract.errors import MoltingError
from engine.contract.spec import Generation

OnToken = Callable[[int, int], None]
"""`on_token(row, id)`: told of every new token of a row, its end token too."""


@dataclass(frozen=True)
class Generated:
    """One answer: its new ids, the end token among them, and why it ended."""

    ids: list[int]
    stop: Literal["end", "cap", "stopped"]


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    stop_ids: Collection[int],
    pad_id: int,
    options: Generation,
    adapters: list[str] | None = None,
    on_token: OnToken | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Generated]:
    """Answer every prompt (token ids) in one batch; temperature 0 is greedy.

    `adapters` names the adapter of each row, `"__base__"` for none (PEFT's mixed batch, see `voices.mixes`).
    Sampling is seeded by `options.seed` and reproducible for the same batch. The model's mode, its generation
    settings, the global random state and, after an exception, its hooks are as before. `should_stop` is asked
    after every token. Raises MoltingError for a prompt that fills the model's window.
    """
    if not prompts:
        return []
    ids, mask = _left_padded(prompts, pad_id, model.device)
    room = _room(model, ids.shape[1], options.max_new_tokens)
    watch = _Watch(ids.shape[1], frozenset(stop_ids), on_token, should_stop)
    extra: dict[str, Any] = {}
    if adapters is not None:
        extra["adapter_names"] = adapters
    if options.repetition_penalty != 1.0:
        penalty = _PenaltyOnRealTokens(options.repetition_penalty, mask)
        extra["logits_processor"] = LogitsProcessorList([penalty])
    config = _config(options, stop_ids, pad_id, room)
    with answering(model), _own_randomness(model.device, options.seed), _only_these_settings(model, config):
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([watch]),
            **extra,
        )
    return [_generated(row, frozenset(stop_ids), watch.stopped) for row in output[:, ids.shape[1] :].tolist()]


@contextlib.contextmanager
def answering(model: Any) -> Iterator[None]:
    """The model in evaluation mode without gradients; every module's mode is put back.

    An exception in the body must not poison the model: PEFT 0.21 leaves the hooks of a mixed batch behind
    (https://github.com/huggingface/peft/issues/3475), so what was hooked meanwhile is removed.
    """
    training = [module for module in model.modules() if module.training]
    hooks = {module: set(module._forward_pre_hooks) for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    except BaseException:
        for module, before in hooks.items():
            for leaked in set(module._forward_pre_hooks) - before:
                del module._forward_pre_hooks[leaked]
                module._forward_pre_hooks_with_kwargs.pop(leaked, None)
        raise
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def _own_randomness(device: torch.device, seed: int) -> Iterator[None]:
    """Not by `torch.manual_seed`: that would also seed every other GPU, which are not saved here."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


@contextlib.contextmanager
def _only_these_settings(model: Any, config: GenerationConfig) -> Iterator[None]:
    """Keep the model's own generation_config from filling in what `config` leaves open (top_k, say)."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = inner.generation_config
    inner.generation_config = config
    try:
        yield
    finally:
        inner.generation_config = before


def _config(options: Generation, stop_ids: Collection[int], pad_id: int, room: int) -> GenerationConfig:
    sampling: dict[str, Any] = {"do_sample": False}
    if options.temperature > 0:
        sampling = {
            "do_sample": True,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "top_k": options.top_k,
        }
    return GenerationConfig(
        max_new_tokens=room,
        eos_token_id=sorted(stop_ids) or None,
        pad_token_id=pad_id,
        num_beams=1,
        use_cache=True,  # a model in training has it switched off
        **sampling,
    )


def _left_padded(
    prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask [rows, longest]. The mask cannot be guessed later: pad may be the end token."""
    width = max(len(prompt) for prompt in prompts)
    ids = [[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _room(model: Any, longest: int, cap: int) -> int:
    """New tokens that fit into the model's window beside the longest prompt."""
    window = getattr(model.config.get_text_config(), "max_position_embeddings", None) or longest + cap
    if longest >= window:
        raise MoltingError(
            f"A prompt has {longest} tokens, but the model's window holds {window}, the answer included.",
            remedy="Ask something shorter, or shorten the system prompt.",
            code=2,
        )
    return min(cap, window - longest)


def _generated(new_ids: list[int], stop_ids: frozenset[int], stopped: bool) -> Generated:
    for index, token in enumerate(new_ids):
        if token in stop_ids:
            return Generated(new_ids[: index + 1], "end")
    return Generated(new_ids, "stopped" if stopped else "cap")


class _Watch(StoppingCriteria):
    """Sees every new token: streams it, and stops the batch when asked to, so that nobody needs to raise."""

    def __init__(
        self,
        width: int,
        stop_ids: frozenset[int],
        on_token: OnToken | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self.width = width
        self.stop_ids = stop_ids
        self.on_token = on_token
        self.should_stop = should_stop
        self.stopped = False
        self._ended: set[int] = set()

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        if self.on_token is not None:
            self._stream(input_ids[:, -1].tolist())
        if self.should_stop is not None and self.should_stop():
            self.stopped = True
        return torch.full((len(input_ids),), self.stopped, dtype=torch.bool, device=input_ids.device)

    def _stream(self, newest: list[int]) -> None:
        assert self.on_token is not None
        for row, token in enumerate(newest):
            if row in self._ended:
                continue  # it only gets padding now
            if token in self.stop_ids:
                self._ended.add(row)
            self.on_token(row, token)


class _PenaltyOnRealTokens(RepetitionPenaltyLogitsProcessor):
    """The repetition penalty, blind to padding, or the end token would be penalised in padded rows alone."""

    def __init__(self, penalty: float, mask: torch.Tensor) -> None:
        super().__init__(penalty=penalty)
        self.padding = mask == 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        width = self.padding.shape[1]
        prompt = torch.where(self.padding, input_ids[:, width - 1 : width], input_ids[:, :width])
        return super().__call__(torch.cat([prompt, input_ids[:, width:]], dim=1), scores)
