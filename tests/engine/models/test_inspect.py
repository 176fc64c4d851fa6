"""Model folders that are damaged, hostile or incomplete are told in sentences before anything is loaded."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.errors import MoltingError
from engine.models import inspect as inspection
from engine.models.fingerprint import fingerprint
from engine.models.inspect import inspect_folder, require_sound
from engine.models.safetensors_header import read_header
from tests.support.tiny import tiny_llama


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("sound") / "tiny")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "tiny"))


def told(folder: Path) -> str:
    with pytest.raises(MoltingError) as caught:
        require_sound(folder)
    assert caught.value.reason == "bad_model" and caught.value.remedy
    return caught.value.message


def configure(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def write_safetensors(path: Path, header: object, data: bytes) -> None:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)


def tensor(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_judging_needs_no_torch() -> None:
    code = """
import sys
from engine.models import adapters, demo, fetch, fingerprint, inspect, load
assert not {"torch", "transformers", "peft", "numpy", "huggingface_hub"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_sound_folders_have_no_findings(sound: Path, tmp_path: Path) -> None:
    assert inspect_folder(sound) == []
    sharded = tiny_llama(tmp_path / "sharded", max_shard_size="200KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    assert inspect_folder(sharded) == []


def test_no_weights_at_all_says_what_is_there(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    message = told(folder)
    assert "no weight files at all" in message and "config.json" in message


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "tf_model.h5"])
def test_pickles_only_are_refused(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    message = told(folder)
    assert name in message and "can run code" in message


@pytest.mark.parametrize(
    ("file", "value", "key"),
    [
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "evil.Evil"}}, "auto_map"),
        ("config.json", {"trust_remote_code": True}, "trust_remote_code"),
        ("config.json", {"_attn_implementation_internal": "evil/kernel"}, "_attn_implementation_internal"),
        ("config.json", {"attn_implementation": "evil/kernel"}, "attn_implementation"),
        ("config.json", {"text_config": {"auto_map": {"AutoConfig": "x.Y"}}}, "text_config.auto_map"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["x.Y", None]}}, "auto_map"),
        ("generation_config.json", {"trust_remote_code": True}, "trust_remote_code"),
    ],
)
def test_code_of_its_own_is_refused(folder: Path, file: str, value: dict[str, object], key: str) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **value}))
    message = told(folder)
    assert f"{file}: {key}" in message


@pytest.mark.parametrize(
    "values",
    [
        {"vocab_size": 10**9},
        {"hidden_size": 10**7},
        {"num_hidden_layers": 10**9},
        {"intermediate_size": 10**8},
        {"num_attention_heads": 10**8},
        {"hidden_size": -1},
        {"hidden_size": 2**63},
        {"vocab_size": "many"},
        {"num_hidden_layers": True},
        {"max_position_embeddings": 1e30},
        {"text_config": {"vocab_size": 10**9, "hidden_size": 4096}},
    ],
)
def test_memory_bomb_in_the_configuration(folder: Path, values: dict[str, object]) -> None:
    configure(folder, **values)
    assert "config.json does not fit the weights" in told(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"\xff\xfe{}", b'{"a":' * 100_000, b" " * (2 << 20), b"null"],
    ids=["empty", "array", "open", "utf16", "deep", "huge", "null"],
)
def test_configuration_that_is_no_configuration(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    assert "config.json" in told(folder)


def test_pipes_in_place_of_files_do_not_hang(folder: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        path = folder / name
        kept = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        assert "not a regular file" in told(folder)
        path.unlink()
        path.write_bytes(kept)


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({"a": tensor(offsets=(0, 8)), "b": tensor(offsets=(4, 12))}, b"\0" * 12, "overlapping"),
        ({"a": tensor(offsets=(0, 8)), "b": tensor(offsets=(16, 24))}, b"\0" * 24, "a gap"),
        ({"a": tensor()}, b"\0" * 7, "cut short"),
        ({"a": tensor()}, b"\0" * 9, "belong to nothing"),
        ({"a": tensor(shape=(3,))}, b"\0" * 8, "needs 12"),
        ({"a": tensor(shape=(2**62, 2**62), offsets=(0, 8))}, b"\0" * 8, "needs"),
        ({"a": tensor(shape=(-2,))}, b"\0" * 8, "impossible shape"),
        ({"a": tensor(offsets=(8, 0))}, b"\0" * 8, "impossible bytes"),
        ({"a": tensor(dtype="F128")}, b"\0" * 8, "unknown type"),
        ({"a": {"dtype": "F32"}}, b"", "cannot be read"),
        (b"[1, 2]", b"", "cannot be read"),
        (b"{" * 50_000, b"", "cannot be read"),
        (b"not json", b"", "cannot be read"),
    ],
)
def test_safetensors_header(folder: Path, header: object, data: bytes, words: str) -> None:
    write_safetensors(folder / "model.safetensors", header, data)
    assert words in told(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (struct.pack("<Q", 2**63) + b"{}", "claims a header of 9,223,372,036,854,775,808 bytes"),
        (struct.pack("<Q", 101_000_000) + b"{}", "claims a header"),
        (struct.pack("<Q", 5000) + b"{}", "cut short"),
        (b"", "cut short"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
    ],
)
def test_first_bytes_of_the_weights(folder: Path, content: bytes, words: str) -> None:
    (folder / "model.safetensors").write_bytes(content)
    assert words in told(folder)


