"""Reads TOML into msgspec Structs and names ALL that is wrong: line, key, what was expected, nearest key.

msgspec stops at its first error, so tables are walked here and it converts one leaf at a time.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import inspect

from .errors import MoltingError
from .safe import safe
from .tomllines import KeyPath, key_lines
from .tomlwords import expected_words, nearest_choice, shown_value, unwrapped

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T", bound=msgspec.Struct)

MAX_BYTES = 1 << 20
Mistakes = Iterable[tuple[KeyPath, str]]


@dataclass(frozen=True)
class Problem:
    """One thing wrong. `line` is 0 where no line is meant; `nearest` is a known key or value, or ""."""

    line: int
    key: str
    message: str
    expected: str = ""
    nearest: str = ""

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}" if self.line else self.message


# What other trainers call it.
_ELSEWHERE = {
    theirs: ours
    for ours, names in {
        "model.base": "base_model model_name model_name_or_path model_id",
        "data.train": "dataset dataset_name dataset_path train_file",
        "data.max_length": "max_seq_length max_seq_len sequence_len cutoff_len",
        "data.system": "system_prompt",
        "method.rank": "r lora_r lora_rank",
        "method.alpha": "lora_alpha",
        "method.dropout": "lora_dropout",
        "training.learning_rate": "lr",
        "training.epochs": "num_epochs num_train_epochs",
        "training.batch": "batch_size micro_batch_size per_device_train_batch_size",
        "training.accumulation": "gradient_accumulation gradient_accumulation_steps grad_accum",
        "training.warmup": "warmup_ratio warmup_steps",
        "training.schedule": "scheduler lr_scheduler lr_scheduler_type",
        "training.save_every": "save_steps",
        "evaluation.every": "eval_steps",
    }.items()
    for theirs in names.split()
}


class SpecError(MoltingError):
    """Everything that is wrong with one file, in the order of its lines."""

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line)
        if len(problems) == 1:
            message = f"{name}, {problems[0]}" if problems[0].line else f"{name}: {problems[0]}"
        else:
            message = "\n  ".join([f"{name} has {len(problems)} problems:", *map(str, self.problems)])
        super().__init__(message, code=2)


def load(path_or_text: Union[Path, str], struct_type: type[T], also: Callable[[T], Mistakes] | None = None) -> T:
    """The Struct that a TOML file (a Path) or text (a str) describes. SpecError with all that is wrong.

    `also` says what types cannot: where, and a sentence, for everything that does not fit together.
    """
    name = safe(str(path_or_text), keep_newlines=False) if isinstance(path_or_text, Path) else "This text"
    try:
        text = _read(path_or_text) if isinstance(path_or_text, Path) else _checked_text(path_or_text)
        data = _parse(text)
    except _Unreadable as error:
        raise SpecError(name, [Problem(error.line, "", str(error))]) from None
    checker = _Checker(struct_type, key_lines(text))
    value = checker.struct(struct_type, data, ())
    if also and not checker.problems:
        for path, message in also(value):
            checker.add(path, message)
    if checker.problems:
        raise SpecError(name, checker.problems)
    return value


class _Unreadable(Exception):
    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


def _read(path: Path) -> str:
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _Unreadable("it is not a plain file.")
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _Unreadable(f"it cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if len(raw) > MAX_BYTES:
        raise _Unreadable("it is larger than 1 MiB, which no file of settings is.")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw:
        raise _Unreadable("it is not UTF-8 text (it looks like UTF-16 or binary). Save it as UTF-8.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _Unreadable("there is a byte here that is not UTF-8. Save the file as UTF-8.", line) from None


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO would wait for someone to write


def _checked_text(text: str) -> str:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _Unreadable("it holds half a character (a lone surrogate).")
    return text


def _parse(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise _Unreadable("its values are nested too deeply.") from None
    except ValueError as error:
        said = "a number has too many digits" if "digits" in str(error) else safe(str(error), False)
        found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", said)
        line = 0 if found is None else int(found[1] or text.count("\n") + 1)
        sentence = said if found is None else said[: found.start()]
        raise _Unreadable(f"this is not valid TOML: {sentence[:1].lower()}{sentence[1:200]}.", line) from None


class _Checker:
    """Collects problems on its way through tables and the Structs that describe them."""

    def __init__(self, root: type[msgspec.Struct], lines: dict[KeyPath, int]) -> None:
        self.known = list(_known_keys(inspect.type_info(root), ""))
        self.lines = lines
        self.problems: list[Problem] = []

    def struct(self, kind: type[T], table: dict[str, Any], path: KeyPath) -> T:
        """The Struct that `table` describes; of no use if problems were found."""
        before = len(self.problems)
        info = inspect.type_info(kind)
        assert isinstance(info, inspect.StructType)
        raw_types = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        for field in info.fields:
            if field.encode_name in table:
                here = (*path, field.encode_name)
                self.value(field.type, raw_types[field.encode_name], table[field.encode_name], here)
            elif field.required:
                self.missing(field, (*path, field.encode_name))
        for key in table.keys() - raw_types.keys():
            self.unknown(key, list(raw_types), path)
        return self.whole(info, kind, table, path, before)

    def value(self, info: inspect.Type, raw_type: Any, value: Any, path: KeyPath) -> None:
        before = len(self.problems)
        container = _container(info, value)
        if isinstance(container, inspect.StructType):
            self.struct(container.cls, value, path)
            return
        if isinstance(container, inspect.DictType):
            for name, inner in value.items():
                self.value(container.value_type, _element_type(raw_type, dict), inner, (*path, name))
        if isinstance(container, inspect.ListType):
            for place, inner in enumerate(value):
                self.value(container.item_type, _element_type(raw_type, list), inner, (*path, place))
        self.whole(info, raw_type, value, path, before)

    def whole(self, info: inspect.Type, raw_type: Any, value: Any, path: KeyPath, before: int) -> Any:
        """Convert what has no parts, or only sound ones: then `before` is the number of problems still."""
        if len(self.problems) > before:
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return self.refuse(info, value, path)
        try:
            return msgspec.convert(value, raw_type)
        except msgspec.ValidationError as error:
            if isinstance(_container(info, value), inspect.StructType):
                return self.add(path, f"{_section(path)}: {error}.")  # said by the Struct's own __post_init__
            return self.refuse(info, value, path)

    def refuse(self, info: inspect.Type, value: Any, path: KeyPath) -> None:
        expected, nearest = expected_words(info), nearest_choice(value, info)
        if expected == "a table":
            expected = f"a table, {_section(path)}"
        hint = f' Did you mean "{nearest}"?' if nearest else ""
        message = f"{_dotted(path)} is {shown_value(value)}; expected {expected}.{hint}"
        self.add(path, message, expected, nearest)

    def missing(self, field: inspect.Field, path: KeyPath) -> None:
        info = unwrapped(field.type)
        before = len(self.problems)
        if isinstance(info, inspect.StructType):
            self.struct(info.cls, {}, path)  # names the keys that must be in it
        if len(self.problems) == before:
            expected = expected_words(info)
            self.add(path, f"{_dotted(path)} is missing; expected {expected}.", expected)

    def unknown(self, key: str, siblings: list[str], path: KeyPath) -> None:
        nearest, hint = self.nearest_key(key, siblings)
        shown = safe(key[:80], keep_newlines=False) or '""'
        self.add((*path, key), f"{shown} is not a key of {_section(path)}.{hint}", "", nearest)

    def nearest_key(self, key: str, siblings: list[str]) -> tuple[str, str]:
        """(the key that was probably meant, a sentence about it): this very key elsewhere, or a like one."""
        homes = [known for known in self.known if known.rpartition(".")[2] == key]
        if homes:
            return homes[0], f" It belongs in {' or '.join(map(_home, homes))}."
        if (ours := _ELSEWHERE.get(key, "")) in self.known:
            return ours, f" Here it is {ours}."
        if close := difflib.get_close_matches(key, siblings, 1):
            return close[0], f" Did you mean {close[0]}?"
        names = {known.rpartition(".")[2]: known for known in reversed(self.known)}
        if far := difflib.get_close_matches(key, names, 1, cutoff=0.75):
            return names[far[0]], f" Did you mean {far[0]}, which belongs in {_home(names[far[0]])}?"
        return "", ""

    def add(self, path: KeyPath, message: str, expected: str = "", nearest: str = "") -> None:
        # What is missing has no line of its own: that of the table it is missing from.
        places = (self.lines.get(path[:length], 0) for length in range(len(path), 0, -1))
        line = next(filter(None, places), 0)
        self.problems.append(Problem(line, _dotted(path), message, expected, nearest))


def _known_keys(info: inspect.Type, prefix: str) -> Iterator[str]:
    """Every key below a type, dotted; names that the user chooses are a star."""
    info = unwrapped(info)
    if isinstance(info, inspect.StructType):
        for field in info.fields:
            yield f"{prefix}{field.encode_name}"
            yield from _known_keys(field.type, f"{prefix}{field.encode_name}.")
    elif isinstance(info, inspect.DictType):
        yield from _known_keys(info.value_type, f"{prefix}*.")
    elif isinstance(info, inspect.ListType):
        yield from _known_keys(info.item_type, prefix)


def _container(info: inspect.Type, value: Any) -> inspect.Type | None:
    """The part of a type that describes the inside of this table or list; None for a plain value."""
    info = unwrapped(info)
    kinds = info.types if isinstance(info, inspect.UnionType) else (info,)
    tables, lists = (inspect.StructType, inspect.DictType), (inspect.ListType,)
    wanted: tuple[type, ...] = tables if isinstance(value, dict) else lists if isinstance(value, list) else ()
    return next((kind for kind in map(unwrapped, kinds) if isinstance(kind, wanted)), None)


def _element_type(raw_type: Any, container: type) -> Any:
    """X of list[X] or dict[str, X], also where that stands inside Annotated or a union."""
    inner = get_args(raw_type)
    if get_origin(raw_type) is container:
        return inner[-1]
    found = (_element_type(each, container) for each in inner if not isinstance(each, msgspec.Meta))
    return next((each for each in found if each is not None), None)


def _dotted(path: KeyPath) -> str:
    names = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return safe(names[1:200] if names[:1] == "." else names[:200], keep_newlines=False)


def _section(path: KeyPath) -> str:
    return f"[{_dotted(path)}]" if path else "the top level"


def _home(known: str) -> str:
    section = known.rpartition(".")[0]
    return f"[{section.replace('*', 'NAME')}]" if section else "the top level, above all sections"
