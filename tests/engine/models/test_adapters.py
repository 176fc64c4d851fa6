"""Adapters that are damaged, hostile or made for another base are refused, and the base stays usable."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.contract.errors import MoltingError
from engine.models.adapters import WEIGHTS, BaseRecord, attach_adapter, inspect_adapter, record_base
from engine.models.fingerprint import fingerprint
from engine.models.load import LoadOptions, load_base
from tests.support.tiny import tiny_llama

IDS = torch.tensor([[1, 5, 6, 7, 9]])
CPU = LoadOptions(precision="fp32", device="cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base") / "tiny")


def make_adapter(base: Path, folder: Path, **lora: Any) -> Path:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    settings = {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM", "init_lora_weights": False} | lora
    get_peft_model(load_base(base, CPU).model, LoraConfig(**settings)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(base, tmp_path_factory.mktemp("adapter") / "persona")


@pytest.fixture
def adapter(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "persona"))


def edit(adapter: Path, **values: object) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, **values}))


def errors(adapter: Path, base: Path | None = None) -> str:
    return " ".join(finding.message for finding in inspect_adapter(adapter, base) if finding.severity == "error")


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("lora", [{}, {"use_dora": True}, {"use_rslora": True}, {"target_modules": ["q_proj"]}])
def test_sound_adapter_is_attached_and_acts(base: Path, tmp_path: Path, lora: dict[str, Any]) -> None:
    adapter = make_adapter(base, tmp_path / "persona", **lora)
    assert inspect_adapter(adapter, base) == []
    model = load_base(base, CPU).model
    before = logits(model)
    tuned, report = attach_adapter(model, adapter)
    assert report.missing_keys == report.unexpected_keys == []
    assert not tuned.training and not any(parameter.requires_grad for parameter in tuned.parameters())
    assert not torch.allclose(logits(tuned), before)
    with tuned.disable_adapter():
        assert torch.equal(logits(tuned), before)


def test_trainable_adapter_goes_on_learning(base: Path, adapter: Path) -> None:
    tuned, _ = attach_adapter(load_base(base, CPU).model, adapter, trainable=True)
    learning = [name for name, parameter in tuned.named_parameters() if parameter.requires_grad]
    assert len(learning) == 28 and all("lora_" in name for name in learning)


def test_saved_embeddings_and_head_come_back(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "persona", modules_to_save=["lm_head", "embed_tokens"])
    tuned, report = attach_adapter(load_base(base, CPU).model, adapter)
    assert report.missing_keys == report.unexpected_keys == []
    assert logits(tuned).isfinite().all()


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_pickled_adapter_is_refused_and_not_opened(base: Path, adapter: Path, tmp_path: Path) -> None:
    (adapter / WEIGHTS).unlink()
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    with pytest.raises(MoltingError, match="can run code") as caught:
        attach_adapter(load_base(base, CPU).model, adapter)
    assert caught.value.reason == "bad_model" and "adapter_model.bin" in caught.value.message
    assert not (tmp_path / "canary").exists()


def test_adapter_with_wrong_keys_is_refused_and_the_base_stays_clean(base: Path, adapter: Path) -> None:
    """peft only warns: the adapter would say that it is active, and do nothing."""
    tensors = load_file(adapter / WEIGHTS)
    renamed = {name.replace("base_model.model.model", "base_model.model.transformer"): t for name, t in tensors.items()}
    save_file(renamed, adapter / WEIGHTS)
    assert "None of the modules" in errors(adapter, base)
    model = load_base(base, CPU).model
    before = logits(model)
    with pytest.raises(MoltingError, match="28 of its tensors are missing and 28 have no place"):
        attach_adapter(model, adapter)
    assert torch.equal(logits(model), before)
    assert not any("lora" in name for name, _ in model.named_modules())


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_one_missing_or_extra_tensor_is_enough(base: Path, adapter: Path, change: str) -> None:
    tensors = load_file(adapter / WEIGHTS)
    if change == "missing":
        tensors.pop(sorted(tensors)[0])
    else:
        tensors["base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight"] = torch.zeros(4, 64)
    save_file(tensors, adapter / WEIGHTS)
    with pytest.raises(MoltingError, match=r"1 of its tensors|1 have no place"):
        attach_adapter(load_base(base, CPU).model, adapter)


def test_adapter_of_another_size_is_told_and_the_base_stays_usable(adapter: Path, tmp_path: Path) -> None:
    wide = tiny_llama(tmp_path / "wide", hidden=128)
    assert "but the base has [128, 256] there" in errors(adapter, wide)
    model = load_base(wide, CPU).model
    before = logits(model)
    with pytest.raises(MoltingError, match="does not fit this model"):
        attach_adapter(model, adapter)
    assert torch.equal(logits(model), before)
    attach_adapter(model, make_adapter(wide, tmp_path / "right"))


def test_wrong_shape_inside_the_file(base: Path, adapter: Path) -> None:
    tensors = load_file(adapter / WEIGHTS)
    name = next(name for name in sorted(tensors) if name.endswith("lora_A.weight"))
    save_file({**tensors, name: torch.zeros(4, 63)}, adapter / WEIGHTS)
    assert "shape [4, 63]" in errors(adapter, base)
    save_file({**tensors, name: torch.zeros(9, 64)}, adapter / WEIGHTS)
    assert "of rank 9" in errors(adapter)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_are_found(adapter: Path, dtype: torch.dtype, value: float) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(adapter / WEIGHTS).items()}
    save_file(tensors, adapter / WEIGHTS)
    assert errors(adapter) == ""
    name = sorted(tensors)[3]
    tensors[name].view(-1)[-1] = value
    save_file(tensors, adapter / WEIGHTS)
    assert f"1 NaN or infinite numbers in {name}" in errors(adapter)


def test_another_base_is_recognised(base: Path, adapter: Path, tmp_path: Path) -> None:
    record_base(adapter, BaseRecord(base="org/tiny", revision="v1", fingerprint=fingerprint(base)))
    assert inspect_adapter(adapter, base) == []
    twin = tiny_llama(tmp_path / "twin", seed=9)
    assert "was trained on org/tiny" in errors(adapter, twin)
    (adapter / "base.json").unlink()
    (warning,) = inspect_adapter(adapter, twin)
    assert warning.severity == "warning" and "names" in warning.message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"auto_mapping": {"base_model_class": "X", "parent_library": "evil"}}, "auto_mapping.parent_library"),
        ({"megatron_config": {"x": 1}, "megatron_core": "evil"}, "megatron_config"),
        ({"auto_map": {"x": "y"}}, "auto_map"),
        ({"r": 10**9}, "impossible rank"),
        ({"r": "16"}, "impossible rank"),
        ({"r": 5}, "but adapter_config.json says 5"),
        ({"peft_type": "PROMPT_TUNING"}, "only LoRA is known"),
        ({"layer_replication": [[0, 10**6]]}, "repeats layers"),
    ],
)
def test_hostile_adapter_configuration(adapter: Path, values: dict[str, object], words: str) -> None:
    edit(adapter, **values)
    assert words in errors(adapter)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (struct.pack("<Q", 2**60) + b"{}", "claims a header"),
        (b"", "cut short"),
        (struct.pack("<Q", 2) + b"{}", "holds no tensors"),
    ],
)
def test_damaged_adapter_weights(adapter: Path, content: bytes, words: str) -> None:
    (adapter / WEIGHTS).write_bytes(content)
    assert words in errors(adapter)


def test_what_is_no_adapter(base: Path, tmp_path: Path, adapter: Path) -> None:
    assert "no adapter folder" in errors(tmp_path / "nothing")
    assert "is not an adapter" in errors(base)
    (adapter / "adapter_config.json").write_text("[]")
    assert "damaged" in errors(adapter)
    os.truncate(adapter / WEIGHTS, 100)
    (adapter / "adapter_config.json").unlink()
    os.mkfifo(adapter / "adapter_config.json")
    assert "not a regular file" in errors(adapter)
