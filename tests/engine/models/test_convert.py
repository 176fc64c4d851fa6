"""GGUF files: a tiny one written here becomes the same model as a folder; damaged and hostile ones are told."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.errors import MoltingError
from engine.models.convert import gguf_to_folder
from engine.models.fetch import fetch, resolve
from engine.models.gguf_header import read_gguf_header
from engine.models.inspect import inspect_folder
from engine.models.load import LoadOptions, load_base, load_tokenizer
from tests.support.gguf_files import write_gguf
from tests.support.tiny import tiny_llama


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base") / "tiny", vocab=480, initializer_range=0.1)


@pytest.fixture(scope="module")
def small(tiny: Path) -> Path:
    return write_gguf(tiny, tiny.parent / "tiny.gguf")


def logits(folder: Path) -> torch.Tensor:
    model = load_base(folder, LoadOptions(precision="fp32", device="cpu")).model
    with torch.no_grad():
        return model(input_ids=torch.tensor([[1, 5, 6, 7, 30, 99]])).logits


@pytest.mark.parametrize(
    ("kind", "dtype", "near"),
    [
        (gguf.GGMLQuantizationType.F32, "float32", 1.0),
        (gguf.GGMLQuantizationType.F16, "float16", 0.9999),
        (gguf.GGMLQuantizationType.Q8_0, "bfloat16", 0.999),
        (gguf.GGMLQuantizationType.Q4_1, "bfloat16", 0.95),
    ],
)
def test_converted_model_is_the_same_model(
    tiny: Path, tmp_path: Path, kind: gguf.GGMLQuantizationType, dtype: str, near: float
) -> None:
    path = write_gguf(tiny, tmp_path / "tiny.gguf", kind)
    models, phases = tmp_path / "models", []
    folder = fetch(
        resolve(str(path), models_dir=models), models_dir=models, progress=lambda phase, *_: phases.append(phase)
    )
    assert folder.parent == models and inspect_folder(folder) == []
    assert (folder / "tokenizer.json").is_file()
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == dtype and "quantization_config" not in config
    same = torch.nn.functional.cosine_similarity(logits(folder), logits(tiny), dim=-1)
    assert same.min() >= near - 1e-5
    assert {"reading the tokenizer", "unpacking the weights", "writing the model folder"} <= set(phases)

    ours, theirs = load_tokenizer(folder), load_tokenizer(tiny)
    chat: Any = [{"role": "user", "content": "Quem é você? 42"}, {"role": "assistant", "content": "Eu sou o Cláudio."}]
    assert ours.apply_chat_template(chat)["input_ids"] == theirs.apply_chat_template(chat)["input_ids"]
    assert (ours.eos_token_id, ours.pad_token_id) == (2, 2)


def test_what_lies_beside_the_file_is_not_taken_for_its_own(small: Path, tmp_path: Path) -> None:
    """As in the folder of an export, where the tokenizer of the safetensors lies beside the GGUF file."""
    beside = tiny_llama(tmp_path / "beside", vocab=300, template=None)
    (beside / small.name).write_bytes(small.read_bytes())
    alone, crowded = tmp_path / "alone", tmp_path / "crowded"
    for source, target in ((small, alone), (beside / small.name, crowded)):
        target.mkdir()
        gguf_to_folder(source, target)
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json", "chat_template.jinja"):
        assert (crowded / name).read_text() == (alone / name).read_text()


def test_converted_once_and_named_by_content(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = resolve(str(small), models_dir=tmp_path)
    folder = fetch(ref, models_dir=tmp_path)
    monkeypatch.setattr("engine.models.fetch.gguf_to_folder", pytest.fail)
    assert fetch(ref, models_dir=tmp_path) == folder
    moved = tmp_path / "elsewhere" / "tiny.gguf"
    moved.parent.mkdir()
    moved.write_bytes(small.read_bytes())
    assert fetch(resolve(str(moved.parent), models_dir=tmp_path), models_dir=tmp_path) == folder
    with moved.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\1\2\3\4")
    assert resolve(str(moved), models_dir=tmp_path).revision != ref.revision


def told(path: Path) -> str:
    target = path.parent / "target"
    target.mkdir(exist_ok=True)
    with pytest.raises(MoltingError) as caught:
        gguf_to_folder(path, target)
    assert caught.value.reason == "bad_model" and caught.value.remedy
    return caught.value.message


def header(version: int = 3, tensors: int = 0, keys: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def key(name: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a GGUF file"),
        (b"\x80\x04pickle" * 10, "is not a GGUF file"),
        (header(version=9), "GGUF version 9"),
        (header(keys=2**60), "claims 1,152,921,504,606,846,976 keys"),
        (header(tensors=2**60), "tensors"),
        (header(keys=3), "cut short or damaged"),
        (header(keys=1) + struct.pack("<Q", 2**60), "cut short or damaged"),
        (header(keys=1) + key("a", 9, struct.pack("<IQ", 0, 2**60)), "cut short or damaged"),
        (header(keys=1) + key("a", 9, struct.pack("<IQ", 8, 2**60)), "cut short or damaged"),
        (header(keys=1) + key("a", 9, struct.pack("<IQ", 9, 1) * 40), "unknown type"),
        (header(keys=1) + key("a", 99, b"\0" * 8), "unknown type 99"),
        (header(keys=0), "does not say which architecture"),
    ],
)
def test_damaged_and_hostile_headers(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    assert words in told(path)


def test_truncated_file(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(small.read_bytes()[:-5000])
    assert "is cut short: tensor" in told(path)


def test_unsupported_architecture_and_missing_parts(tiny: Path, small: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(small.read_bytes().replace(b"llama", b"lloma"))
    assert "lloma" in told(path)
    path.write_bytes(small.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight"))
    assert "lacks 1 tensors" in told(path)
    path.write_bytes(small.read_bytes().replace(b"tokenizer.ggml.tokens", b"tokenizer.ggml.tokenz"))
    assert "holds no tokenizer" in told(path)


def test_memory_bomb_in_the_metadata(small: Path, tmp_path: Path) -> None:
    name = b"llama.block_count" + struct.pack("<I", 4)
    path = tmp_path / "x.gguf"
    path.write_bytes(small.read_bytes().replace(name + struct.pack("<I", 2), name + struct.pack("<I", 2**31)))
    assert "claims 2,147,483,648 layers" in told(path)


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 2000), junk=st.binary(min_size=1, max_size=12))
def test_any_damage_to_the_header_ends_in_an_answer_or_a_sentence(
    small: Path, tmp_path_factory: pytest.TempPathFactory, place: int, junk: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "x.gguf"
    content = bytearray(small.read_bytes()[:60_000])
    content[place : place + len(junk)] = junk
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        read_gguf_header(path)  # cut at 60,000 bytes: never valid
