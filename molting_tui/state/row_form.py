"""A row as something to fill in: one part for each turn, in any of the formats. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SPOKEN = {"human": "user", "prompter": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant",
           "chatgpt": "assistant", "developer": "system"}  # fmt: skip
_PARTS = {
    "alpaca": (("instruction", "user"), ("input", "context"), ("output", "assistant")),
    "prompt_completion": (("prompt", "user"), ("completion", "assistant")),
    "title_content": (("title", "title"), ("content", "assistant")),
    "text": (("text", "text"),),
}
_SYSTEM = ("system", "system_prompt")


@dataclass(frozen=True)
class Part:
    """What one side says; `role` is system, user, assistant, context, title or text."""

    role: str
    text: str = ""


@dataclass(frozen=True)
class Shape:
    """How a file's rows are read: `format` and `fields` as the engine found them (docs/data.md)."""

    format: str
    fields: Mapping[str, str]

    @property
    def turns(self) -> bool:
        """Whether turns can be added and taken away."""
        return self.format in ("messages", "sharegpt")

    def parts(self, value: Any) -> list[Part]:
        """What the row says, as far as it can be read; what is missing is empty."""
        if self.turns:
            return self._turns(value)
        if isinstance(value, str) or not self.fields.get("text", "text"):
            return [Part("text", value if isinstance(value, str) else "")]
        row = value if isinstance(value, dict) else {}
        system = next((Part("system", row[name]) for name in self._system() if isinstance(row.get(name), str)), None)
        own = [Part(role, _said(row.get(self.fields.get(part, part)))) for part, role in _PARTS[self.format]]
        return [system, *own] if system else own

    def empty(self) -> list[Part]:
        """The parts of a new row."""
        if self.turns:
            return [Part("user"), Part("assistant")]
        return [Part(role) for _, role in _PARTS[self.format]]

    def value(self, parts: Sequence[Part], old: Any = None) -> Any:
        """The row that says `parts`; everything else in `old` stays as it was."""
        if not self.turns and (isinstance(old, str) or not self.fields.get("text", "text")):
            return parts[0].text
        row: dict[str, Any] = copy.copy(old) if isinstance(old, dict) else {}
        if self.turns:
            return self._with_turns(row, parts)
        said = {part.role: part.text for part in parts}
        for name in self._system():
            if name in row and "system" in said:
                row[name] = said["system"]
        for part, role in _PARTS[self.format]:
            name = self.fields.get(part, part)
            missing = name not in row and (said.get(role) or role != "context")
            if role in said and (missing or said[role] != _said(row.get(name))):
                row[name] = said[role]
        return row

    def _system(self) -> tuple[str, ...]:
        return (self.fields["system"],) if "system" in self.fields else _SYSTEM

    def _turns(self, value: Any) -> list[Part]:
        listed = value.get(self.fields["turns"]) if isinstance(value, dict) else None
        return [self._part(item) for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []

    def _part(self, item: dict[str, Any]) -> Part:
        spoken = str(item.get(self.fields["role"], "")).strip().lower()
        return Part(_SPOKEN.get(spoken, spoken or "user"), _said(item.get(self.fields["content"])))

    def _with_turns(self, row: dict[str, Any], parts: Sequence[Part]) -> dict[str, Any]:
        """Each turn keeps what else stood in it, as long as it stays in its place with its role."""
        name, role, content = self.fields["turns"], self.fields["role"], self.fields["content"]
        listed = row.get(name)
        before = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
        turns = []
        for i, part in enumerate(parts):
            old = before[i] if i < len(before) and self._part(before[i]).role == part.role else {}
            turn = dict(old) if old else {role: self._spoken(part.role, before)}
            if content not in turn or self._part(turn).text != part.text:
                turn[content] = part.text
            turns.append(turn)
        row[name] = turns
        return row

    def _spoken(self, wanted: str, before: Sequence[dict[str, Any]]) -> str:
        """The word by which this file calls a role."""
        for item in before:
            if self._part(item).role == wanted:
                return str(item[self.fields["role"]])
        usual = {"user": "human", "assistant": "gpt"} if self.format == "sharegpt" else {}
        return usual.get(wanted, wanted)


def _said(value: Any) -> str:
    if isinstance(value, list):  # parts of {type: "text", text: …}
        texts = [item.get("text") if isinstance(item, dict) else item for item in value]
        return "".join(text for text in texts if isinstance(text, str))
    return value if isinstance(value, str) else "" if value is None else str(value)


def next_role(parts: Sequence[Part]) -> str:
    """Who speaks next."""
    return "assistant" if parts and parts[-1].role == "user" else "user"
