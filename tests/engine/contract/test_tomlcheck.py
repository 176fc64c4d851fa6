from __future__ import annotations

import datetime
import math
import os
import sys
from pathlib import Path
from typing import Annotated, Literal, Union

import msgspec
import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from engine.contract import spec, tomlcheck
from engine.contract.errors import MoltingError
from engine.contract.tomlcheck import Problem, SpecError
from engine.contract.tomllines import key_lines

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Preset(msgspec.Struct, kw_only=True):
    temperature: Annotated[float, Meta(ge=0.0, le=5.0)]
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0


class Method(msgspec.Struct, kw_only=True):
    kind: Literal["lora", "qlora", "full"] = "lora"
    rank: Annotated[int, Meta(ge=1, le=1024)] = 16
    alpha: Union[Annotated[float, Meta(gt=0.0)], Literal["auto"]] = "auto"
    modules: Union[Literal["all"], Annotated[list[str], Meta(min_length=1)]] = "all"
    double: bool = True

    def __post_init__(self) -> None:
        if self.kind == "full" and self.rank != 16:
            raise ValueError("a rank means nothing when every weight is trained")


class Model(msgspec.Struct, kw_only=True):
    base: Annotated[str, Meta(min_length=1)]
    revision: Annotated[str, Meta(pattern="^[0-9a-f]*$")] | None = None


class Spec(msgspec.Struct, kw_only=True):
    model: Model
    name: str = ""
    max_steps: Annotated[int, Meta(ge=0, le=10**9)] = 0
    method: Annotated[Method, Meta(description="how")] = msgspec.field(default_factory=Method)
    presets: dict[str, Preset] = {}
    fields: dict[str, str] = {}
    probes: list[Preset] = []


BASE = 'model.base = "demo"\n'


def problems(text: str | Path) -> list[Problem]:
    with pytest.raises(SpecError) as caught:
        tomlcheck.load(text, Spec)
    assert caught.value.code == 2 and isinstance(caught.value, MoltingError)
    for problem in caught.value.problems:
        assert problem.message in str(caught.value)
    return caught.value.problems


def problem(text: str) -> Problem:
    (only,) = problems(text)
    return only


def test_a_good_file_becomes_structs() -> None:
    spec = tomlcheck.load(
        BASE + '[method]\nkind = "qlora"\nalpha = 32\nmodules = ["q", "v"]\n'
        '[presets."very creative"]\ntemperature = 1\n',
        Spec,
    )
    assert spec.model.base == "demo" and spec.method.modules == ["q", "v"]
    assert spec.method.alpha == 32.0 and isinstance(spec.presets["very creative"].temperature, float)
    assert spec.max_steps == 0 and spec.method.double is True


