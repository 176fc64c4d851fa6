"""What a run will need of memory, by component, in bytes. Pure: sizes in, sizes out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from engine.contract.spec import Spec
from engine.models.safetensors_header import BITS, Tensor

MIB = 1 << 20
Device = Literal["cpu", "cuda"]

# Bytes a process holds before it loads anything: Python, torch, transformers, trl (resident set, measured; what this
# machine measured itself wins), and what a CUDA context takes of a GPU (0.3 to 0.6 GiB by driver and card).
RUNTIME: Mapping[str, int] = {"cpu": 570 * MIB, "cuda": 460 * MIB}
# What comes on top while a CPU trains: peft, compiled kernels and their scratch, one heap a thread (measured 210 to 390
# MB on models of 30 to 350 million parameters, next to nothing on toys).
WORKING: Mapping[str, int] = {"cpu": 240 * MIB, "cuda": 0}
FRAGMENTATION: Mapping[str, float] = {"cpu": 0.03, "cuda": 0.08}  # share of what is allocated and freed all the time
BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
_SHARED = ("embed", "lm_head", "wte", "wpe", "embd", "output.weight")  # what 4-bit loading leaves as it is
_PER_HIDDEN, _PER_INNER = 24, 9  # bytes a token and a layer that a forward pass in 16 bits keeps, for each hidden unit
# and each unit of the feed-forward layer: only where nothing was counted
ESTIMATE_MAY_BE = 2.0  # times larger, for fp32 and unusual layers
_PER_LOGIT = 14  # bytes a learned token and a word: logits in 16 and 32 bits, their softmax and gradient


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """What of a model decides its memory, in numbers (not bytes) where not said otherwise."""

    layers: int
    hidden: int
    inner: int
    vocab: int
    kv: int  # numbers that one token adds to the cache of keys and values, over all layers
    linear: int  # in matrices that 4-bit loading shrinks
    other: int  # embeddings, head, norms
    largest_linear: int
    largest: int
    stored: int = 0  # bytes of weights that are quantised already; 0: they are not
    converted: bool = False  # stored in another precision than bf16, so nothing is mapped from the file
    adapted: Mapping[str, int] = {}  # name of a linear module -> inputs + outputs, over all layers

    @property
    def numbers(self) -> int:
        return self.linear + self.other


class Counted(msgspec.Struct, frozen=True):
    """What one forward and backward pass holds at its highest beyond weights, in bytes, by kind."""

    activations: int
    logits: int
    gradients: int


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes on one device. `correction` is what earlier runs on this machine taught, 1.0 for nothing."""

    device: Device
    runtime: int
    weights: int
    loading: int  # beyond the weights, while they are loaded
    adapter: int
    optimizer: int
    activations: int
    logits: int
    gradients: int
    dequantised: int
    answers: int  # cache and logits of sampled answers; never at the same time as activations
    fragmentation: int
    checkpointing: bool
    counted: bool  # activations were counted, not estimated
    correction: float = 1.0

    @property
    def load_peak(self) -> int:
        return self.runtime + self.weights + self.loading

    @property
    def train_peak(self) -> int:
        """Before any correction."""
        step = self.activations + self.logits + self.gradients + self.dequantised
        kept = self.runtime + self.weights + self.adapter + self.optimizer
        return kept + max(step, self.answers) + self.fragmentation

    @property
    def raw(self) -> int:
        return max(self.load_peak, self.train_peak)

    @property
    def peak(self) -> int:
        return round(self.raw * self.correction)


