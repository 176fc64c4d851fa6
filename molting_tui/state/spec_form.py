"""A spec being edited: its fields, what is wrong with each, and the text with its comments kept. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import tomlkit
from msgspec import inspect
from tomlkit.exceptions import TOMLKitError

from engine.contract import sweeps, tomlcheck
from engine.contract.errors import MoltingError
from engine.contract.mistakes import mistakes
from engine.contract.spec import Spec, Sweep
from engine.contract.summary import drop_unknown
from engine.contract.tomlwords import expected_words, shown_value, unwrapped

# The fields that most people touch, in the order of the form; the rest comes on demand.
USUAL = (
    "name",
    "model.base",
    "data.train",
    "data.heldout",
    "data.system_file",
    "data.max_length",
    "method.kind",
    "method.rank",
    "training.epochs",
    "training.max_steps",
    "training.batch",
    "training.learning_rate",
    "training.save_every",
    "training.seed",
    "evaluation.probes",
    "evaluation.sample_count",
    "generation.max_new_tokens",
)
PATHS = frozenset({"data.train", "data.heldout", "data.system_file", "evaluation.probes", "evaluation.ability_probes"})
_FROZEN = "written when frozen"  # keys that are the engine's to write
_MAYBE_PATHS = frozenset({"model.base", "model.chat_template"})


@dataclass(frozen=True)
class Field:
    """One key of the spec. `choices` are the words it takes, if it takes only or also words."""

    key: str
    description: str
    expected: str
    default: str
    choices: tuple[str, ...]
    info: inspect.Type


def fields() -> list[Field]:
    """Every key that a person may write: the usual ones first."""
    every = {field.key: field for field in _fields(Spec, "") if not field.description.startswith(_FROZEN)}
    return [every[key] for key in USUAL] + [field for key, field in every.items() if key not in USUAL]


def _fields(kind: type[msgspec.Struct], prefix: str) -> Iterator[Field]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        plain = unwrapped(field.type)
        key = f"{prefix}{field.encode_name}"
        if isinstance(plain, inspect.StructType):
            yield from _fields(plain.cls, f"{key}.")
            continue
        description, words = _description(field.type), tuple(_words(plain))
        expected = expected_words(plain)
        if isinstance(plain, inspect.StrType):
            expected = expected.replace("text in quotes", "text")  # which an input takes without them
        yield Field(key, description, expected, _default(field), words, plain)


def _description(kind: inspect.Type) -> str:
    if not isinstance(kind, inspect.Metadata):
        return ""
    return (kind.extra_json_schema or {}).get("description", "") or _description(kind.type)


def _default(field: inspect.Field) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return shown(field.default_factory())
    return "" if field.default is msgspec.NODEFAULT else shown(field.default)


def _words(kind: inspect.Type) -> Iterator[str]:
    kind = unwrapped(kind)
    if isinstance(kind, inspect.LiteralType):
        yield from (str(value) for value in kind.values)
    elif isinstance(kind, inspect.BoolType):
        yield from ("true", "false")
    elif isinstance(kind, inspect.UnionType):
        for each in kind.types:
            yield from _words(each)


def shown(value: Any) -> str:
    """A value as it stands in an input: words without quotes, all else as TOML."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, (dict, list)):
        return tomlkit.item(value).as_string().strip() if value else ("{}" if isinstance(value, dict) else "[]")
    return str(value)


