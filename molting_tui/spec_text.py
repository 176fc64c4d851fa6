"""A commented spec, written from the descriptions that engine.contract.spec carries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from engine.contract.spec import Spec

_COLUMN = 34  # where the descriptions begin
_FROZEN = "written when frozen"  # keys that are Molting's to write


def spec_text(given: Mapping[str, str]) -> str:
    """A spec file: every key as a comment with its default and meaning, those of `given` live.

    `given` maps dotted keys ("model.base") to their values. Pure; the text parses as the spec it describes.
    """
    lines = [
        "# A training run. The live lines are all that is needed; the rest shows the defaults.",
        '# "auto" and 0 mean: choose well for this model, this data and this device.',
        "",
    ]
    lines += _section(Spec, "", given)
    return "\n".join(lines).rstrip() + "\n"


def _section(kind: type[msgspec.Struct], prefix: str, given: Mapping[str, str]) -> Iterator[str]:
    """The plain keys of a section first, then its tables: TOML wants them in this order."""
    tables = []
    for field in msgspec.structs.fields(kind):
        description, plain = _described(field.type)
        if isinstance(plain, type) and issubclass(plain, msgspec.Struct):
            tables.append((field, plain))
        elif not description.startswith(_FROZEN):
            yield _key(field, f"{prefix}{field.name}", description, given)
    for field, plain in tables:
        name = f"{prefix}{field.name}"
        yield ""
        yield f"[{name}]"
        yield from _section(plain, f"{name}.", given)


def _key(field: msgspec.structs.FieldInfo, name: str, description: str, given: Mapping[str, str]) -> str:
    live = name in given
    value = toml_value(given[name] if live else _default(field))
    line = f"{'' if live else '# '}{field.name} = {value}"
    return f"{line:<{_COLUMN}}  # {description}"


def _described(kind: Any) -> tuple[str, Any]:
    """The description that an annotation carries, and the type below it."""
    if metadata := getattr(kind, "__metadata__", ()):
        descriptions = [meta.description for meta in metadata if isinstance(meta, msgspec.Meta)]
        return " ".join(filter(None, descriptions)), kind.__origin__
    return "", kind


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return "" if field.default is msgspec.NODEFAULT else field.default


def toml_value(value: Any) -> str:
    """A TOML value on one line. A JSON string is a TOML basic string, DEL apart."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{json.dumps(key)} = {toml_value(each)}" for key, each in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
