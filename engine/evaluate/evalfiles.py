"""Answers and scores as other people's scripts wrote them: found by their shape, whatever they are nested in. Pure.

Shapes of score files: (a) questions in a table, each with `d1: {score, reason}`; (b) the same in a list; (c) a list
with `scores: {d1: 0, …}`; (d) one `score` of `max_score` for each question and no cells. Files differ in names and
nesting, so the largest group of entries that look like answers, or like grades, is taken.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from engine.contract.errors import MoltingError
from engine.contract.plainfile import read_plain
from engine.contract.safe import safe

LIMIT = 32 << 20  # bytes of a file of answers or scores
_NODES = 500_000  # values that are looked at
_DEPTH = 60
_LONGEST = 200_000  # characters of one answer

_ANSWER: tuple[str, ...] = ("response", "answer", "output", "completion", "generated_text", "generated", "reply")
_ANSWER += ("text", "resposta", "model_response", "model_answer", "content")
_QUESTION = ("question", "prompt", "input", "instruction", "pergunta", "query", "q")
_ID = ("qid", "question_id", "id", "label", "key", "number", "index")
_CELLS = ("scores", "cells", "dimensions", "grades", "ratings", "criteria", "dims", "notas")
_VALUE = ("score", "value", "points", "level", "rating", "grade", "nota")
_REASON = ("reason", "reasons", "rationale", "justification", "comment", "note", "notes", "explanation", "motivo")
_TOTAL = ("total", "score", "sum", "points", "raw", "subtotal", "total_score", "nota")
_MAX = ("max_score", "max", "out_of", "max_points", "possible", "max_total", "of")
_STOP = ("stop", "stop_reason", "finish_reason", "finish", "ended")
_TOKENS = ("tokens", "new_tokens", "n_tokens", "num_tokens", "completion_tokens")
_CELL_KEY = re.compile(r"(?:d|dim|dimension|criterion|c)[ _-]?(\d{1,2})(?![0-9])", re.IGNORECASE)
_QID = re.compile(r"(?:q|question|pergunta)?[ _-]?\d{1,4}$", re.IGNORECASE)
_ENDED = {"end": "end", "eos": "end", "stop": "end", "end_of_text": "end", "cap": "cap", "length": "cap"}
_ENDED |= {"max_tokens": "cap", "max_new_tokens": "cap", "max_length": "cap", "truncated": "cap"}


@dataclass(frozen=True)
class Spoken:
    """One answer of a file. Ids and questions are empty where the file has none."""

    id: str
    question: str
    answer: str
    stop: str = ""
    tokens: int | None = None


@dataclass(frozen=True)
class Typed:
    """A number as somebody typed it: 5, 2.9, "2.9/10", "81.3 %". `value` is exact; `of` is what follows a slash."""

    text: str
    value: Fraction
    decimals: int
    of: Fraction | None = None
    percent: bool = False


@dataclass
class Graded:
    """What a file says of one answer. `cells` by the file's own names, as typed; `turned` are those where it says
    that lower is better."""

    id: str
    question: str
    cells: dict[str, Typed] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)  # cells that are no number
    turned: dict[str, bool] = field(default_factory=dict)  # cell -> whether lower is better, where the file says so
    reasons: dict[str, str] = field(default_factory=dict)  # "" for the answer as a whole
    total: Typed | None = None
    of: Typed | None = None
    preview: str = ""


@dataclass(frozen=True)
class Scores:
    """A file of scores. `rest` is all that stands around the grades: rater, totals, settings."""

    graded: list[Graded]
    shape: str
    rest: Any


def load(path: Path, what: str) -> Any:
    """The JSON (or JSON lines) in a file. MoltingError (code 2), one sentence, for anything else."""
    shown = safe(str(path), keep_newlines=False)
    try:
        raw = read_plain(path, LIMIT)
    except FileNotFoundError:
        raise MoltingError(f"There is no file {shown}.", remedy=f"Give the file of {what}.", code=2) from None
    except MoltingError as error:
        raise MoltingError(error.message, remedy=f"Give the file of {what}, in JSON.", code=2) from None
    try:
        text = raw.decode("utf-8-sig")
        return _lines(text) if path.suffix == ".jsonl" else _decoded(text)
    except UnicodeDecodeError:
        raise MoltingError(f"{shown} is not UTF-8 text.", remedy="Save it as UTF-8.", code=2) from None
    except RecursionError:
        raise MoltingError(f"{shown} is nested too deeply to be a file of {what}.", code=2) from None
    except ValueError as error:
        said = safe(str(error), keep_newlines=False)[:120]
        raise MoltingError(f"{shown} is not JSON: {said}.", remedy=f"Give the file of {what}.", code=2) from None


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        if "\n" in text.strip() and text.lstrip().startswith("{"):
            try:
                return _lines(text)
            except ValueError:
                pass
        raise


def _lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def spoken(data: Any) -> list[Spoken]:
    """The answers in a file's data: of the largest group that has any, each with its text. Empty where none are."""
    best: list[Spoken] = []
    for group in _groups(data):
        found = [made for name, entry in group if (made := _spoken(name, entry))]
        best = max(best, found, key=len)
    if not best and isinstance(data, dict):
        texts = {key: value for key, value in data.items() if isinstance(value, str) and "?" in key}
        best = [Spoken("", key, value[:_LONGEST]) for key, value in texts.items()]
    return best