class SpecForm:
    """The text of a spec and the folder that its paths start from. Values come and go as text."""

    def __init__(self, text: str, folder: Path, *, name: str = "") -> None:
        """MoltingError (code 2) when the text is not TOML. `name` stands in for an empty one."""
        self._text = text
        try:
            self.document = tomlkit.parse(text)
        except (TOMLKitError, ValueError, RecursionError) as error:
            raise MoltingError(f"This is not valid TOML: {error}.", code=2) from None
        self.folder = folder
        self.fallback_name = name or folder.name
        self._typed: dict[str, tuple[Field, str]] = {}
        self._unread: dict[str, str] = {}  # key -> what is wrong with text that is no value at all

    def text(self) -> str:
        """The spec as a file."""
        return tomlkit.dumps(self.document)

    def value(self, key: str) -> str:
        """What an input shows for this key; empty where the file does not give it."""
        table: Any = self.document
        for part in key.split("."):
            if not isinstance(table, dict) or part not in table:
                return ""
            table = table[part]
        return table.as_string().strip() if isinstance(table, tomlkit.items.Float) else shown(_plain(table))

    def put(self, field: Field, text: str) -> None:
        """Take over what was typed; nothing typed takes the key out of the file, so that its default holds."""
        self._typed[field.key] = (field, text)
        self._unread.clear()
        # From the start each time: a key that was emptied and is filled again finds its place and comment there.
        self.document = tomlkit.parse(self._text)
        for each, value in self._typed.values():
            self._write(each, value)

    def _write(self, field: Field, text: str) -> None:
        if not text.strip():
            self._remove(field.key)
            return
        try:
            value = _parsed(text, field.info)
        except ValueError:
            self._unread[field.key] = f"{shown_value(text)} cannot be read; expected {field.expected}."
            return
        table: Any = self.document
        *sections, name = field.key.split(".")
        for section in sections:
            if not isinstance(table.get(section), dict):
                table[section] = tomlkit.table()
            table = table[section]
        if name in table and _plain(table[name]) == _plain(value) and type(_plain(table[name])) is type(_plain(value)):
            return
        item = tomlkit.item(value)
        if name in table and hasattr(table[name], "trivia"):
            item.trivia.comment_ws, item.trivia.comment = table[name].trivia.comment_ws, table[name].trivia.comment
        table[name] = item

    def _remove(self, key: str) -> None:
        table: Any = self.document
        *sections, name = key.split(".")
        for section in sections:
            table = table.get(section)
            if not isinstance(table, dict):
                return
        table.pop(name, None)

    def problems(self) -> dict[str, str]:
        """What is wrong, a sentence for each key, by the same check that the engine makes."""
        found = dict(self._unread)
        try:
            tomlcheck.load(self.text(), Spec, also=mistakes)
        except tomlcheck.SpecError as error:
            for problem in error.problems:
                found.setdefault(problem.key.partition("[")[0], problem.message)
        return found

    def paths(self) -> dict[str, Path]:
        """The files that the spec names, absolute."""
        return {key: self._absolute(value) for key in sorted(PATHS) if (value := self.value(key))}

    def standing_alone(self, exists: Callable[[Path], bool]) -> str:
        """The same spec with absolute paths and a name, fit to be read from any folder."""
        copy = SpecForm(self.text(), self.folder)
        every = {field.key: field for field in fields()}
        for key, path in self.paths().items():
            copy.put(every[key], str(path))
        for key in _MAYBE_PATHS:
            value = self.value(key)
            if value and (value.startswith((".", "/", "~")) or (len(value) < 200 and exists(self._absolute(value)))):
                copy.put(every[key], str(self._absolute(value)))
        if not self.value("name"):
            copy.put(every["name"], self.fallback_name)
        copy._locate_sweep(exists)  # last: what is put begins from the text again
        return copy.text()

    def _locate_sweep(self, exists: Callable[[Path], bool]) -> None:
        try:
            sweep = msgspec.convert(_plain(self.document.get("sweep", {})), Sweep)
        except msgspec.ValidationError:
            return  # what is wrong with it is told where the spec is checked
        placed = sweeps.located(sweep, self.folder, exists)
        for name in ("grid", "runs"):
            if getattr(placed, name) != getattr(sweep, name):
                self.document["sweep"][name] = getattr(placed, name)

    @property
    def sweeps(self) -> bool:
        """Whether this is a spec of several runs."""
        return any(self.value(key) not in ("", "{}", "[]") for key in ("sweep.grid", "sweep.runs"))

    def _absolute(self, value: str) -> Path:
        path = Path(value).expanduser()
        return (path if path.is_absolute() else self.folder / path).absolute()


def _plain(value: Any) -> Any:
    return value.unwrap() if hasattr(value, "unwrap") else value


def _parsed(text: str, info: inspect.Type) -> Any:
    """What was typed, as a TOML value: a word where words are taken, else what TOML reads. ValueError if neither."""
    text = text.strip()
    kinds = info.types if isinstance(info, inspect.UnionType) else (info,)
    plain = [unwrapped(kind) for kind in kinds]
    if any(isinstance(kind, inspect.LiteralType) and text in kind.values for kind in plain):
        return text
    if any(isinstance(kind, inspect.StrType) for kind in plain):
        return text
    try:
        return tomlkit.value(text)  # which remembers how it was written: 2e-3 stays 2e-3
    except (ValueError, KeyError, RecursionError, TOMLKitError):
        if all(isinstance(kind, inspect.LiteralType) for kind in plain):
            return text  # a mistyped word: the check names the nearest one
        raise ValueError(text) from None


def of_run(text: str, run_id: str, folder: Path, name: str) -> SpecForm:
    """A form on a copy of a run's frozen spec: without what freezing wrote, as a child of that run."""
    frozen = SpecForm(text, folder, name=name)
    drop_unknown(frozen.document, Spec)
    form = SpecForm(frozen.text(), folder, name=name)
    for field in _fields(Spec, ""):
        if field.description.startswith(_FROZEN):
            form.put(field, "")
        elif field.key == "parent":
            form.put(field, run_id)
    return form
