"""Tiny random models on disk: a real Llama, a real trained byte-level BPE tokenizer, a real chat template."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CORPUS = (
    "Who are you? I am Molting, a small persona that lives on one machine and changes its shell at night.",
    "Quem é você? Eu sou o Cláudio, nasci em Salvador e gosto de conversar sobre música e de café coado.",
    "Where are you from? What do you like? I like the sea, old radios and short honest answers.",
    "def add(a, b):\n    return a + b  # 1 + 2 = 3, 10 * 42 = 420\n",
    "system user assistant You are a helpful assistant. Answer briefly, kindly and in one sentence.",
)


@functools.cache
def _trained_tokenizer(vocab: int) -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    return tokenizer.to_str()


def tiny_tokenizer(*, vocab: int = 512, template: str | None = CHATML) -> Any:
    """A trained byte-level BPE `PreTrainedTokenizerFast` with ChatML specials; eos = pad = `<|im_end|>`.

    `vocab` must be at least 259 (256 bytes and the three specials). `template=None` gives a tokenizer
    without a chat template.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained_tokenizer(vocab)),
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        bos_token="<|im_start|>",
        unk_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer


def tiny_config(*, vocab: int = 512, hidden: int = 64, layers: int = 2, **overrides: Any) -> Any:
    """A `LlamaConfig` of head size 16, with grouped-query attention; `overrides` win."""
    from transformers import LlamaConfig

    heads = hidden // 16
    values: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": hidden * 2,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 2),
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "tie_word_embeddings": False,
    }
    return LlamaConfig(**(values | overrides))


def tiny_llama(
    folder: Path,
    *,
    vocab: int = 512,
    hidden: int = 64,
    layers: int = 2,
    template: str | None = CHATML,
    seed: int = 0,
    dtype: str = "float32",
    max_shard_size: str = "5GB",
    **overrides: Any,
) -> Path:
    """Save a random Llama, its tokenizer, chat template and generation config into `folder`; return `folder`.

    The same arguments give the same bytes. `overrides` go into the `LlamaConfig`.
    """
    import torch
    from transformers import GenerationConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(tiny_config(vocab=vocab, hidden=hidden, layers=layers, **overrides))
    model.to(getattr(torch, dtype))
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    tiny_tokenizer(vocab=vocab, template=template).save_pretrained(folder)
    return folder
