"""What is wrong with a model folder, in sentences, before a byte of it is trusted or loaded. Imports no torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.contract.calls import Finding
from engine.contract.errors import MoltingError
from engine.contract.severity import Severity, worst_first
from engine.models.files import read_json_object
from engine.models.safetensors_header import Tensor, read_header

INDEX = "model.safetensors.index.json"
MAX_INDEX = 64 << 20
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
_LARGEST_SIZE = 1 << 32

# A number of the configuration and the factors of the smallest tensor it asks for: that many numbers must be in
# the files. It holds for every causal language model, whatever its architecture.
_IMPLIED = (
    ("vocab_size", "hidden_size"),
    ("intermediate_size", "hidden_size"),
    ("num_hidden_layers", "hidden_size"),
    ("num_attention_heads", "hidden_size"),
)
_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "num_local_experts", "n_embd", "n_layer", "n_head",
)  # fmt: skip
# Faults that leave configuration and tokenizer usable.
OF_WEIGHTS = frozenset({"no-weights", "pickle-only", "no-index", "gguf-only"}) | {
    "bad-index",
    "bad-weights",
    "missing-weights",
    "missing-tensor",
}
# Packed formats keep up to 8 weights in one stored number.
_PACKED = 8


def fault(id: str, message: str, remedy: str = "", severity: Severity = "error") -> Finding:
    """A finding: `message` and `remedy` are sentences, `id` a stable word for programs."""
    return Finding(id=id, severity=severity, message=message, remedy=remedy)


def inspect_folder(path: Path) -> list[Finding]:
    """Everything wrong with a model folder, errors first. An empty list: it can be loaded.

    Judged are config.json (sane, no code of its own), the weights (safetensors, complete, headers valid, as large
    as the configuration says) and the tokenizer. Reads headers only: milliseconds for any size.
    """
    if not path.is_dir():
        return [fault("no-folder", f"There is no model folder {path}.", "Give a folder, GGUF file or hub id.")]
    if (path / "adapter_config.json").is_file() and not (path / "config.json").exists():
        return [
            fault(
                "adapter",
                f"{path.name} is an adapter, not a model.",
                "Give the model it was trained on as the base.",
            )
        ]
    config, findings = _config(path)
    tensors, weight_findings = _weights(path)
    findings += weight_findings
    if config is not None and tensors is not None:
        findings += _sizes(config, sum(tensor.numbers for tensor in tensors.values()))
    findings += _tokenizer(path)
    return worst_first(findings)


def require_sound(path: Path) -> list[Finding]:
    """Raise MoltingError (bad_model) with the first error of `inspect_folder`; return the lesser findings."""
    return raise_errors(inspect_folder(path))


def is_sound(path: Path) -> bool:
    """Whether a model folder is there and `inspect_folder` finds no error in it."""
    return path.is_dir() and not any(finding.severity == "error" for finding in inspect_folder(path))


def raise_errors(findings: list[Finding]) -> list[Finding]:
    """Raise the first error among `findings` as MoltingError, saying how many more there are; return the rest."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f" ({len(errors) - 1} more such findings.)" if len(errors) > 1 else ""
        raise MoltingError(errors[0].message + more, remedy=errors[0].remedy, reason="bad_model")
    return findings


