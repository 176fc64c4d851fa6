"""Types and values in the words of a person: "a whole number of at least 1", 'one of "lora", "qlora"'."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from .safe import safe

_SHOWN = 60  # characters of a value that are repeated to the user


def unwrapped(kind: inspect.Type) -> inspect.Type:
    """The type without descriptions, and without None, which TOML cannot say."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        rest = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
        return unwrapped(rest[0]) if len(rest) == 1 else inspect.UnionType(tuple(rest))
    return kind


def expected_words(kind: inspect.Type) -> str:
    """What a value of this type must be."""
    kind = unwrapped(kind)
    if isinstance(kind, inspect.UnionType):
        # Literals last: 'a number above 0, or "auto"'.
        ordered = sorted(kind.types, key=lambda each: isinstance(unwrapped(each), inspect.LiteralType))
        return ", or ".join(expected_words(each) for each in ordered)
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.IntType):
        return f"a whole number{_bounds(kind)}"
    if isinstance(kind, inspect.FloatType):
        return f"a number{_bounds(kind)}"
    if isinstance(kind, inspect.StrType):
        return f"text in quotes{_length(kind)}"
    if isinstance(kind, inspect.LiteralType):
        choices = [shown_value(choice) for choice in kind.values]
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if isinstance(kind, inspect.ListType):
        least = f" of at least {kind.min_length}" if kind.min_length else ""
        return f"a list{least} in which each item is {expected_words(kind.item_type)}"
    if isinstance(kind, inspect.AnyType):
        return "any value"
    if isinstance(kind, inspect.DictType) and isinstance(kind.value_type, inspect.AnyType):
        return "a table"
    if isinstance(kind, inspect.DictType):
        return f"a table in which each value is {expected_words(kind.value_type)}"
    if isinstance(kind, inspect.StructType):
        return "a table"
    return "another kind of value"


def expected_of(struct: type[msgspec.Struct], name: str) -> str:
    """What the field `name` of `struct` must be."""
    kind = inspect.type_info(struct)
    assert isinstance(kind, inspect.StructType)
    return expected_words(next(field.type for field in kind.fields if field.name == name))


def nearest_choice(value: Any, kind: inspect.Type) -> str:
    """The allowed word that looks most like a mistyped one, or ""."""
    words = [choice for choice in _choices(kind) if isinstance(choice, str)]
    close = difflib.get_close_matches(value.lower(), words, 1) if isinstance(value, str) else []
    return close[0] if close else ""


def shown_value(value: Any) -> str:
    """A value as it stands in the file, shortened and harmless to print."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = safe(value[: _SHOWN + 1], keep_newlines=False)
        return f'"{text[:_SHOWN]}…"' if len(text) > _SHOWN else f'"{text}"'
    if isinstance(value, int):
        return str(value) if abs(value) < 10**30 else "a huge number"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else "a list"
    return "a date or time"


def _choices(kind: inspect.Type) -> Iterator[Any]:
    kind = unwrapped(kind)
    if isinstance(kind, inspect.LiteralType):
        yield from kind.values
    elif isinstance(kind, inspect.UnionType):
        for each in kind.types:
            yield from _choices(each)


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {_number(kind.ge)} to {_number(kind.le)}"
    words = [
        f" {word} {_number(limit)}"
        for word, limit in (
            ("of at least", kind.ge),
            ("above", kind.gt),
            ("of at most" if kind.gt is None else "up to", kind.le),
            ("below", kind.lt),
        )
        if limit is not None
    ]
    return " and".join(words)


def _number(limit: float) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)


def _length(kind: inspect.StrType) -> str:
    words = []
    if kind.min_length == 1:
        words.append("not empty")
    elif kind.min_length:
        words.append(f"at least {kind.min_length} characters")
    if kind.max_length is not None:
        words.append(f"at most {kind.max_length} characters")
    if kind.pattern is not None:
        words.append(f"of the form {kind.pattern}")
    return "".join(f", {each}" for each in words)
