"""The commented spec is a spec, names every key, and un-commented it says the defaults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import tomlcheck
from engine.contract.spec import Data, Model, Spec
from molting_tui.spec_text import spec_text, toml_value

THREE = {"model.base": "demo", "data.train": "rows.jsonl", "name": "x"}


def test_only_what_is_given_is_live() -> None:
    found = tomlcheck.load(spec_text(THREE), Spec)
    assert found == Spec(model=Model(base="demo"), data=Data(train="rows.jsonl"), name="x")


def test_every_default_in_a_comment_is_the_default() -> None:
    everything = re.sub(r"^# (\w+ = )", r"\1", spec_text(THREE), flags=re.MULTILINE)
    assert tomlcheck.load(everything, Spec) == tomlcheck.load(spec_text(THREE), Spec)


def test_every_key_stands_there_with_its_description() -> None:
    text = spec_text(THREE)
    for name, description in _keys(Spec):
        frozen = description.startswith("written when frozen")
        line = re.search(rf"^(# )?{name} = .*  # {re.escape(description)}$", text, re.MULTILINE)
        assert bool(line) is not frozen, name


def _keys(kind: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    for field in msgspec.structs.fields(kind):
        annotated: Any = field.type
        below = annotated.__origin__ if hasattr(annotated, "__metadata__") else annotated
        if isinstance(below, type) and issubclass(below, msgspec.Struct):
            yield from _keys(below)
        else:
            yield field.name, annotated.__metadata__[-1].description


@given(value=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_string_survives_toml(value: str) -> None:
    assert msgspec.toml.decode(f"x = {toml_value(value)}") == {"x": value}


def test_values() -> None:
    values = {"a": True, "b": [1, 2.5], "c": {"title": "headline"}, "d": {}}
    text = "\n".join(f"{key} = {toml_value(value)}" for key, value in values.items())
    assert msgspec.toml.decode(text) == values