def _spoken(name: str, entry: Any) -> Spoken | None:
    answer = _first(entry, _ANSWER, str)
    question = _first(entry, _QUESTION, str) or ""
    if answer is None or (not question and not name and not _id_of(entry)):
        return None
    tokens = _first(entry, _TOKENS, int)
    stop = _ENDED.get(str(_first(entry, _STOP, str) or "").casefold(), "")
    return Spoken(_id_of(entry) or name, question, answer[:_LONGEST], stop, tokens)


def scores(data: Any) -> Scores:
    """The grades in a file's data. MoltingError (code 2) where there are none."""
    groups = list(_groups(data))
    candidates = [([made for name, entry in group if (made := _graded(name, entry))], group) for group in groups]
    candidates = [(found, group) for found, group in candidates if found]
    with_cells = [(found, group) for found, group in candidates if any(each.cells or each.odd for each in found)]
    chosen = max(with_cells or candidates, key=lambda pair: len(pair[0]), default=None)
    if chosen is None:
        if any("agent_patterns_found" in entry or "auto_d4_score" in entry for group in groups for _, entry in group):
            raise MoltingError(
                "This is what a pattern check found, not a grading: it has no scores to import.",
                remedy="Give the file in which somebody scored the answers.",
                code=2,
            )
        raise MoltingError(
            "No scores were found in this file.",
            remedy="Each question needs cells such as d1: {score, reason}, or one score with its max_score.",
            code=2,
        )
    found, group = chosen
    named = bool(group and group[0][0])
    shape = ("a" if named else "b" if _nested(group[0][1]) else "c") if with_cells else "d"
    return Scores(found, shape, _without(data, [entry for _, entry in group]))


def _nested(entry: dict[str, Any]) -> bool:
    return not any(isinstance(entry.get(key), (dict, list)) for key in _CELLS)


def _graded(name: str, entry: dict[str, Any]) -> Graded | None:
    made = Graded(_id_of(entry) or name, _first(entry, _QUESTION, str) or "")
    for key, value in _cells_of(entry):
        _take_cell(made, key, value)
    made.total, made.of = _number_of(entry, _TOTAL), _number_of(entry, _MAX)
    if reason := _first(entry, _REASON, str):
        made.reasons[""] = reason
    made.preview = _first(entry, ("response_preview", "preview", "answer_preview"), str) or ""
    known = made.cells or made.odd or (made.total is not None and (made.question or _QID.match(made.id)))
    pattern_check = "agent_patterns_found" in entry or "auto_d4_score" in entry
    return made if known and not pattern_check else None


