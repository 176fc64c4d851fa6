"""A GGUF file made into an ordinary model folder: safetensors, tokenizer, chat template, generation settings."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.contract.errors import MoltingError
from engine.models.build import first_line
from engine.models.files import Progress, disk_errors, silent
from engine.models.gguf_header import GgufHeader, read_gguf_header
from engine.models.inspect import require_sound
from engine.models.quiet import quiet_libraries

_F32, _F16 = 0, 1
_REMEDY = "Take another GGUF file, or the original model as safetensors."


def gguf_to_folder(gguf: Path, target: Path, progress: Progress = silent) -> None:
    """Convert a GGUF file into the existing empty folder `target`.

    Quantised weights become bf16, unquantised ones keep their type. Raises MoltingError: bad_model for a damaged
    file, an architecture that transformers cannot read from GGUF or a missing tokenizer; disk_full.
    """
    header = _judged(gguf)
    quiet_libraries()
    with _alone(gguf) as folder:
        progress("reading the tokenizer", None, None)
        tokenizer = _tokenizer(gguf, folder)
        with _counting(progress):
            model = _model(gguf, folder, header)
    progress("writing the model folder", None, None)
    with disk_errors(target):
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    require_sound(target)


def _judged(gguf: Path) -> GgufHeader:
    try:
        header = read_gguf_header(gguf)
    except (OSError, ValueError) as error:
        raise _bad(f"{gguf} {error}.") from error
    architecture = header.fields.get("general.architecture")
    if not isinstance(architecture, str):
        raise _bad(f"{gguf} does not say which architecture it is.")
    if not header.fields.get("tokenizer.ggml.tokens"):
        raise _bad(f"{gguf} holds no tokenizer.")
    stored = sum(_product(shape) for shape in header.shapes.values())
    layers = header.fields.get(f"{architecture}.block_count", 0)
    width = header.fields.get(f"{architecture}.embedding_length", 0)
    tokens = header.fields["tokenizer.ggml.tokens"]
    if not all(isinstance(size, int) and size >= 0 for size in (layers, width, tokens)):
        raise _bad(f"{gguf} has sizes that are not numbers.")
    if layers > len(header.shapes) or width * max(tokens, layers) > stored:
        raise _bad(f"{gguf} claims {layers:,} layers of width {width:,}, but holds only {stored:,} numbers.")
    return header


@contextlib.contextmanager
def _alone(gguf: Path) -> Iterator[Path]:
    """A folder with nothing but that file: transformers would take the tokenizer.json or config.json beside it."""
    with tempfile.TemporaryDirectory(prefix="molting-") as folder:
        (Path(folder) / gguf.name).symlink_to(gguf.absolute())
        yield Path(folder)


def _product(shape: tuple[int, ...]) -> int:
    numbers = 1
    for side in shape:
        numbers *= side
    return numbers


def _tokenizer(gguf: Path, folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), gguf_file=gguf.name, local_files_only=True)
    except Exception as error:  # parsed by several libraries, each with errors of its own
        raise _bad(f"The tokenizer in {gguf} cannot be read: {first_line(error)}.") from error


def _model(gguf: Path, folder: Path, header: GgufHeader) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    matrices = header.types - {_F32}
    dtype = torch.bfloat16
    if not matrices or matrices == {_F16}:
        dtype = torch.float16 if matrices else torch.float32
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            str(folder),
            gguf_file=gguf.name,
            dtype=dtype,
            quantization_config=GgufConfig(dequantize=True),
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:
        architecture = header.fields["general.architecture"]
        if "not supported" in str(error) or "Unknown gguf model_type" in str(error):
            message = f"{gguf} is of the architecture {architecture[:60]!r}, which transformers cannot read from GGUF."
            raise _bad(message) from error
        raise _bad(f"{gguf} cannot be converted: {first_line(error)}.") from error
    if info["missing_keys"]:
        raise _bad(f"{gguf} lacks {len(info['missing_keys'])} tensors, such as {sorted(info['missing_keys'])[0]}.")
    # Without these two the model would be saved as a GGUF-quantised one, which it no longer is.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config._name_or_path = ""
    return model


@contextlib.contextmanager
def _counting(progress: Progress) -> Iterator[None]:
    """Report the tensors as transformers unpacks them, in place of the bar it would draw on stderr."""
    from transformers import modeling_gguf_pytorch_utils as unpacking

    def bar(items: list[Any], **_: Any) -> Iterator[Any]:
        for done, item in enumerate(items):
            progress("unpacking the weights", done, len(items))
            yield item

    drawn = unpacking.tqdm
    unpacking.tqdm = bar
    try:
        progress("unpacking the weights", None, None)
        yield
    finally:
        unpacking.tqdm = drawn


def _bad(message: str) -> MoltingError:
    return MoltingError(message, remedy=_REMEDY, reason="bad_model")
