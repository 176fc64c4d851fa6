"""Answers from a model: one left-padded batch, no trace left on the model or the caller's randomness."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
)

from engine.contract.errors import MoltingError
from engine.contract.spec import Generation
from engine.models import rope
from engine.train import batch

from .prefix import joined

OnToken = Callable[[int, int], None]
"""`on_token(row, id)`: told of every new token of a row, its end token too."""

stop_asked: ContextVar[Callable[[], bool]] = ContextVar("stop_asked", default=lambda: False)
"""Asked after every token, beside `should_stop`: how the host cancels whatever it runs, however deep."""


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
    on_first: Callable[[torch.Tensor], None] | None = None,
    begun: Sequence[DynamicCache] = (),
) -> list[Generated]:
    """Answer every prompt (token ids) in one batch; temperature 0 is greedy.

    `adapters` names the adapter of each row, `"__base__"` for none (PEFT's mixed batch, see `voices.mixes`).
    Sampling is seeded by `options.seed` and reproducible for the same batch. The model's mode, its generation
    settings, the global random state and, after an exception, its hooks are as before. `should_stop` is asked
    after every token; `on_first` is given the logits [rows, vocabulary] of the first one, before any setting.
    `begun` holds, for each prompt, keys and values of what it begins with (`prefix.Prefixes`), perhaps of nothing.
    Raises MoltingError for a prompt that fills the model's window.
    """
    if not prompts:
        return []
    room = _room(model, max(map(len, prompts)), options.max_new_tokens)
    shared = 0 if begun else _shared(model, prompts, adapters, options.max_new_tokens)
    done = [cache.get_seq_length() for cache in begun] or [shared] * len(prompts)
    ids, mask = _left_padded(prompts, pad_id, model.device, done)
    watch = _Watch(ids.shape[1], frozenset(stop_ids), on_token, should_stop)
    extra: dict[str, Any] = {}
    if adapters is not None:
        extra["adapter_names"] = adapters
    processors: list[LogitsProcessor] = [_First(on_first)] if on_first else []
    if options.repetition_penalty != 1.0:
        processors.append(_PenaltyOnRealTokens(options.repetition_penalty, mask))
    if processors:
        extra["logits_processor"] = LogitsProcessorList(processors)
    config = _config(options, stop_ids, pad_id, room)
    with (
        answering(model),
        _whole_rows(model),
        _own_randomness(model.device, options.seed),
        _only_these_settings(model, config),
    ):
        if shared:
            extra["past_key_values"] = _prefilled(model, ids[:1, :shared], len(prompts), adapters)
        elif any(done):
            extra["past_key_values"] = joined(model, begun)
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
def _whole_rows(model: Any) -> Iterator[None]:
    """The last hidden states of a prompt reach the vocabulary as a copy: as the view that they are, bf16 on a CPU takes
    60 times as long (torch 2.13: 280 ms against 4 for two rows and 49,152 words), more than the prompt itself."""
    head = model.get_output_embeddings()
    if head is None:
        yield
        return
    handle = head.register_forward_pre_hook(lambda module, inputs: (inputs[0].contiguous(), *inputs[1:]))
    try:
        yield
    finally:
        handle.remove()


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
    prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device, done: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask [rows, width]: of each row the tokens that are in the cache, then the others, both padded
    at their left.

    The mask cannot be guessed later: pad may be the end token.
    """
    before = max(done)
    behind = max(len(prompt) - cached for prompt, cached in zip(prompts, done, strict=True))
    ids, mask = [], []
    for prompt, cached in zip(prompts, done, strict=True):
        first, second = before - cached, behind - (len(prompt) - cached)
        ids.append([*[pad_id] * first, *prompt[:cached], *[pad_id] * second, *prompt[cached:]])
        mask.append([0] * first + [1] * cached + [0] * second + [1] * (len(prompt) - cached))
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _shared(model: Any, prompts: Sequence[Sequence[int]], adapters: list[str] | None, cap: int) -> int:
    """Tokens that all prompts begin with alike, where computing them once a voice gives the same; else 0.

    Padding behind them would count against a sliding window. One row a voice has nothing to share.
    """
    longest = max(len(prompt) for prompt in prompts)
    alone = len(prompts) == len(set(adapters or [""]))
    if alone or batch.unpackable(model.config.get_text_config(), longest + cap):
        return 0
    first, last = min(map(list, prompts)), max(map(list, prompts))  # what these share, all between them share
    shared = min(batch.shared_length(first, last), min(len(prompt) for prompt in prompts) - 1)
    return shared if shared >= batch.WORTH else 0


def _prefilled(model: Any, prefix: torch.Tensor, rows: int, adapters: list[str] | None) -> DynamicCache:
    """Keys and values of `prefix` [1, tokens], computed once a voice, for each of `rows` rows."""
    voices = list(dict.fromkeys(adapters or [""]))
    cache = DynamicCache(config=model.config.get_text_config())
    named = {} if adapters is None else {"adapter_names": voices}
    model(input_ids=prefix.repeat(len(voices), 1), past_key_values=cache, use_cache=True, logits_to_keep=1, **named)
    of_row = [voices.index(adapter) for adapter in adapters or [""] * rows]
    cache.batch_select_indices(torch.tensor(of_row, device=prefix.device))
    return cache


def _room(model: Any, longest: int, cap: int) -> int:
    """New tokens that fit into the model's window beside the longest prompt."""
    window = rope.window(model.config.get_text_config()) or longest + cap
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
        if (self.should_stop is not None and self.should_stop()) or stop_asked.get()():
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


class _First(LogitsProcessor):
    """Shows the first token's logits and changes nothing. Processors given by us run before those of settings."""

    def __init__(self, show: Callable[[torch.Tensor], None]) -> None:
        self.show: Callable[[torch.Tensor], None] | None = show

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.show is not None:
            self.show(scores)
            self.show = None
        return scores


class _PenaltyOnRealTokens(RepetitionPenaltyLogitsProcessor):
    """The repetition penalty, blind to padding, or the end token would be penalised in padded rows alone."""

    def __init__(self, penalty: float, mask: torch.Tensor) -> None:
        super().__init__(penalty=penalty)
        self.padding = mask == 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        width = self.padding.shape[1]
        prompt = torch.where(self.padding, input_ids[:, width - 1 : width], input_ids[:, :width])
        return super().__call__(torch.cat([prompt, input_ids[:, width:]], dim=1), scores)
