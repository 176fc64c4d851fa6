"""Loading a base model and its tokenizer from a folder: no network, no code of the model's own, nothing missing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from engine.contract.errors import MoltingError
from engine.models.build import LoadOptions, Quantization, build, first_line
from engine.models.device import Precision, choose_device, choose_precision
from engine.models.files import Progress, silent
from engine.models.inspect import is_sound, require_sound
from engine.models.memory import measured
from engine.models.quantized import cache_name, is_quantized, keep
from engine.models.quiet import quiet_libraries

__all__ = ["LoadOptions", "LoadedModel", "load_base", "load_tokenizer"]


class LoadedModel(msgspec.Struct, kw_only=True):
    """A model in eval mode and what loading it took.

    `precision` and `quantization` are what came out, not what was asked. Bytes are as in `memory.Spent`;
    `weight_bytes` is the size of the weights themselves, wherever they lie.
    """

    model: Any
    precision: Precision
    quantization: Quantization
    device: str
    seconds: float
    peak_bytes: int
    final_bytes: int
    reserved_bytes: int
    weight_bytes: int
    warnings: list[str]


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder. Raises MoltingError (bad_model)."""
    quiet_libraries()
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizer files are parsed by several libraries, each with errors of its own
        raise MoltingError(
            f"The tokenizer in {folder} cannot be loaded: {first_line(error)}.",
            remedy="Take the tokenizer files of the original model.",
            reason="bad_model",
        ) from error


def load_base(
    folder: Path, options: LoadOptions, progress: Progress = silent, *, cache: Path | None = None
) -> LoadedModel:
    """Load a sound model folder, ready for answers or for an adapter.

    With `cache`, a folder such as `models_dir / ".quantized"`, a 4-bit model is kept there once quantised, and
    loaded from there ever after: seconds become tenths, and the peak falls to the final footprint.

    Raises MoltingError: bad_model for what `inspect_folder` calls an error, for tensors that are missing or do not
    fit, and for an unknown architecture; oom_cuda and oom_host when memory does not suffice.
    """
    warnings = [finding.message for finding in require_sound(folder)]
    device = choose_device(options.device)
    precision = choose_precision(device, options.precision)
    kept = None
    if cache is not None and options.quantization == "nf4" and not is_quantized(folder):
        kept = cache / cache_name(folder, options.double_quant, precision)
    source = kept if kept is not None and is_sound(kept) else folder
    progress("loading the model", None, None)
    began = time.monotonic()
    with _in_sentences(folder, device), measured(device) as spent:
        model, quantization = build(source, options, device, precision)
    model.name_or_path = model.config._name_or_path = str(folder)
    loaded = LoadedModel(
        model=model,
        precision=precision,
        quantization=quantization,
        device=device,
        seconds=time.monotonic() - began,
        peak_bytes=spent.peak,
        final_bytes=spent.final,
        reserved_bytes=spent.reserved,
        weight_bytes=model.get_memory_footprint(),
        warnings=warnings,
    )
    if kept is not None and source is folder:
        progress("keeping the 4-bit model", None, None)
        loaded.warnings += keep(model, folder, kept)
    return loaded


@contextlib.contextmanager
def _in_sentences(folder: Path, device: str) -> Iterator[None]:
    """Tell the failures of a load as MoltingError; each library beneath has exceptions of its own."""
    import torch

    try:
        yield
    except MoltingError:
        raise
    except torch.OutOfMemoryError as error:
        free, total = torch.cuda.mem_get_info(device)
        raise MoltingError(
            f"{folder.name} does not fit on {device}: {free / 2**30:.1f} of {total / 2**30:.1f} GiB were free.",
            remedy="Load it in 4 bits (qlora), take a smaller model, or end what else uses that GPU.",
            reason="oom_cuda",
        ) from error
    except ImportError as error:
        raise MoltingError(
            f"{folder.name} cannot be loaded: {first_line(error)}.",
            remedy="Install Molting's requirements again: pip install molting",
        ) from error
    except Exception as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            raise MoltingError(
                f"{folder.name} does not fit in this machine's memory.",
                remedy="Load it in 4 bits (qlora), or take a smaller model.",
                reason="oom_host",
            ) from error
        raise MoltingError(
            f"The model in {folder} cannot be loaded: {first_line(error)}.",
            remedy="Download it again, or take another model of an architecture that transformers has.",
            reason="bad_model",
        ) from error