def test_all_errors_of_a_file_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(
        """\
nam = "x"                    # 1
rank = 8
max_steps = 1e18
[modell]
base = "x"
[method]                     # 6
kind = "lorra"
rank = "many"
alpha = nan
double = 1
modules = ["q", 2]
[presets.creative]           # 12
temperature = -1
top_pp = 0.5
[presets.cold]
top_p = 0.0
"""
    )
    found = [(each.line, each.key, each.nearest) for each in problems(path)]
    assert found == [
        (0, "model.base", ""),
        (1, "nam", "name"),
        (2, "rank", "method.rank"),
        (3, "max_steps", ""),
        (4, "modell", "model"),
        (7, "method.kind", "lora"),
        (8, "method.rank", ""),
        (9, "method.alpha", ""),
        (10, "method.double", ""),
        (11, "method.modules[1]", ""),
        (13, "presets.creative.temperature", ""),
        (14, "presets.creative.top_pp", "top_p"),
        (15, "presets.cold.temperature", ""),
        (16, "presets.cold.top_p", ""),
    ]
    with pytest.raises(SpecError, match=r"spec\.toml has 14 problems"):
        tomlcheck.load(path, Spec)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("max_steps = -1", "max_steps is -1; expected a whole number from 0 to 1000000000."),
        ("max_steps = 1e18", "max_steps is 1e+18; expected a whole number from 0 to 1000000000."),
        ("max_steps = 1_000_000_000_000_000_000", "from 0 to 1000000000"),
        (f"max_steps = {'9' * 4000}", "max_steps is a huge number; expected"),
        ("max_steps = true", "max_steps is true; expected a whole number"),
        ("max_steps = 1.0", "max_steps is 1.0; expected a whole number"),
        ('max_steps = "5"', 'max_steps is "5"; expected a whole number'),
        ("max_steps = 2024-01-01", "is a date or time; expected a whole number"),
        ("name = 5", "name is 5; expected text in quotes."),
        ("method.kind = 'QLORA'", 'expected one of "full", "lora", "qlora". Did you mean "qlora"?'),
        ("method.alpha = 'nan'", 'method.alpha is "nan"; expected a number above 0, or "auto".'),
        ("method.alpha = inf", "method.alpha is inf; expected a number above 0"),
        ("method.alpha = 1e400", "method.alpha is inf; expected"),
        ("method.alpha = -0.0", "method.alpha is -0.0; expected"),
        ("method.alpha = true", "method.alpha is true; expected"),
        ("method.modules = []", 'a list of at least 1 in which each item is text in quotes, or "all"'),
        ("model.revision = 'main'", "of the form ^[0-9a-f]*$"),
        ("fields = {a = 1}", "fields.a is 1; expected text in quotes."),
        ("method = 3", "method is 3; expected a table, [method]."),
        ("presets = 3", "presets is 3; expected a table in which each value is a table."),
        ("presets.x = 3", "presets.x is 3; expected a table, [presets.x]."),
        ("[[method]]", "method is a list; expected a table, [method]."),
        ("[[probes]]", "probes[0].temperature is missing; expected a number from 0 to 5."),
        ("learning_rate = 1", "learning_rate is not a key of the top level."),
        ("kindd = 1", "Did you mean kind, which belongs in [method]?"),
        ("temperature = 1", "It belongs in [presets.NAME] or [probes]."),
        ("method.max_steps = 1", "It belongs in the top level, above all sections."),
        ("method = {kind = 'full', rank = 8}", "[method]: a rank means nothing when every weight is trained."),
        ("name = '\x1b[31m'", "this is not valid TOML"),
        ('name = 7\n"a\\u001b" = 1', "a␛ is not a key"),
    ],
)
def test_what_is_said(line: str, said: str) -> None:
    messages = [each.message for each in problems(f"{line}\n{BASE}" if line[0] != "[" else f"{BASE}{line}")]
    assert any(said in message for message in messages), messages


def test_missing_keys_are_named_even_where_their_table_is_missing() -> None:
    only = problem("name = 'x'")
    assert (only.key, only.expected) == ("model.base", "text in quotes, not empty")
    only = problem("name = 'x'\n\n[model]\n")
    assert (only.key, only.line) == ("model.base", 3)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = ", 1),
        ("name = 'x'\nname = 'y'", 2),
        ("\n\n[model\n", 3),
        ("name = '''\n\n", 3),
        ("x = " + "[" * 5000, 0),
        ("x = " + "9" * 5000, 0),
        ("x = 2024-13-45", 1),
    ],
)
def test_broken_toml_is_a_sentence_with_its_line(text: str, line: int) -> None:
    only = problem(text)
    assert only.line == line and only.message.endswith(".")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (BASE.encode("utf-16"), "UTF-16"),
        (BASE.encode("utf-16-le"), "UTF-16"),
        (b"name = 'x'\nmodel.base = '\xff'\n", "not UTF-8"),
        (b"\0" * 100, "binary"),
        (b"# " + b"x" * (1 << 20), "larger than 1 MiB"),
    ],
)
def test_other_encodings_are_a_sentence(tmp_path: Path, raw: bytes, said: str) -> None:
    (tmp_path / "spec.toml").write_bytes(raw)
    (only,) = problems(tmp_path / "spec.toml")
    assert said in only.message


def test_the_line_of_a_byte_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_bytes(b"name = 'x'\nmodel.base = '\xff'\n")
    assert problems(tmp_path / "spec.toml")[0].line == 2


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert tomlcheck.load(tmp_path / "spec.toml", Spec).model.base == "demo"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: None, lambda path: path.symlink_to(path)])
def test_what_is_not_a_file_is_a_sentence(tmp_path: Path, make) -> None:
    make(tmp_path / "spec.toml")
    (only,) = problems(tmp_path / "spec.toml")
    assert only.line == 0 and only.message.endswith(".")