def test_truncated_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size - 1000)
    assert "cut short" in told(folder)


def test_index_is_followed_and_not_trusted(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "sharded", max_shard_size="200KB")
    index = folder / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    first = sorted(folder.glob("*.safetensors"))[0]
    kept = first.read_bytes()
    first.unlink()
    assert f"{first.name} is missing (2 of 3" in told(folder)
    first.write_bytes(kept)
    index.write_text(json.dumps({"weight_map": {**weight_map, "extra.weight": first.name}}))
    assert "lacks tensor 'extra.weight'" in told(folder)
    index.write_text(json.dumps({"weight_map": {"x": "../../x.safetensors"}}))
    assert "points outside the folder" in told(folder)
    index.write_text("{}")
    assert "names no weights" in told(folder)


def test_tokenizers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer" in told(folder)
    (folder / "tokenizer.model").write_bytes(b"sentencepiece")
    monkeypatch.setattr(inspection, "_importable", lambda module: False)
    assert "needs sentencepiece and protobuf" in told(folder)


def test_what_is_no_model_folder(tmp_path: Path, folder: Path) -> None:
    assert "There is no model folder" in told(tmp_path / "nothing")
    (folder / "config.json").unlink()
    (folder / "some.gguf").write_bytes(b"GGUF")
    with pytest.raises(MoltingError, match=r"no config\.json") as caught:
        require_sound(folder)
    assert "some.gguf" in caught.value.remedy
    (folder / "adapter_config.json").write_text("{}")
    assert "is an adapter, not a model" in told(folder)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200), length=st.integers(0, 2**64 - 1) | st.none())
def test_any_bytes_get_an_answer_or_a_sentence(
    content: bytes, length: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any", numbered=True) / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(content) if length is None else length) + content)
    try:
        tensors = read_header(path)
    except ValueError as error:
        assert str(error)
    else:
        assert all(tensor.end <= path.stat().st_size for tensor in tensors.values())


@pytest.mark.parametrize("change", ["config", "tokenizer", "weights", "name", "size"])
def test_fingerprint_follows_the_model_not_the_folder(folder: Path, sound: Path, change: str) -> None:
    assert fingerprint(folder) == fingerprint(sound)
    os.utime(folder / "model.safetensors", (1, 1))
    (folder / "README.md").write_text("hello")
    assert fingerprint(folder) == fingerprint(sound)
    weights = folder / "model.safetensors"
    changes: dict[str, Callable[[], object]] = {
        "config": lambda: configure(folder, rms_norm_eps=0.1),
        "tokenizer": lambda: (folder / "tokenizer.json").write_text("{}"),
        "weights": lambda: weights.write_bytes(weights.read_bytes()[:-4] + b"\1\2\3\4"),
        "name": lambda: weights.rename(folder / "other.safetensors"),
        "size": lambda: weights.write_bytes(weights.read_bytes() + b"\0"),
    }
    changes[change]()
    assert fingerprint(folder) != fingerprint(sound)