def sizes(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Sizes:
    """From config.json and the headers of the weight files."""
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    assert isinstance(text, Mapping)
    linear = {name: each for name, each in tensors.items() if _is_linear(name, each)}
    packed = any(each.dtype == "U8" for each in tensors.values())
    adapted: dict[str, int] = {}
    for name, each in linear.items():
        module = name.removesuffix(".weight").rpartition(".")[2]
        sides = 2 * math.isqrt(2 * each.numbers) if each.dtype == "U8" else sum(each.shape)
        adapted[module] = adapted.get(module, 0) + sides
    layers = _first(text, "num_hidden_layers", "n_layer")
    hidden = _first(text, "hidden_size", "n_embd")
    heads = _first(text, "num_attention_heads", "n_head") or 1
    kv_heads = _first(text, "num_key_value_heads") or heads
    return Sizes(
        layers=layers,
        hidden=hidden,
        inner=_first(text, "intermediate_size", "n_inner") or 4 * hidden,
        vocab=_first(text, "vocab_size"),
        kv=2 * layers * kv_heads * (_first(text, "head_dim") or hidden // heads),
        linear=sum(each.numbers for each in linear.values()),
        other=sum(each.numbers for name, each in tensors.items() if name not in linear),
        largest_linear=max((each.numbers for each in linear.values()), default=0),
        largest=max((each.numbers for each in tensors.values()), default=0),
        stored=sum(each.numbers * BITS[each.dtype] // 8 for each in tensors.values()) if packed else 0,
        converted=any(each.dtype != "BF16" for each in tensors.values()),
        adapted=adapted,
    )


def _is_linear(name: str, tensor: Tensor) -> bool:
    packed = tensor.dtype == "U8" and name.endswith(".weight")
    matrix = len(tensor.shape) == 2 and min(tensor.shape) > 1 and name.endswith(".weight")
    return (matrix or packed) and not any(word in name for word in _SHARED)


def _first(config: Mapping[str, Any], *keys: str) -> int:
    found = (config.get(key) for key in keys)
    return next((value for value in found if isinstance(value, int) and not isinstance(value, bool)), 0)


def weight_bytes(model: Sizes, spec: Spec) -> int:
    """Bytes of the weights once they are loaded for training."""
    each = BYTES.get(spec.model.precision, 2)
    if model.stored:
        return model.stored
    if spec.method.kind == "full":
        return 4 * model.numbers  # learned in fp32 whatever the forward pass computes in
    if spec.method.kind == "qlora":
        # A byte holds two weights; every 64 have a constant, and with double quantisation every 256 of those another.
        constants = (1 + 4 / 256) / 64 if spec.method.double_quant else 4 / 64
        return round(model.linear * (0.5 + constants)) + each * model.other
    return each * model.numbers


def trainable(model: Sizes, spec: Spec) -> int:
    """Numbers that are learned."""
    if spec.method.kind == "full":
        return model.numbers
    wanted = spec.method.target_modules
    width = sum(sides for name, sides in model.adapted.items() if wanted == "all-linear" or name in wanted)
    return spec.method.rank * width


def estimated(model: Sizes, tokens: int, learned: int, *, checkpointing: bool) -> Counted:
    """A rough stand-in for counting, for Llama-like models with an adapter on every layer."""
    layer = tokens * (_PER_HIDDEN * model.hidden + _PER_INNER * model.inner)
    kept = layer * model.layers if not checkpointing else 2 * tokens * model.hidden * model.layers + layer
    return Counted(kept, _PER_LOGIT * learned * model.vocab, 0)


def forecast(
    model: Sizes,
    spec: Spec,
    counted: Counted,
    *,
    device: Device,
    checkpointing: bool,
    longest: int = 0,
    exact: bool = True,
    runtime: int = 0,
    correction: float = 1.0,
    world: int = 1,
) -> Forecast:
    """Everything together, for one of `world` processes. `longest`: tokens of the longest row; `runtime`: bytes as
    this machine measured them."""
    each = BYTES.get(spec.model.precision, 2)
    full, quantised = spec.method.kind == "full", spec.method.kind == "qlora"
    learned = trainable(model, spec)
    dequantised = 2 * each * model.largest_linear if quantised else 0
    gradients = max(counted.gradients, 4 * learned) + (4 * learned if world > 1 else 0)  # and what is exchanged
    weights, loading = weight_bytes(model, spec), _loading(model, spec, device)
    if world > 1 and spec.training.shard is True:
        weights, loading = _part(model, spec, weights, world), loading if device == "cpu" else 0
    step = counted.activations + counted.logits + gradients + dequantised
    return Forecast(
        device=device,
        runtime=(runtime or RUNTIME[device]) + WORKING[device],
        weights=weights,
        loading=loading,
        adapter=0 if full else 4 * learned,
        optimizer=8 * learned,
        activations=counted.activations,
        logits=counted.logits,
        gradients=gradients,
        dequantised=dequantised,
        answers=_answers(model, spec, longest),
        fragmentation=round(FRAGMENTATION[device] * step),
        checkpointing=checkpointing,
        counted=exact,
        correction=correction,
    )


def _part(model: Sizes, spec: Spec, weights: int, world: int) -> int:
    """Bytes of split weights in one process: its part, and what lies there whole while it computes.

    That is the embeddings and the head, the layer at work and the one that is fetched meanwhile.
    """
    outer = BYTES.get(spec.model.precision, 2) * model.other
    layer = (weights - outer) // max(1, model.layers)
    return weights // world + outer + 2 * layer


def _loading(model: Sizes, spec: Spec, device: Device) -> int:
    """Beyond the final weights: the tensor that is being converted or quantised, before it is let go."""
    each = BYTES.get(spec.model.precision, 2)
    if spec.method.kind == "full":
        return each * (model.numbers if device == "cpu" and not model.converted else model.largest)
    if spec.method.kind == "qlora":
        return 2 * each * model.largest if not model.stored else 0
    return each * model.largest if device == "cpu" and (model.converted or each == 4) else 0


def _answers(model: Sizes, spec: Spec, longest: int) -> int:
    """Sampled answers: keys and values of every token, and logits of the last one of each."""
    count = spec.evaluation.sample_count
    each = BYTES.get(spec.model.precision, 2)
    tokens = longest + spec.generation.max_new_tokens
    return count * (each * model.kv * tokens + 8 * model.vocab)