LINES = '''\
# a comment with "quotes" and [brackets]
a.b = 1
"quoted.key" = """
several # no comment
lines = 1
""""
'lit' = \'\'\'x
[not a table]\'\'\'
inline = { x = 1, "y z" = { deep = [1, 2] } }
list = [ # comment
  1,
  { k = "]" }, [
    3 ],
]
when = 2024-01-01 10:00:00
[table . "dotted name"] # comment
k = 'it''s'
[[many]]
k = 1
[[many]]
k = 2
[many.sub]
k = 3
[[many.inner]]
[[many.inner]]
z = 1
'''.replace("'it''s'", '"it\'s"')


def test_every_way_to_write_a_key_has_its_line() -> None:
    lines = key_lines(LINES)
    expected = {
        ("a",): 2,
        ("a", "b"): 2,
        ("quoted.key",): 3,
        ("lit",): 7,
        ("inline", "y z", "deep", 1): 9,
        ("list",): 10,
        ("list", 0): 11,
        ("list", 1, "k"): 12,
        ("list", 2): 12,
        ("list", 2, 0): 13,
        ("when",): 15,
        ("table", "dotted name"): 16,
        ("table", "dotted name", "k"): 17,
        ("many", 0): 18,
        ("many", 0, "k"): 19,
        ("many", 1, "k"): 21,
        ("many", 1, "sub", "k"): 23,
        ("many", 1, "inner", 1, "z"): 26,
    }
    assert {path: lines.get(path) for path in expected} == expected
    assert set(paths(tomllib.loads(LINES))) <= lines.keys()
    assert key_lines(LINES.replace("\n", "\r\n")) == lines


def paths(value: object, path: tuple[str | int, ...] = ()):
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from paths(each, (*path, name))


leaves = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=12),
    st.dates(),
    st.datetimes(timezones=st.just(datetime.timezone.utc)),
)
keys = st.one_of(
    st.sampled_from(["model", "base", "method", "kind", "rank", "alpha", "presets", "temperature", "fields", "probes"]),
    st.text(st.characters(codec="utf-8"), max_size=6),
)
documents = st.dictionaries(
    keys,
    st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=8,
    ),
    max_size=6,
)


@given(documents)
@settings(max_examples=200, deadline=None)
def test_any_document_loads_or_is_refused_with_lines(data: dict) -> None:
    text = tomlkit.dumps(data)
    parsed = tomllib.loads(text)
    lines = key_lines(text)
    assert set(paths(parsed)) <= lines.keys()
    try:
        spec = tomlcheck.load(text, Spec)
    except SpecError as error:
        assert error.problems and all(0 <= each.line <= text.count("\n") + 1 for each in error.problems)
    else:
        assert math.isfinite(spec.max_steps) and spec == msgspec.convert(parsed, Spec)


@given(st.one_of(st.text(), st.text(alphabet="ab=[]{}.,'\"\\#\n 01-:T", max_size=60)))
@settings(max_examples=400, deadline=None)
def test_any_text_raises_nothing_but_spec_errors(text: str) -> None:
    with pytest.raises(SpecError):
        tomlcheck.load(text, Spec)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_file_raises_nothing_but_spec_errors(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(raw)
    with pytest.raises(SpecError):
        tomlcheck.load(path, Spec)


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("[training]\nlr = 1e-4", "training.learning_rate"),
        ("[training]\nper_device_train_batch_size = 2", "training.batch"),
        ("[method]\nr = 8", "method.rank"),
        ("num_train_epochs = 3", "training.epochs"),
    ],
)
def test_the_names_of_other_trainers_are_known(line: str, ours: str) -> None:
    with pytest.raises(SpecError) as raised:
        tomlcheck.load(f'model.base = "demo"\ndata.train = "rows.jsonl"\n{line}\n', spec.Spec)
    (said,) = raised.value.problems
    assert said.message.endswith(f"Here it is {ours}.") and said.nearest == ours


def test_every_name_of_other_trainers_leads_to_a_key() -> None:
    known = {
        f"{section}.{field.name}"
        for section in ("model", "data", "method", "training", "evaluation")
        for field in msgspec.structs.fields(type(getattr(spec.Spec(model=_DEMO, data=_ROWS), section)))
    }
    assert set(tomlcheck._ELSEWHERE.values()) <= known


_DEMO, _ROWS = spec.Model(base="demo"), spec.Data(train="rows.jsonl")
