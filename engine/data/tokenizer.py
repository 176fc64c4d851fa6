"""Reading a model folder's tokenizer without transformers: tenths of a second instead of seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from tokenizers import AddedToken, Tokenizer

from engine.contract.errors import MoltingError
from engine.models.files import read_json_object, read_regular

_TOKENIZER_LIMIT = 256 << 20  # bytes; the largest in use are about 35 MB
_CONFIG_LIMIT = 16 << 20
_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TokenizerFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What a model folder says about its text.

    `tokens` maps bos_token, eos_token and the like to their text. `eos_ids` are the ids that end generation, the
    tokenizer's own first. `bos_id` is set where plain text begins with it.
    """

    tokenizer: Tokenizer
    tokens: dict[str, str]
    chat_template: str | None
    eos_ids: list[int]
    bos_id: int | None


def load_tokenizer(folder: Path | str) -> TokenizerFiles:
    """The tokenizer of a model folder. Raises MoltingError (bad_model) where it is missing or damaged."""
    folder = Path(folder)
    config = _optional_json(folder / "tokenizer_config.json")
    tokenizer = _tokenizer(folder)
    _add_missing(tokenizer, config)
    tokens = _tokens(config | _optional_json(folder / "special_tokens_map.json"), config)
    eos_ids = _eos_ids(folder, tokenizer, tokens)
    bos = tokenizer.token_to_id(tokens.get("bos_token", ""))
    begins = bos is not None and (config.get("add_bos_token") is True or tokenizer.encode("").ids[:1] == [bos])
    return TokenizerFiles(
        tokenizer=tokenizer,
        tokens=tokens,
        chat_template=_chat_template(folder, config),
        eos_ids=eos_ids,
        bos_id=bos if begins else None,
    )


def whole(serialized: bytes) -> Tokenizer:
    """A tokenizer from its JSON, without the padding and truncation that a tokenizer.json may ask for."""
    tokenizer = Tokenizer.from_str(serialized.decode())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.exists():
        raise _missing(folder)
    try:
        return whole(read_regular(path, _TOKENIZER_LIMIT))
    except Exception as error:  # the Rust parser raises plain Exception
        raise _damaged(path, error) from error


def _missing(folder: Path) -> MoltingError:
    if (folder / "tokenizer.model").exists():
        return MoltingError(
            f"{folder} has a SentencePiece tokenizer (tokenizer.model) but no tokenizer.json.",
            remedy="Convert it once with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER).",
            reason="bad_model",
        )
    return MoltingError(
        f"{folder} has no tokenizer.json.", remedy="Give a folder with model and tokenizer.", reason="bad_model"
    )


def _damaged(path: Path, error: Exception) -> MoltingError:
    return MoltingError(f"{path} cannot be used: {error}.", remedy="Fetch the model again.", reason="bad_model")


def _optional_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return read_json_object(path, _CONFIG_LIMIT)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _add_missing(tokenizer: Tokenizer, config: dict[str, Any]) -> None:
    """Tokens that only tokenizer_config.json knows; transformers adds them too."""
    listed = config.get("added_tokens_decoder")
    entries = listed if isinstance(listed, dict) else {}
    for number in sorted((key for key in entries if key.isdecimal()), key=int):
        entry = entries[number]
        text = entry.get("content") if isinstance(entry, dict) else None
        if isinstance(text, str) and text and tokenizer.token_to_id(text) is None:
            flags = {name: bool(entry.get(name)) for name in ("single_word", "lstrip", "rstrip", "normalized")}
            token = AddedToken(text, special=bool(entry.get("special")), **flags)
            (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])


def _tokens(*sources: dict[str, Any]) -> dict[str, str]:
    """The named special tokens; the last source that names one wins."""
    tokens: dict[str, str] = {}
    for source in sources:
        for name in _TOKEN_NAMES:
            value = source.get(name)
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                tokens[name] = text
    return tokens


def _eos_ids(folder: Path, tokenizer: Tokenizer, tokens: dict[str, str]) -> list[int]:
    ids = [tokenizer.token_to_id(tokens.get("eos_token", ""))]
    for name in ("generation_config.json", "config.json"):
        value = _optional_json(folder / name).get("eos_token_id")
        ids += value if isinstance(value, list) else [value]
    size = tokenizer.get_vocab_size()
    return list(dict.fromkeys(i for i in ids if type(i) is int and 0 <= i < size))


def _chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    """The default template: chat_template.jinja, else the entry in tokenizer_config.json (text, or a list)."""
    path = folder / "chat_template.jinja"
    if path.exists():
        try:
            return read_regular(path, _CONFIG_LIMIT).decode("utf-8")
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error
    value = config.get("chat_template")
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        value = named.get("default")
    return value if isinstance(value, str) and value.strip() else None
