"""Adapters: judging one before it touches a model, and attaching it so that nothing is missing in silence."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine.contract.calls import Finding
from engine.contract.errors import MoltingError, Reason
from engine.models.build import first_line
from engine.models.files import read_json_object
from engine.models.fingerprint import fingerprint
from engine.models.inspect import PICKLES, fault, raise_errors, remote_code, weight_files
from engine.models.safetensors_header import Tensor, read_header

if TYPE_CHECKING:
    import numpy as np

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
BASE_RECORD = "base.json"
_MAX_RANK = 1 << 16
_PREFIX = "base_model.model."


class BaseRecord(msgspec.Struct, frozen=True):
    """Which model an adapter was trained on: its name as the user gave it, its revision, its fingerprint."""

    base: str
    revision: str
    fingerprint: str


class AttachReport(msgspec.Struct, frozen=True):
    """What attaching found; both lists are empty, or `attach_adapter` would have raised."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class DoesNotFit(MoltingError):
    """Keys of an adapter are missing or have no place; `report` lists them."""

    def __init__(self, report: AttachReport, message: str, *, remedy: str, reason: Reason) -> None:
        super().__init__(message, remedy=remedy, reason=reason)
        self.report = report


def record_base(adapter: Path, record: BaseRecord) -> None:
    """Write `base.json` into an adapter folder that is being made, so that a wrong base is noticed later."""
    (adapter / BASE_RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))


def inspect_adapter(path: Path, base: Path | None = None) -> list[Finding]:
    """Everything wrong with an adapter folder, alone and (where given) against its base model's folder.

    Checked: safetensors only, valid header, no code, sane rank, no NaN or infinity, and against the base: the
    recorded fingerprint, the modules and their shapes. Reads the whole adapter (it is small), the base's headers.
    """
    if not path.is_dir():
        return [fault("no-folder", f"There is no adapter folder {path}.")]
    try:
        config = read_json_object(path / CONFIG)
    except FileNotFoundError:
        return [fault("no-adapter-config", f"{path.name} has no {CONFIG}; it is not an adapter.")]
    except (OSError, ValueError) as error:
        return [fault("bad-adapter-config", f"The adapter {path.name} is damaged: {error}.")]
    if not (path / WEIGHTS).exists():
        return [_no_weights(path)]
    try:
        tensors = read_header(path / WEIGHTS)
    except (OSError, ValueError) as error:
        return [fault("bad-weights", f"{path / WEIGHTS} {error}.", "Take an earlier checkpoint.")]
    findings = [*_config_findings(path, config, tensors), *_not_finite(path, tensors)]
    return findings + (_against_base(path, config, tensors, base) if base is not None else [])


def attach_adapter(
    model: Any, path: Path, *, name: str = "default", trainable: bool = False
) -> tuple[Any, AttachReport]:
    """The `PeftModel` of `model` with the adapter in `path`, in eval mode unless `trainable`.

    A `PeftModel` gets it as one more adapter called `name`, which is not yet the active one.

    Raises MoltingError (bad_model) for anything `inspect_adapter` calls an error, and for keys that are missing or
    unexpected, about which peft only warns: such an adapter would do nothing while it says that it is active. The
    model is left without adapter layers then.
    """
    raise_errors(inspect_adapter(path))
    from peft import LoraConfig, PeftConfig, PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they would say is judged below, and raised
        try:
            config = PeftConfig.from_pretrained(str(path), local_files_only=True)
            if isinstance(model, PeftModel):
                peft_model = model
                model.load_adapter(str(path), name, is_trainable=trainable, torch_device=str(model.device))
            else:
                peft_model = PeftModel.from_pretrained(model, str(path), name, config=config, is_trainable=trainable)
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            _take_out(model, name)
            raise MoltingError(
                f"The adapter {path.name} does not fit this model: {first_line(error)}.",
                remedy="Give the model that its adapter_config.json names.",
                reason="bad_model",
            ) from error
    report = _compare_keys(peft_model, path, name)
    if report.missing_keys or report.unexpected_keys:
        if peft_model is model:
            _take_out(model, name)
        else:
            peft_model.unload()
        raise DoesNotFit(
            report,
            f"The adapter {path.name} does not fit this model: {len(report.missing_keys)} of its tensors are "
            f"missing and {len(report.unexpected_keys)} have no place"
            f" (such as {(report.unexpected_keys or report.missing_keys)[0]}).",
            remedy="Give the model it was trained on; an adapter like this one would silently do nothing.",
            reason="bad_model",
        )
    if isinstance(config, LoraConfig) and not trainable:
        peft_model.eval()
    return peft_model, report


