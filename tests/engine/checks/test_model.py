"""`molting model check`: what is odd about a repository, on real folders and on planted faults."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.checks.model import Repository, Template, findings
from engine.checks.repository import model_check
from engine.contract import calls
from engine.contract.errors import MoltingError
from engine.models.safetensors_header import Tensor
from tests.support.hub import StandInHub, serving
from tests.support.tiny import CHATML, tiny_llama

CONFIG = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 512, "eos_token_id": 2}
TEMPLATE = Template(end="<|im_end|>", end_text="<|im_end|>\n")


def repository(**values: Any) -> Repository:
    """A sound one, with changes."""
    sound: dict[str, Any] = {
        "name": "tiny",
        "config": CONFIG,
        "files": frozenset({"config.json", "tokenizer.json", "model.safetensors"}),
        "tensors": {"model.embed_tokens.weight": Tensor("F32", (512, 64), 0, 1)},
        "vocabulary": 512,
        "tokens": {"eos_token": "<|im_end|>", "pad_token": "<pad>"},
        "texts": {2: "<|im_end|>"},
        "template": TEMPLATE,
    }
    return Repository(**sound | values)


def rope(value: Any) -> Repository:
    return repository(config=CONFIG | {"rope_scaling": value})


def test_a_sound_repository_is_passed_in_silence() -> None:
    assert findings(repository()) == []
    assert findings(rope(None)) == []
    assert findings(repository(config=CONFIG | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}})) == []


@pytest.mark.parametrize(
    "model,said",
    [
        (repository(known_architecture=False), ("unknown-architecture", "error")),
        (repository(config={"model_type": "llama", "eos_token_id": 2}), ("missing-fields", "warning")),
        (rope({"type": "linear"}), ("odd-rope", "warning")),
        (rope({"factor": 4.0}), ("odd-rope", "warning")),
        (rope({"rope_type": "magic", "factor": 2.0}), ("odd-rope", "error")),
        (rope({"rope_type": "linear", "type": "yarn", "factor": 2.0}), ("odd-rope", "warning")),
        (rope({"rope_type": "linear", "factor": 0.0}), ("odd-rope", "warning")),
        (rope([1, 2]), ("odd-rope", "warning")),
        (rope({"rope_type": "llama3", "factor": 8.0}), ("rope-stretched", "note")),
        (repository(vocabulary=513), ("vocabulary-too-large", "error")),
        (repository(files=frozenset({"tokenizer.model"})), ("slow-tokenizer", "error")),
        (repository(template=None), ("no-chat-template", "warning")),
        (repository(template=Template(problem="The chat template loops.")), ("bad-template", "error")),
        (repository(template=Template(end="<|im_end|>", takes_system=False)), ("template-no-system", "warning")),
        (
            repository(template=Template(end="<|im_end|>", default_system="You are Bob.")),
            ("template-identity", "warning"),
        ),
        (repository(template=Template(end=None, end_text="\n")), ("template-no-end", "warning")),
        (repository(texts={2: "</s>"}), ("stop-mismatch", "warning")),
        (repository(generation={"eos_token_id": [2, 9000]}), ("stop-unknown", "warning")),
        (repository(tokens={"eos_token": "</s>", "pad_token": "<pad>"}), ("eos-is-not-end", "note")),
        (repository(tokens={"eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}), ("pad-is-eos", "note")),
        (repository(files=frozenset({"tokenizer.json", "pytorch_model.bin"})), ("pickles-ignored", "note")),
    ],
)
def test_every_oddity_is_named(model: Repository, said: tuple[str, str]) -> None:
    assert [(finding.id, finding.severity) for finding in findings(model)] == [said]


# ---- real folders


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def tiny(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "tiny"))


def check(model: Path | str, models: Path, base: str = "") -> calls.ModelCheck:
    return model_check(calls.ModelCheckRequest(model=str(model), models=str(models), base=base), lambda line: None)


def errors(checked: calls.ModelCheck) -> list[str]:
    return [finding.id for finding in checked.findings if finding.severity == "error"]


def test_a_whole_model_has_no_error_and_is_described(tiny: Path, tmp_path: Path) -> None:
    checked = check(tiny, tmp_path)
    assert errors(checked) == [] and checked.kind == "model"
    assert {finding.id for finding in checked.findings} == {"pad-is-eos"}
    assert "llama" in checked.about and "window 512" in checked.about


def test_a_repository_without_weights_says_so(tiny: Path, tmp_path: Path) -> None:
    (tiny / "model.safetensors").unlink()
    assert "no-weights" in errors(check(tiny, tmp_path))


def test_a_template_that_never_ends_is_stopped(tiny: Path, tmp_path: Path) -> None:
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    (tiny / "chat_template.jinja").write_text(loop)
    assert errors(check(tiny, tmp_path)) == ["bad-template"]


def test_a_template_with_an_identity_of_its_own_is_shown(tiny: Path, tmp_path: Path) -> None:
    own = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are SmolLM.<|im_end|>\\n' }}{% endif %}"
    (tiny / "chat_template.jinja").write_text(own + CHATML)
    found = {finding.id: finding for finding in check(tiny, tmp_path).findings}
    assert found["template-identity"].evidence == "You are SmolLM."


@pytest.mark.parametrize("damage", ["list", "alone", "missing"])
def test_a_file_that_is_not_what_its_hash_says_is_named(tiny: Path, tmp_path: Path, damage: str) -> None:
    weights = tiny / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if damage == "alone":
        (tiny / "model.safetensors.sha256").write_text(digest + "\n")
    else:
        (tiny / "SHA256SUMS").write_text(f"{digest}  model.safetensors\n{digest} *../../etc/passwd\n")
    assert errors(check(tiny, tmp_path)) == []
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    if damage == "missing":
        weights.rename(tiny / "other.safetensors")
    assert "wrong-hash" in errors(check(tiny, tmp_path))


def test_hostile_configurations_end_in_findings(tiny: Path, tmp_path: Path) -> None:
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        for content in ("[" * 50_000, '{"eos_token_id": {"a": []}, "rope_scaling": 7, "text_config": 3}', "\xff", "[]"):
            was = (tiny / name).read_bytes()
            (tiny / name).write_text(content, encoding="latin-1")
            assert check(tiny, tmp_path).kind == "model"
            (tiny / name).write_bytes(was)


# ---- adapters


@pytest.fixture
def adapter(sound: Path, tmp_path: Path) -> Path:
    import torch
    from safetensors.torch import save_file

    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    config["base_model_name_or_path"] = str(sound)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    weights = {f"{name}A.weight": torch.ones(4, 64), f"{name}B.weight": torch.ones(64, 4)}
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


def test_an_adapter_is_held_against_the_base_it_names(adapter: Path, sound: Path, tmp_path: Path) -> None:
    checked = check(adapter, tmp_path)
    assert checked.kind == "adapter" and checked.findings == []
    assert str(sound) in checked.about and "rank 4" in checked.about and "q_proj" in checked.about


def test_an_adapter_of_another_base_is_refused(adapter: Path, tmp_path: Path) -> None:
    wide = tiny_llama(tmp_path / "wide", hidden=96)
    assert errors(check(adapter, tmp_path, base=str(wide))) == ["wrong-shape"]


def test_an_adapter_whose_base_is_not_here_is_still_judged(adapter: Path, tmp_path: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": "./gone"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert [finding.id for finding in check(adapter, tmp_path).findings] == ["base-not-here"]
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert errors(check(adapter, tmp_path)) == ["pickle-only"]


# ---- the hub


@pytest.fixture
def hub(sound: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandInHub]:
    from huggingface_hub import constants

    with serving(StandInHub({"org/tiny": sound})) as served:
        for name in ("ENDPOINT", "HF_HUB_CACHE"):
            monkeypatch.setattr(constants, name, served.url if name == "ENDPOINT" else str(tmp_path / "cache"))
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


def test_a_hub_model_is_downloaded_pinned_and_compared(hub: StandInHub, tmp_path: Path) -> None:
    checked = check("org/tiny", tmp_path / "models")
    assert errors(checked) == [] and checked.path.endswith(f"org--tiny@{hub.commit}")
    weights = Path(checked.path) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert errors(check(f"org/tiny@{hub.commit}", tmp_path / "models")) == ["wrong-hash"]


def test_without_the_hub_a_model_that_is_not_here_is_one_sentence(hub: StandInHub, tmp_path: Path) -> None:
    with pytest.raises(MoltingError, match="none/such"):
        check("none/such", tmp_path / "models")
