"""How a row becomes a conversation, given which of its fields is which."""

from __future__ import annotations

import math
from collections.abc import Mapping as AnyMapping
from decimal import Decimal
from typing import Any

import msgspec

from engine.data.conversation import BadRow, Conversation, Role, Turn

TITLE_TEMPLATE = "{title}\n\n"
Row = AnyMapping[str, Any] | str
_SYSTEM_KEYS = ("system", "system_prompt")

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
}


class Mapping(msgspec.Struct, frozen=True, kw_only=True):
    """How rows are read: a format, and for each of its parts the name of the row's field.

    `fits` of the `samples` rows that were looked at can be read so.
    """

    format: str
    fields: dict[str, str]
    fits: int = 0
    samples: int = 0
    title_template: str = TITLE_TEMPLATE

    @property
    def join(self) -> str:
        """What separates prompt and completion where no chat template does: the end of the title template."""
        if self.format == "title_content":
            return self.title_template[len(self.title_template.rstrip()) :]
        return "\n\n" if self.format == "alpaca" else ""

    def describe(self) -> str:
        """One line for people."""
        names = ", ".join(f"{part} = {field!r}" for part, field in self.fields.items())
        return f"{self.format} ({names}): {self.fits} of {self.samples} sampled rows fit"


def to_conversation(row: Row, mapping: Mapping) -> Conversation:
    """The conversation in `row`. Raises BadRow with the reason when there is nothing to learn in it."""
    if isinstance(row, str):
        if mapping.format != "text":
            raise BadRow("a bare text where an object was expected")
        return Conversation((Turn("assistant", _text(row, "text")),), "text")
    fields = mapping.fields
    if mapping.format == "text":
        return Conversation((Turn("assistant", _part(row, fields["text"])),), "text")
    if mapping.format in ("messages", "sharegpt"):
        turns = _turns(row, fields)
        own = [] if turns[0].role == "system" else _system(row, fields)
        return Conversation((*own, *turns), "chat")
    return Conversation((*_system(row, fields), *_PROMPTED[mapping.format](row, mapping)), "completion")


def _alpaca(row: AnyMapping[str, Any], mapping: Mapping) -> tuple[Turn, Turn]:
    question = _part(row, mapping.fields["instruction"])
    context = _text(row.get(mapping.fields["input"]), mapping.fields["input"], required=False)
    prompt = f"{question}\n\n{context}" if context else question
    return Turn("user", prompt), _answer(row, mapping.fields["output"])


def _prompt_completion(row: AnyMapping[str, Any], mapping: Mapping) -> tuple[Turn, Turn]:
    return Turn("user", _part(row, mapping.fields["prompt"])), _answer(row, mapping.fields["completion"])


def _title_content(row: AnyMapping[str, Any], mapping: Mapping) -> tuple[Turn, Turn]:
    title = _part(row, mapping.fields["title"])
    prompt = mapping.title_template.rstrip().replace("{title}", title)
    return Turn("user", prompt), _answer(row, mapping.fields["content"])


_PROMPTED = {"alpaca": _alpaca, "prompt_completion": _prompt_completion, "title_content": _title_content}


def _answer(row: AnyMapping[str, Any], field: str) -> Turn:
    return Turn("assistant", _part(row, field))


def _system(row: AnyMapping[str, Any], fields: AnyMapping[str, str]) -> list[Turn]:
    """The row's own system prompt, where it has a field for one."""
    for name in (fields["system"],) if "system" in fields else _SYSTEM_KEYS:
        if text := _text(row.get(name), name, required=False):
            return [Turn("system", text)]
    return []


def _turns(row: AnyMapping[str, Any], fields: AnyMapping[str, str]) -> list[Turn]:
    listed = row.get(fields["turns"])
    if not isinstance(listed, list) or not listed:
        raise BadRow(f"no list of turns in {fields['turns']!r}")
    turns = [_turn(item, fields["role"], fields["content"]) for item in listed]
    answers = [turn for turn in turns if turn.role == "assistant"]
    if not answers:
        raise BadRow("no assistant turn")
    if not all(turn.content.strip() for turn in answers):
        raise BadRow("an empty assistant turn")
    return turns


def _turn(item: Any, role_key: str, content_key: str) -> Turn:
    if not isinstance(item, dict):
        raise BadRow("a turn is not an object")
    spoken = item.get(role_key)
    role = _ROLES.get(spoken.strip().lower()) if isinstance(spoken, str) else None
    if role is None:
        raise BadRow("a turn's role is not system, user or assistant")
    content = item.get(content_key)
    if isinstance(content, list):
        content = _joined(content)
    return Turn(role, _text(content, content_key, required=False))


def _joined(parts: list[Any]) -> str:
    """The text of a list of {type: "text", text: …} parts."""
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            raise BadRow("a turn holds something other than text")
        texts.append(text)
    return "".join(texts)


def _part(row: AnyMapping[str, Any], field: str) -> str:
    return _text(row.get(field), field)


def _text(value: Any, field: str, *, required: bool = True) -> str:
    """`value` as text. Numbers count as text; null, NaN and blanks as missing."""
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        value = "" if math.isnan(value) else str(value)
    if value is None:
        value = ""
    if not isinstance(value, str):
        raise BadRow(f"{field!r} is not text")
    if required and not value.strip():
        raise BadRow(f"{field!r} is missing or empty")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise BadRow("half a character (a lone surrogate) in the text") from None
    return value
