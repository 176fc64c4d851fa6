"""Reading a model folder's tokenizer without transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.contract.errors import MoltingError
from engine.data.conversation import Conversation, Turn
from engine.data.encode import Encoder
from engine.data.template import ChatTemplate
from engine.data.tokenizer import load_tokenizer
from tests.support.chat_families import FAMILIES, tokenizer_of

CHAT = [Turn("user", "Quem é você?"), Turn("assistant", "Sou o Cláudio.")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer_of("llama3").save_pretrained(tmp_path)
    return tmp_path


def edit(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | values))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_saved_folder_encodes_as_transformers_does(name: str, tmp_path: Path) -> None:
    theirs: Any = tokenizer_of(name)
    theirs.save_pretrained(tmp_path)

    files = load_tokenizer(tmp_path)
    assert files.chat_template is not None
    row = Encoder.from_files(files, ChatTemplate(files.chat_template, files.tokens)).encode(Conversation(CHAT))

    messages = [{"role": turn.role, "content": turn.content} for turn in CHAT]
    assert row.input_ids == theirs.apply_chat_template(messages, tokenize=True, return_dict=False)
    assert files.eos_ids == [theirs.eos_token_id]
    plain = Encoder.from_files(files, None).encode(Conversation(CHAT[1:], "text"))
    assert plain.input_ids == [*theirs("Sou o Cláudio.")["input_ids"], theirs.eos_token_id]


def test_neither_torch_nor_transformers_is_loaded(folder: Path) -> None:
    code = f"""
import sys
from engine.data.tokenizer import load_tokenizer
from engine.data.template import ChatTemplate
from engine.data.encode import Encoder
import engine.data.prepare, engine.data.stream
files = load_tokenizer({str(folder)!r})
Encoder.from_files(files, ChatTemplate(files.chat_template, files.tokens))
heavy = {{"torch", "transformers", "numpy", "datasets", "pyarrow", "textual", "rich"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_every_end_of_generation_is_known(folder: Path) -> None:
    edit(folder / "generation_config.json", eos_token_id=[4, 1, 999_999, "x"])
    edit(folder / "config.json", eos_token_id=0)

    assert load_tokenizer(folder).eos_ids == [4, 1, 0]


def test_the_padding_and_truncation_of_the_file_are_not_followed(folder: Path) -> None:
    edit(
        folder / "tokenizer.json",
        truncation={"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        padding={
            "strategy": {"Fixed": 50},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "x",
        },
    )

    assert load_tokenizer(folder).tokenizer.decode(load_tokenizer(folder).tokenizer.encode("Quem é você?").ids) == (
        "Quem é você?"
    )


def test_tokens_that_only_the_configuration_names_are_added(folder: Path) -> None:
    size = load_tokenizer(folder).tokenizer.get_vocab_size()
    edit(folder / "tokenizer_config.json", added_tokens_decoder={str(size): {"content": "<|new|>", "special": True}})

    assert load_tokenizer(folder).tokenizer.encode("hi<|new|>", add_special_tokens=False).ids[-1] == size


@pytest.mark.parametrize(
    "given", ["{{ one }}", [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "{{ one }}"}]]
)
def test_a_template_may_stand_in_the_configuration(folder: Path, given: Any) -> None:
    (folder / "chat_template.jinja").unlink()
    edit(folder / "tokenizer_config.json", chat_template=given)

    assert load_tokenizer(folder).chat_template == "{{ one }}"


def test_a_sentencepiece_model_alone_says_how_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x0e")

    with pytest.raises(MoltingError, match=r"SentencePiece.*Convert it once"):
        load_tokenizer(tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MoltingError, match=r"has no tokenizer.json"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"a":' * 5000])
def test_a_damaged_file_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)

    with pytest.raises(MoltingError, match=name) as caught:
        load_tokenizer(folder)
    assert caught.value.reason == "bad_model"


def test_hostile_values_in_the_configuration_do_no_harm(folder: Path) -> None:
    edit(
        folder / "tokenizer_config.json",
        added_tokens_decoder={"x": {"content": 5}, "7": "no", "8": {}},
        eos_token=["<s>"],
        chat_template=7,
        add_bos_token="yes",
    )
    (folder / "chat_template.jinja").unlink(missing_ok=True)

    files = load_tokenizer(folder)

    assert files.chat_template is None and files.eos_ids == []