def weight_files(path: Path) -> dict[str, list[str] | None]:
    """Weight files of a folder and the tensors each must hold (None: not stated).

    Raises ValueError for an index that cannot be followed.
    """
    if not (path / INDEX).exists():
        single = path / "model.safetensors"
        return {single.name: None} if single.exists() else {}
    weight_map = read_json_object(path / INDEX, MAX_INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{INDEX} names no weights")
    files: dict[str, list[str] | None] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(f"{INDEX} points outside the folder ({name!r})")
        held = files.setdefault(name, [])
        assert held is not None
        held.append(tensor)
    return files


def remote_code(value: Any, where: str = "") -> Iterator[str]:
    """Paths of the keys that ask for code from elsewhere: auto_map, trust_remote_code, …_internal, hub kernels."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from remote_code(item, f"{where}[{index}]")
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        place = f"{where}.{key}" if where else key
        kernel = "implementation" in key and isinstance(item, str) and "/" in item
        asked = key in ("auto_map", "trust_remote_code", "custom_pipelines") and bool(item)
        if asked or key.endswith("_internal") or kernel:
            yield place
        else:
            yield from remote_code(item, place)


def _config(path: Path) -> tuple[dict[str, Any] | None, list[Finding]]:
    if not (path / "config.json").exists():
        remedy = "Give the folder that holds config.json, the weights and the tokenizer."
        if ggufs := sorted(path.glob("*.gguf")):
            remedy = f"Give the GGUF file itself: {ggufs[0]}."
        return None, [fault("no-config", f"{path.name} has no config.json.", remedy)]
    try:
        config = read_json_object(path / "config.json")
    except (OSError, ValueError) as error:
        return None, [fault("bad-config", f"{path.name}: {error}.", "Download the model again.")]
    findings = _code(path, config)
    if not isinstance(config.get("model_type"), str):
        findings.append(
            fault(
                "no-model-type",
                f"config.json of {path.name} does not say which architecture it is (model_type).",
                "Take the config.json of the original model.",
            )
        )
    return config, findings


def _code(path: Path, config: dict[str, Any]) -> list[Finding]:
    places = [f"config.json: {place}" for place in remote_code(config)]
    for name in ("tokenizer_config.json", "generation_config.json"):
        try:
            places += [f"{name}: {place}" for place in remote_code(read_json_object(path / name, MAX_INDEX))]
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            return [fault("bad-config", f"{path.name}: {error}.", "Download the model again.")]
    if not places:
        return []
    architecture = str(config.get("model_type"))
    remedy = "Choose a model of an architecture that transformers has built in."
    if built_in(architecture):
        remedy = f"transformers has {architecture} built in: remove that key, or give the hub id and Molting drops it."
    return [
        fault(
            "remote-code",
            f"{path.name} asks for code of its own to be run ({', '.join(places[:3])}); Molting never does that.",
            remedy,
        )
    ]


def built_in(model_type: str) -> bool:
    """Whether the installed transformers has a package for this architecture (no import of it)."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or not spec.origin or not model_type.replace("-", "_").replace(".", "_").isidentifier():
        return False
    return (Path(spec.origin).parent / "models" / model_type.replace("-", "_").replace(".", "_")).is_dir()


def _sizes(config: dict[str, Any], stored: int) -> list[Finding]:
    """Refuse a configuration that would make the loader build far more than the files hold (a memory bomb)."""
    for part in (config, config.get("text_config")):
        if not isinstance(part, dict):
            continue
        for key in _SIZES:
            value = part.get(key)
            odd = isinstance(value, bool) or (value is not None and not isinstance(value, int | list))
            if odd or (isinstance(value, int) and not 0 <= value <= _LARGEST_SIZE):
                return [_absurd(f"{key} is {str(value)[:40]!r}")]
        for keys in _IMPLIED:
            values = [part.get(key) for key in keys]
            if not all(isinstance(value, int) for value in values):
                continue
            needed = values[0] * values[1]  # type: ignore[operator]
            if needed > _PACKED * stored:
                return [_absurd(f"{' x '.join(keys)} is {needed:,} numbers, while the files hold {stored:,}")]
    return []


def _absurd(what: str) -> Finding:
    return fault("absurd-size", f"config.json does not fit the weights: {what}.", "Take the original config.json.")


def _weights(path: Path) -> tuple[dict[str, Tensor] | None, list[Finding]]:
    try:
        files = weight_files(path)
    except (OSError, ValueError) as error:
        return None, [fault("bad-index", f"{path.name}: {error}.", "Download the model again.")]
    if not files:
        return None, [_no_weights(path)]
    tensors: dict[str, Tensor] = {}
    for name, expected in files.items():
        try:
            header = read_header(path / name)
        except FileNotFoundError:
            here = sum((path / other).exists() for other in files)
            message = f"{path.name} is incomplete: {name} is missing ({here} of {len(files)} weight files are there)."
            return None, [fault("missing-weights", message, "Download the model again, to the end.")]
        except (OSError, ValueError) as error:
            return None, [fault("bad-weights", f"{path / name} {error}.", "Download that file again.")]
        absent = next((tensor for tensor in expected or () if tensor not in header), None)
        if absent is not None:
            message = f"{path / name} lacks tensor {absent!r}, which {INDEX} places there."
            return None, [fault("missing-tensor", message, "Download the model again.")]
        tensors |= header
    return tensors, []


def _no_weights(path: Path) -> Finding:
    pickles = sorted(file.name for file in path.iterdir() if file.suffix in PICKLES)
    if pickles:
        return fault(
            "pickle-only",
            f"{path.name} has its weights only as {pickles[0]}, a format that can run code; Molting does not open it.",
            "Take a revision with safetensors, or convert it once on a machine you do not mind losing.",
        )
    if other := sorted(path.glob("*.safetensors")):
        message = f"{path.name} has {other[0].name} but no {INDEX} that says what belongs together."
        return fault("no-index", message, "Download the model again, with its index.")
    if ggufs := sorted(path.glob("*.gguf")):
        message = f"{path.name} has its weights only as GGUF."
        return fault("gguf-only", message, f"Give the GGUF file itself: {ggufs[0]}.")
    return fault(
        "no-weights",
        f"{path.name} has no weight files at all, only {_some(path)}.",
        "Choose a repository that has .safetensors files, or finish its download.",
    )


def _some(path: Path) -> str:
    names = sorted(file.name for file in path.iterdir() if file.is_file())
    return ", ".join(names[:4]) + (" …" if len(names) > 4 else "") if names else "an empty folder"


def _tokenizer(path: Path) -> list[Finding]:
    if (path / "tokenizer.json").is_file():
        return []
    if (path / "tokenizer.model").is_file() or (path / "spiece.model").is_file():
        packages = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"}
        missing = [name for name, module in packages.items() if not _importable(module)]
        if not missing:
            return []
        return [
            fault(
                "tokenizer-packages",
                f"The tokenizer of {path.name} is a sentencepiece model, which needs {' and '.join(missing)}.",
                f"Install with: pip install {' '.join(missing)}",
            )
        ]
    if (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
        return []
    return [
        fault(
            "no-tokenizer",
            f"{path.name} has no tokenizer (tokenizer.json or tokenizer.model).",
            "Copy it from the original model.",
        )
    ]


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
