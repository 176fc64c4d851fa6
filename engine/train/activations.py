"""Counts what a training step holds in memory by making one without data.

The model is built without weights, and one forward and backward pass goes through our own batch layout, loss and
precision on tensors that have a shape and no content (torch's FakeTensorMode). Every allocation of that pass is seen,
so what autograd saves, what gradient checkpointing spares and what the logits cost are counted, not guessed.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.contract.spec import Spec
from engine.models.quiet import quiet_libraries

from .attention import tree_attention
from .batch import Layout
from .forecast import Counted
from .loss import summed_loss

_MANY_LAYERS = 8  # from here on two short models are counted, and the rest follows: layers are alike
_SHORT, _SHORTER = 4, 2


def count(folder: Path, spec: Spec, layout: Layout, *, checkpointing: bool) -> Counted:
    """Bytes at the highest point of a step over one batch. The spec must be resolved (no "auto").

    Raises whatever an unusual architecture raises when it looks into a tensor without content.
    """
    quiet_libraries()
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    layers = int(config.num_hidden_layers)
    if layers < _MANY_LAYERS or len(set(getattr(config, "layer_types", None) or [""])) > 1:
        return _step(config, spec, layout, checkpointing)
    few, fewer = (_step(_cut(config, n), spec, layout, checkpointing) for n in (_SHORT, _SHORTER))
    more = (layers - _SHORTER) / (_SHORT - _SHORTER)

    def at_full_depth(name: str) -> int:
        low, high = getattr(fewer, name), getattr(few, name)
        return round(low + more * (high - low))

    return Counted(*(at_full_depth(name) for name in Counted.__struct_fields__))


def _cut(config: Any, layers: int) -> Any:
    cut = copy.deepcopy(config)
    cut.num_hidden_layers = layers
    if getattr(cut, "layer_types", None):
        cut.layer_types = cut.layer_types[:layers]
    return cut


def _step(config: Any, spec: Spec, layout: Layout, checkpointing: bool) -> Counted:
    with _without_noise():
        model = _learner(config, spec, checkpointing)
    with FakeTensorMode():
        _give_shapes(model)
        _compute_as_trained(model, spec.model.precision)
        live = _Live(model, config.get_text_config().vocab_size)
        with tree_attention(model) if layout.segments else contextlib.nullcontext(), live:
            loss = summed_loss(model, layout)
            live.backwards = True
            loss.backward()
    return live.highest


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _learner(config: Any, spec: Spec, checkpointing: bool) -> Any:
    """The model as it will be trained, on the device without memory. 4-bit weights keep nothing else than others."""
    from peft import LoraConfig, get_peft_model
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    full = spec.method.kind == "full"
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(spec.model.precision, torch.float32)
    config.use_cache = False
    config.quantization_config = None
    with torch.device("meta"):
        build = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]._from_config
        model = build(config, dtype=torch.float32 if full else dtype).train()
        if checkpointing:
            # Random states would be kept and set again, which needs content.
            kwargs = {"use_reentrant": False, "preserve_rng_state": False}
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)
            model.enable_input_require_grads()
        if full:
            return model
        model.requires_grad_(False)
        method = spec.method
        lora = LoraConfig(
            r=method.rank,
            lora_alpha=method.rank,
            lora_dropout=method.dropout,
            target_modules=method.target_modules,
            use_dora=False,  # its start needs content; it keeps a little more
            task_type="CAUSAL_LM",
        )
        return get_peft_model(model, lora).train()


def _give_shapes(model: Any) -> None:
    """Tensors of the CPU without content in the place of those without a device, so that CPU kernels are chosen."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
                    learned = isinstance(tensor, torch.nn.Parameter)
                    made[id(tensor)] = (
                        torch.nn.Parameter(empty, requires_grad=tensor.requires_grad) if learned else empty
                    )
                held[name] = made[id(tensor)]


def _compute_as_trained(model: Any, precision: str) -> None:
    """Autocast and logits in fp32, as accelerate wraps a model that trains in 16 bits."""
    if precision not in ("bf16", "fp16"):
        return
    from accelerate.utils import convert_outputs_to_fp32

    # On a CPU only bf16 is meant; the sizes are the same.
    cast = torch.autocast("cpu", dtype=torch.bfloat16 if precision == "bf16" else torch.float16)
    forward = cast(model.forward.__func__)
    model.forward = MethodType(convert_outputs_to_fp32(forward), model)


class _Live(TorchDispatchMode):
    """Adds up the storages that are alive beside the model's own, by kind, and remembers the highest moment."""

    def __init__(self, model: Any, vocab: int) -> None:
        super().__init__()
        self.backwards = False
        self.highest = Counted(0, 0, 0)
        self._vocab = vocab
        self._learned = {tuple(each.shape) for each in model.parameters() if each.requires_grad}
        self._now = {"activations": 0, "logits": 0, "gradients": 0}
        self._peak = 0
        self._known: dict[int, Any] = {}
        for tensor in (*model.parameters(), *model.buffers()):
            storage = tensor.untyped_storage()
            self._known[storage._cdata] = storage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, torch.Tensor):
                self._saw(each)
        return out

    def _saw(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or not size:
            return
        kind = self._kind(tuple(tensor.shape))

        def freed(_: Any) -> None:
            self._now[kind] -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, freed)
        self._now[kind] += size
        total = sum(self._now.values())
        if total > self._peak:
            self._peak, self.highest = total, Counted(**self._now)

    def _kind(self, shape: tuple[int, ...]) -> str:
        if len(shape) > 1 and shape[-1] == self._vocab:
            return "logits"
        return "gradients" if self.backwards and shape in self._learned else "activations"
