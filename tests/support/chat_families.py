"""Chat templates of real model families, each on a small tokenizer of the family's own kind, trained here."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

CORPUS = (
    "Who are you? I am Molting, a small persona that lives on one machine and changes its shell at night.",
    "Quem é você? Eu sou o Cláudio, nasci em Salvador e gosto de conversar sobre música e de café coado.",
    "def add(a, b):\n    return a + b  # 1 + 2 = 3, 10 * 42 = 420\n",
    "system user assistant You are a helpful assistant. Answer briefly, kindly and in one sentence.",
)

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TINYLLAMA = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] +"
    " eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n"
    "{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
# The system prompt stands in the last user turn, and only if that is the last turn of all.
MISTRAL_V3 = (
    '{%- if messages[0]["role"] == "system" %}\n    {%- set system_message = messages[0]["content"] %}\n'
    "    {%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n"
    "{{- bos_token }}\n{%- for message in loop_messages %}\n"
    '    {%- if (message["role"] == "user") != (loop.index0 % 2 == 0) %}\n'
    '        {{- raise_exception("After the optional system message, roles must alternate") }}\n    {%- endif %}\n'
    '    {%- if message["role"] == "user" %}\n        {%- if loop.last and system_message is defined %}\n'
    '            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}\n        {%- else %}\n'
    '            {{- "[INST] " + message["content"] + "[/INST]" }}\n        {%- endif %}\n    {%- else %}\n'
    '        {{- " " + message["content"]|trim + eos_token}}\n    {%- endif %}\n{%- endfor %}'
)
MISTRAL_V1 = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
CHATML_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA3_SPECIALS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


class Family(NamedTuple):
    """`end` is the token that ends an answer; `trims` whether the template trims contents; `shipped` our own name."""

    template: str
    specials: tuple[str, ...]
    bos: str
    eos: str
    end: str
    kind: str = "bytes"
    shipped: str = ""
    trims: bool = False
    swallows: bool = False  # special tokens take the white space after them


def _trl(name: str) -> str:
    """A template that the installed trl carries word for word from its model; trl itself is not imported."""
    spec = importlib.util.find_spec("trl")
    assert spec is not None and spec.origin is not None
    return (Path(spec.origin).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


FAMILIES: dict[str, Family] = {
    "smollm2": Family(SMOLLM2, CHATML_SPECIALS, "<|im_start|>", "<|im_end|>", "<|im_end|>", shipped="smollm2"),
    "tinyllama": Family(
        TINYLLAMA, ("<unk>", "<s>", "</s>"), "<s>", "</s>", "</s>", kind="sentencepiece", shipped="zephyr"
    ),
    "phi3": Family(
        _trl("phi3"),
        ("<unk>", "<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"),
        "<s>",
        "<|endoftext|>",
        "<|end|>",
        kind="sentencepiece",
        shipped="phi3",
        swallows=True,
    ),
    "llama3": Family(
        _trl("llama3"), LLAMA3_SPECIALS, "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>", shipped="llama3", trims=True
    ),
    "mistral": Family(
        MISTRAL_V1, ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"), "<s>", "</s>", "</s>", kind="sentencepiece"
    ),
    "mistral-v3": Family(
        MISTRAL_V3, ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"), "<s>", "</s>", "</s>", "sentencepiece", trims=True
    ),
    "gemma": Family(
        _trl("gemma"),
        ("<unk>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "<bos>",
        "<eos>",
        "<end_of_turn>",
        shipped="gemma",
        trims=True,
    ),
    "qwen2.5": Family(_trl("qwen2_5"), CHATML_SPECIALS, "<|endoftext|>", "<|im_end|>", "<|im_end|>", shipped="qwen"),
}


@functools.cache
def tokenizer_of(name: str) -> Any:
    """A `PreTrainedTokenizerFast` of the family's kind, with its template and special tokens."""
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[name]
    backend = byte_level(family.specials) if family.kind == "bytes" else sentencepiece(family)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=family.bos,
        eos_token=family.eos,
        pad_token=family.eos,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = family.template
    return tokenizer


def byte_level(specials: tuple[str, ...], vocab: int = 700) -> Any:
    """Byte-level BPE whose offsets leave white space out, as those of GPT-2 and Llama 3 do."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    return tokenizer


def sentencepiece(family: Family) -> Any:
    """BPE with "▁" for spaces, byte fallback, and a BOS before plain text, as Llama 2 has it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(CORPUS * 4, trainers.BpeTrainer(vocab_size=400, show_progress=False))
    learned = json.loads(trained.to_str())["model"]
    pieces = [*family.specials, *(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"]]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    merges = [tuple(merge) for merge in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False, rstrip=family.swallows) for token in family.specials]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{family.bos} $A", special_tokens=[(family.bos, vocab[family.bos])]
    )
    return tokenizer