def _cells_of(entry: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name, value) of everything that looks like a cell: keys like `d1`, or whatever stands in a table of cells."""
    for key, value in entry.items():
        if _CELL_KEY.match(key) and not key.casefold().endswith(("auto_fail", "auto_score")):
            yield key, value
    for key in _CELLS:
        inner = entry.get(key)
        if isinstance(inner, dict):
            yield from ((name, value) for name, value in inner.items() if not _is_no_cell(name))
        elif isinstance(inner, list):
            for each in inner:
                named = isinstance(each, dict) and _first(each, ("dimension", "id", "name", "criterion"), str)
                if named:
                    yield named, each


def _is_no_cell(name: str) -> bool:
    return name.casefold() in (*_TOTAL, *_MAX, *_REASON) or bool(_QID.match(name)) or "?" in name


def _take_cell(made: Graded, key: str, value: Any) -> None:
    key = key.strip()[:80]
    if isinstance(value, dict):
        reason = _first(value, _REASON, str)
        if reason:
            made.reasons[key] = reason
        lower = lower_is_better(value)
        if lower is not None:
            made.turned[key] = lower
        value = next((value[name] for name in _VALUE if name in value), None)
    if value is None:
        return
    typed = number(value)
    if typed is None:
        made.odd[key] = safe(str(value), keep_newlines=False)[:40]
    else:
        made.cells[key] = typed


def lower_is_better(table: dict[str, Any]) -> bool | None:
    """What a table says about direction: {"lower_is_better": true}, {"direction": "lower"}, …; None: nothing."""
    for key, value in table.items():
        name = key.casefold().replace("-", "_")
        if name in ("lower_is_better", "reversed", "reverse", "inverted", "inverse") and isinstance(value, bool):
            return value
        if name == "higher_is_better" and isinstance(value, bool):
            return not value
        if name in ("direction", "better", "polarity") and isinstance(value, str):
            return bool(re.match(r"low|min|down|desc|neg|invers|revers|menor", value.casefold()))
    return None


def directions(rest: Any) -> dict[str, bool]:
    """Cell name -> whether lower is better, as the rest of a file declares it."""
    found: dict[str, bool] = {}
    for key, value in _walk(rest):
        name = key.casefold().replace("-", "_")
        if name in ("lower_is_better", "reversed", "reverse", "inverted", "reversed_criteria", "reversed_dimensions"):
            found |= {each: True for each in value if isinstance(each, str)} if isinstance(value, list) else {}
            found |= {value: True} if isinstance(value, str) else {}
        if isinstance(value, dict):
            lower = lower_is_better(value)
            own = _first(value, ("dimension", "id", "criterion"), str) or key
            if lower is not None and own:
                found[own] = lower
    return found


_NUMBER = re.compile(
    r"^\s*([+-]?\d{1,12}(?:[.,]\d{1,12})?)\s*(?:(%)|(?:/|of|de|out of)\s*(\d{1,9}(?:[.,]\d{1,6})?))?", re.IGNORECASE
)


def number(value: Any) -> Typed | None:
    """A number, or text that begins with one; None for anything else. Booleans and infinities are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and abs(value) > 10**12:
        return None
    text = format(value, "f").rstrip("0").rstrip(".") if isinstance(value, float) and "e" in repr(value) else str(value)
    found = _NUMBER.match(text)
    if not found or (isinstance(value, str) and len(text) > 60):
        return None
    plain = found[1].replace(",", ".")
    decimals = len(plain.partition(".")[2])
    of = Fraction(found[3].replace(",", ".")) if found[3] else None
    return Typed(text.strip(), Fraction(plain), decimals, of or None, bool(found[2]))


def _number_of(entry: dict[str, Any], keys: tuple[str, ...]) -> Typed | None:
    return next((typed for key in keys if (typed := number(entry.get(key))) is not None), None)


def _first(entry: Any, keys: tuple[str, ...], kind: type) -> Any:
    if not isinstance(entry, dict):
        return None
    for key in keys:
        value = entry.get(key)
        if isinstance(value, kind) and not isinstance(value, bool):
            return value
    return None


def _id_of(entry: dict[str, Any]) -> str:
    for key in _ID:
        value = entry.get(key)
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return str(value)[:60]
    return ""


def _groups(data: Any) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Every list or table of tables anywhere in `data`: (its key in the table or "", the entry)."""
    containers = [data, *(value for _, value in _walk(data))]
    for each in containers:
        if isinstance(each, list):
            group = [("", entry) for entry in each if isinstance(entry, dict)]
        elif isinstance(each, dict):
            group = [(str(key), entry) for key, entry in each.items() if isinstance(entry, dict)]
        else:
            continue
        if group:
            yield group


def _walk(data: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """(key, value) of everything inside, depth first, up to a limit."""
    pending = [("", data, 0)]
    seen = 0
    while pending and seen < _NODES:
        key, value, depth = pending.pop()
        if depth:
            yield key, value
        seen += 1
        if depth >= _DEPTH:
            continue
        if isinstance(value, dict):
            pending += [(str(name), inner, depth + 1) for name, inner in reversed(value.items())]
        elif isinstance(value, list):
            pending += [("", inner, depth + 1) for inner in reversed(value)]


def _without(data: Any, entries: list[Any]) -> Any:
    """`data` without the graded entries: what is left speaks of the whole."""
    gone = {id(entry) for entry in entries}

    def kept(value: Any, depth: int) -> Any:
        if depth > _DEPTH:
            return None
        if isinstance(value, dict):
            return {key: kept(inner, depth + 1) for key, inner in value.items() if id(inner) not in gone}
        if isinstance(value, list):
            return [kept(inner, depth + 1) for inner in value if id(inner) not in gone]
        return value

    return kept(data, 0)
