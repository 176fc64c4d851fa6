"""4-bit models kept on disk, so that quantising is paid once."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from engine.contract.durable import free_bytes
from engine.contract.errors import MoltingError
from engine.models.build import LoadOptions, build
from engine.models.device import choose_device, choose_precision
from engine.models.files import Progress, appearing, exclusive, read_json_object, silent
from engine.models.fingerprint import fingerprint
from engine.models.inspect import is_sound, require_sound

_SMALL_FILE = 64 << 20


def prequantized(folder: Path, options: LoadOptions, cache: Path, progress: Progress = silent) -> Path:
    """The folder in `cache` with the 4-bit (NF4) version of a model folder, made when it is not there yet.

    Raises MoltingError as `load_base` does, and with disk_full where it cannot be kept.
    """
    require_sound(folder)
    device = choose_device(options.device)
    precision = choose_precision(device, options.precision)
    kept = cache / cache_name(folder, options.double_quant, precision)
    if not is_sound(kept):
        progress("quantising to 4 bits", None, None)
        plain = msgspec.structs.replace(options, quantization="nf4", rope=None)
        model, _ = build(folder, plain, device, precision)
        if warnings := keep(model, folder, kept):
            raise MoltingError(warnings[0], remedy="Free space there.", reason="disk_full")
    return kept


def cache_name(folder: Path, double_quant: bool, precision: str) -> str:
    """The name of a kept model: it changes with the weights, the way of quantising and the library that did it."""
    library = "".join(version("bitsandbytes").split(".")[:2])
    kind = "nf4d" if double_quant else "nf4"
    return f"{folder.name[:60]}-{fingerprint(folder)[:16]}-{kind}-{precision}-b{library}"


def is_quantized(folder: Path) -> bool:
    """Whether the weights of a folder are quantised already."""
    return "quantization_config" in read_json_object(folder / "config.json")


def keep(model: Any, folder: Path, kept: Path) -> list[str]:
    """Save a quantised model as `kept`, with the small files of its original folder; the answer is warnings.

    Failing to keep it is no reason to fail a run: what went wrong comes back as a sentence.
    """
    needed = model.get_memory_footprint() * 11 // 10
    if free_bytes(kept.parent) < needed:
        return [f"The 4-bit model was not kept: {kept.parent} has no {needed / 2**30:.1f} GiB free."]
    try:
        with exclusive(kept.parent / ".locks" / f"{kept.name}.lock"):
            if not is_sound(kept):
                with appearing(kept) as staging:
                    _save(model, folder, staging)
    except (MoltingError, OSError) as error:
        return [f"The 4-bit model was not kept: {error}"]
    return []


def _save(model: Any, folder: Path, staging: Path) -> None:
    model.save_pretrained(staging)
    stored = read_json_object(staging / "config.json")
    # The original configuration plus how it is quantised: context stretching asked for this time is not the model's.
    config = read_json_object(folder / "config.json") | {
        key: stored[key] for key in ("quantization_config", "dtype") if key in stored
    }
    (staging / "config.json").write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2))
    for path in folder.iterdir():
        small = path.is_file() and path.stat().st_size <= _SMALL_FILE
        if small and path.suffix in (".json", ".jinja", ".model", ".txt") and not _about_weights(path):
            shutil.copyfile(path, staging / path.name)


def _about_weights(path: Path) -> bool:
    return path.name == "config.json" or path.name.endswith(".index.json")
