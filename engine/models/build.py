"""From the files of a folder to a model in memory, in one precision or quantised on the way."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.contract.errors import MoltingError
from engine.models.device import Precision
from engine.models.inspect import weight_files
from engine.models.memory import returning_memory
from engine.models.quiet import quiet_libraries
from engine.models.rope import apply_rope
from engine.models.safetensors_header import read_header

Quantization = Literal["none", "nf4", "int8"]
_STORED_AS = {"bf16": "BF16", "fp16": "F16", "fp32": "F32"}
_FLOATS = frozenset({"BF16", "F16", "F32", "F64"})


class LoadOptions(msgspec.Struct, kw_only=True, frozen=True):
    """How to load. `rope`: None keeps the model's own, or {"rope_type": "linear", "factor": 4.0}."""

    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    quantization: Quantization = "none"
    double_quant: bool = True
    device: str = "auto"
    rope: dict[str, Any] | None = None
    attn: str = "auto"


def build(folder: Path, options: LoadOptions, device: str, precision: Precision) -> tuple[Any, Quantization]:
    """A model in eval mode with every weight in place, and how it is quantised.

    Only the weight files that `inspect_folder` judged are read. Raises MoltingError (bad_model) where tensors are
    missing or do not fit, and whatever the libraries raise.
    """
    quiet_libraries()
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, GenerationConfig

    config = _config(folder)
    if options.rope is not None:
        apply_rope(config, options.rope)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
    quantization, quantizer = _quantizer(config, options, dtype)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise _unknown(folder, config.model_type)
    with returning_memory():
        model, info = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
            None,
            config=config,
            state_dict=_tensors(folder, in_place=device == "cpu" and quantizer is None, precision=precision),
            dtype=dtype,
            device_map={"": device},
            quantization_config=quantizer,
            attn_implementation=None if options.attn == "auto" else options.attn,
            output_loading_info=True,
        )
    _require_complete(folder, info)
    if (folder / "generation_config.json").is_file():
        with contextlib.suppress(OSError, ValueError, TypeError):  # a bad one: the model's own values stand
            model.generation_config = GenerationConfig.from_pretrained(str(folder), local_files_only=True)
    if quantization == "nf4" and device == "cpu":
        _keep_trainable(model)
    return model.eval(), quantization


def first_line(error: BaseException) -> str:
    """The first line of an exception's text that says something, short enough for a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in lines if not line.endswith(":")), type(error).__name__)
    return said[:300].rstrip(".")


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        if "does not recognize this architecture" in str(error):
            raise _unknown(folder, first_line(error).split("`")[1] if "`" in str(error) else "") from error
        raise MoltingError(
            f"config.json in {folder} cannot be used: {first_line(error)}.",
            remedy="Take the config.json of the original model.",
            reason="bad_model",
        ) from error


def _unknown(folder: Path, model_type: str) -> MoltingError:
    import transformers

    return MoltingError(
        f"{folder.name} is of the architecture {model_type!r}, of which transformers {transformers.__version__} "
        "has no chat model.",
        remedy="Take another model, or a newer transformers.",
        reason="bad_model",
    )


def _quantizer(config: Any, options: LoadOptions, dtype: Any) -> tuple[Quantization, Any]:
    """How the weights will be quantised, and the configuration that does it (None: not, or already in the files)."""
    stored = getattr(config, "quantization_config", None)
    if stored is not None:
        stored = stored if isinstance(stored, dict) else stored.to_dict()
        return _stored_quantization(config, stored, options, dtype), None
    if options.quantization == "none":
        return "none", None
    from transformers import BitsAndBytesConfig

    if options.quantization == "int8":
        return "int8", BitsAndBytesConfig(load_in_8bit=True)
    return "nf4", BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=options.double_quant,
        bnb_4bit_compute_dtype=dtype,
    )


def _stored_quantization(config: Any, stored: dict[str, Any], options: LoadOptions, dtype: Any) -> Quantization:
    method = str(stored.get("quant_method"))
    kind: Quantization | None = None
    if method == "bitsandbytes":
        kind = "int8" if stored.get("load_in_8bit") else "nf4" if stored.get("bnb_4bit_quant_type") == "nf4" else None
    if kind is None or options.quantization not in ("none", kind):
        raise MoltingError(
            f"These weights are already quantised ({method}), which cannot be trained on as {options.quantization}.",
            remedy="Take the original weights of this model.",
            reason="bad_model",
        )
    stored["bnb_4bit_compute_dtype"] = str(dtype).removeprefix("torch.")
    config.quantization_config = stored
    return kind


def _tensors(folder: Path, *, in_place: bool, precision: Precision) -> dict[str, Any]:
    """Every tensor of the folder by name, unread until the loader asks for it.

    On a CPU, weights stored as they are needed are mapped from the file: nothing is read before it is used, and
    processes share it. All others are read one by one and freed: mapped pages of tensors that only pass through
    would stay resident (the whole file, while one embedding still points into it).
    """
    from safetensors import safe_open

    files = [folder / name for name in weight_files(folder)]
    stored = {tensor.dtype for file in files for tensor in read_header(file).values()}
    mapped = in_place and stored & _FLOATS <= {_STORED_AS[precision]}
    tensors: dict[str, Any] = {}
    for file in files:
        handle = safe_open(str(file), framework="pt", device="cpu", backend="mmap" if mapped else "pread")
        tensors |= {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
    return tensors


def _require_complete(folder: Path, info: dict[str, Any]) -> None:
    """transformers only warns of missing weights, and fills them with random numbers."""
    missing, mismatched = sorted(info["missing_keys"]), sorted(str(key[0]) for key in info["mismatched_keys"])
    if missing or mismatched:
        what = f"lacks {len(missing)} tensors" if missing else f"has {len(mismatched)} tensors of a wrong shape"
        raise MoltingError(
            f"{folder.name} {what} of its architecture, such as {(missing or mismatched)[0]}.",
            remedy="Download the model again, or take the config.json that belongs to these weights.",
            reason="bad_model",
        )


def _keep_trainable(model: Any) -> None:
    """Stop bitsandbytes from repacking 4-bit weights at the first answer on a CPU with avx512_bf16.

    Repacked weights have rounded constants, and training on them afterwards gets no gradient, without an error.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
