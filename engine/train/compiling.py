"""torch.compile for a model's layers, where a run is long enough to gain what compiling costs."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import msgspec
import torch

from engine.contract.spec import Spec

from . import duration
from .learn import Rows

# Tokens through the model after which compiled layers have caught up. Measured on two cores: 390 steps of 250 tokens.
# On a GPU, estimated: a minute of compiling against a fifth of the time at some ten thousand tokens a second.
ENOUGH_TOKENS = {"cpu": 100_000, "cuda": 5_000_000}
ENOUGH_STEPS = 400  # where rows are streamed, so that nobody knows their tokens
STEPS_READ = 40  # of a run, to count the tokens of a step


def worthwhile(spec: Spec, rows: Rows, device: str) -> bool:
    """As the spec says; "auto": a long run of unquantised layers, on a machine that has a compiler.

    Decided by the whole run, so that a resumed one goes on as it began. `device` is "cpu" or as "cuda:0".
    """
    wanted = spec.training.compile
    if wanted != "auto":
        return bool(wanted)
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    return spec.method.kind != "qlora" and compiler is not None and _long(spec, rows, device.partition(":")[0])


def _long(spec: Spec, rows: Rows, device: str) -> bool:
    steps = int(spec.training.max_steps)
    if not rows.count:
        return steps >= ENOUGH_STEPS
    # Not by the parts that fit into memory now, which may be others at a resume.
    training = msgspec.structs.replace(spec.training, batch_tokens="auto")
    counted = range(min(steps, STEPS_READ))
    tokens = sum(duration.computed(rows.of_step(step), training) for step in counted) / len(counted)
    return steps * tokens >= ENOUGH_TOKENS[device]


def compile_layers(model: Any, backend: str = "inductor") -> None:
    """Let every decoder layer be compiled when it is first called: one graph for all of them and any length."""
    for layer in _layers(model):
        layer.compile(dynamic=True, backend=backend)


def back_to_eager(model: Any) -> None:
    """Undo `compile_layers`."""
    for layer in _layers(model):
        layer._compiled_call_impl = None


def failed(error: Exception) -> bool:
    """Whether it was compiling that failed; told by name, as importing the compiler takes a second."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """While the body runs, nothing is compiled or run compiled: answers have shapes of their own, one a token."""
    with torch.compiler.set_stance("force_eager"):
        yield


def _layers(model: Any) -> list[Any]:
    return [layer for module in model.modules() for layer in getattr(module, "layers", ()) if module is not model]