def _take_out(model: Any, name: str) -> None:
    """Undo half an attachment: of one more adapter, or of the first one."""
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        _strip(model)
    elif name in model.peft_config:
        model.delete_adapter(name)


def _compare_keys(peft_model: Any, path: Path, name: str) -> AttachReport:
    from peft import get_peft_model_state_dict

    # The base's own embeddings are in neither list unless the adapter saved them.
    expected = set(get_peft_model_state_dict(peft_model, adapter_name=name, save_embedding_layers=False))
    stored = set(read_header(path / WEIGHTS))
    embeddings = {key for key in stored - expected if key.endswith((".embed_tokens.weight", ".lm_head.weight"))}
    return AttachReport(sorted(expected - stored), sorted(stored - expected - embeddings))


def _strip(model: Any) -> None:
    """Take half-injected adapter layers out again, so that the base stays usable after a refusal."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            model.set_submodule(name, module.get_base_layer())
        elif isinstance(module, AuxiliaryTrainingWrapper):
            model.set_submodule(name, module.original_module)
    for attribute in ("peft_config", "_hf_peft_config_loaded"):
        vars(model).pop(attribute, None)


def _no_weights(path: Path) -> Finding:
    pickles = sorted(file.name for file in path.iterdir() if file.suffix in PICKLES)
    if pickles:
        return fault(
            "pickle-only",
            f"The adapter {path.name} has its weights only as {pickles[0]}, a format that can run code.",
            "Save it again as safetensors where it was trained; Molting does not open it.",
        )
    return fault("no-weights", f"The adapter {path.name} has no {WEIGHTS}.", "Take another checkpoint.")


def _config_findings(path: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> Iterator[Finding]:
    places = list(remote_code(config))
    mapping = config.get("auto_mapping")
    library = str(mapping.get("parent_library", "")) if isinstance(mapping, dict) else ""
    if library and library.split(".")[0] != "transformers":
        places.append("auto_mapping.parent_library")
    if config.get("megatron_config"):  # peft imports the module that megatron_core names
        places.append("megatron_config")
    if places:
        yield fault("remote-code", f"The adapter {path.name} asks for code to be imported ({', '.join(places)}).")
    if config.get("peft_type") != "LORA":
        kind = str(config.get("peft_type"))[:40]
        yield fault("not-lora", f"The adapter {path.name} is of type {kind}; only LoRA is known here.")
    if not tensors:
        yield fault("empty-adapter", f"The adapter {path.name} holds no tensors.")
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    if any(isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= _MAX_RANK for rank in ranks):
        yield fault("absurd-size", f"The adapter {path.name} has the impossible rank {str(ranks[0])[:40]}.")
        return
    if config.get("layer_replication"):
        yield fault("layer-replication", f"The adapter {path.name} repeats layers; that is not known here.")
    for name, tensor in tensors.items():
        rank = _rank(name, tensor)
        if rank is not None and rank not in ranks:
            yield fault("wrong-shape", f"{path / WEIGHTS} has {name} of rank {rank}, but {CONFIG} says {ranks[0]}.")
            return


def _rank(name: str, tensor: Tensor) -> int | None:
    if len(tensor.shape) != 2:
        return None
    if name.endswith((".lora_A.weight", ".lora_embedding_A")):
        return tensor.shape[0]
    return tensor.shape[1] if name.endswith((".lora_B.weight", ".lora_embedding_B")) else None


def _not_finite(path: Path, tensors: dict[str, Tensor]) -> list[Finding]:
    import numpy as np

    # NaN and infinity are the values whose exponent bits are all ones.
    exponent = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F800000, "F64": 0x7FF0000000000000}
    width = {"BF16": "<u2", "F16": "<u2", "F32": "<u4", "F64": "<u8"}
    with (path / WEIGHTS).open("rb") as file:
        for name, tensor in tensors.items():
            if tensor.dtype not in exponent:
                continue
            file.seek(tensor.start)
            bits: np.ndarray = np.frombuffer(file.read(tensor.end - tensor.start), dtype=width[tensor.dtype])
            bad = int(np.count_nonzero((bits & exponent[tensor.dtype]) == exponent[tensor.dtype]))
            if bad:
                message = f"{path / WEIGHTS} has {bad:,} NaN or infinite numbers in {name}."
                return [fault("not-finite", message, "Training had diverged: take an earlier checkpoint.")]
    return []


def _against_base(path: Path, config: dict[str, Any], tensors: dict[str, Tensor], base: Path) -> list[Finding]:
    try:
        record = msgspec.convert(read_json_object(path / BASE_RECORD), BaseRecord)
    except FileNotFoundError:
        record = None
    except (OSError, ValueError) as error:
        return [fault("bad-base-record", f"The adapter {path.name} is damaged: {error}.")]
    try:
        if record is not None and record.fingerprint and record.fingerprint != fingerprint(base):
            return [
                fault(
                    "other-base",
                    f"The adapter {path.name} was trained on {record.base} (weights {record.fingerprint[:12]}), "
                    f"not on the model in {base}.",
                    f"Give {record.base} at the revision it was trained on.",
                )
            ]
        shapes = {
            name: tensor.shape for file in weight_files(base) for name, tensor in read_header(base / file).items()
        }
    except (OSError, ValueError) as error:
        return [fault("bad-base", f"The base model in {base} cannot be read: {error}.")]
    findings = _wrong_shapes(path, tensors, shapes)
    named = str(config.get("base_model_name_or_path") or "")
    if record is None and named and Path(named).name != base.name:
        findings.append(
            fault(
                "other-base-name",
                f"The adapter {path.name} names {named[:120]} as its base.",
                severity="warning",
            )
        )
    return findings


def _wrong_shapes(path: Path, tensors: dict[str, Tensor], base: dict[str, tuple[int, ...]]) -> list[Finding]:
    known = unknown = 0
    for name, tensor in tensors.items():
        module, _, part = name.removeprefix(_PREFIX).rpartition(".lora_")
        if part not in ("A.weight", "B.weight") or len(tensor.shape) != 2:
            continue
        shape = _base_shape(module, base)
        if shape is None:
            unknown += 1
            continue
        known += 1
        side = tensor.shape[1] if part == "A.weight" else tensor.shape[0]
        # GPT-2 style layers keep [in, out], all others [out, in]; packed 4-bit weights have no such shape.
        if len(shape) == 2 and 1 not in shape and side not in shape:
            message = (
                f"{path / WEIGHTS} has {name} of shape {list(tensor.shape)}, but the base has {list(shape)} there."
            )
            return [fault("wrong-shape", message, "Give the model the adapter was trained on.")]
    if unknown and not known:
        message = f"None of the modules that the adapter {path.name} changes exist in the base model."
        return [fault("other-base", message, "Give the model the adapter was trained on.")]
    return []


def _base_shape(module: str, base: dict[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """Checkpoints may leave out leading parts of a module's path (GPT-2 saves `h.0…` for `transformer.h.0…`)."""
    parts = module.split(".")
    for start in range(min(3, len(parts))):
        shape = base.get(".".join(parts[start:]) + ".weight")
        if shape is not None:
            return shape
    return None
