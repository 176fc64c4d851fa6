"""A bench as a table that can be sorted, as answers beside each other, and as files. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len

from engine.contract.bench import Bench, Prompt, Row
from engine.contract.safe import safe

from .. import text
from .lines import Line

LEAST_COLUMN = 36  # cells that an answer needs beside others
_LEAST_NAME = 10
_GAP = " │ "
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True)
class Column:
    """`key`: what it sorts by; rows without an answer come last whichever way."""

    title: str
    cell: Callable[[Row], str]
    key: Callable[[Row], float | str]
    right: bool = True


def name(row: Row) -> str:
    """Whose answers, without the folders of a path."""
    model = row.candidate.model.rstrip("/")
    return plain(model.rpartition("/")[2] if model.startswith(("/", "~", ".")) else model)


def weights(row: Row) -> str:
    """How its weights stand in memory: bf16, nf4."""
    asked = row.candidate.quantize or row.candidate.precision
    return row.precision if row.quantization in ("", "none") and row.precision else row.quantization or asked


COLUMNS = (
    Column("model", name, lambda row: name(row).lower(), right=False),
    Column("weights", weights, weights, right=False),
    Column("preset", lambda row: plain(row.preset), lambda row: row.preset, right=False),
    Column("load", lambda row: f"{row.load_seconds:.1f} s", lambda row: row.load_seconds),
    Column("peak", lambda row: text.size(row.peak_bytes), lambda row: row.peak_bytes),
    Column("tok/s", lambda row: text.number(row.per_second), lambda row: row.per_second or 0.0),
    Column("tokens", lambda row: str(row.tokens), lambda row: row.tokens),
    Column("ended", lambda row: f"{row.ended}/{row.ended + row.cut}", lambda row: row.ended),
)
TITLES = [column.title for column in COLUMNS]
_RIGHT = frozenset(number for number, column in enumerate(COLUMNS) if column.right)


def ordered(bench: Bench, column: int | None = None, reverse: bool = False) -> list[int]:
    """Numbers of the rows, sorted by a column (None: as they were asked), those with an error last."""
    numbers = range(len(bench.rows))
    good = [number for number in numbers if not bench.rows[number].error]
    bad = [number for number in numbers if bench.rows[number].error]
    if column is not None:
        good.sort(key=lambda number: COLUMNS[column].key(bench.rows[number]))
    return [*(reversed(good) if reverse else good), *bad]


def cells(row: Row) -> list[str]:
    """The row's cells; of one with an error only who it was, and the error."""
    if row.error:
        return [name(row), weights(row), plain(row.preset)]
    return [column.cell(row) for column in COLUMNS]


def table(bench: Bench, order: Sequence[int], sorted_by: int | None = None, width: int = 0) -> list[str]:
    """The title and one line for every row of `order`; in `width` cells where names can be cut to fit."""
    heads = [f"{title}▾" if number == sorted_by else title for number, title in enumerate(TITLES)]
    rows = [cells(bench.rows[number]) for number in order]
    every = [heads, *(row + [""] * (len(TITLES) - len(row)) for row in rows)]
    lines = list(text.table(every, _RIGHT))
    names = max(cell_len(row[0]) for row in every)
    room = max(_LEAST_NAME, names - max(map(cell_len, lines)) + width)
    if width and room < names:
        lines = list(text.table([[text.fit(row[0], room), *row[1:]] for row in every], _RIGHT))
    errors = [plain(bench.rows[number].error) for number in order]
    found = zip(lines[1:], errors, strict=True)
    return [lines[0], *(f"{line.rstrip()}  {error}" if error else line for line, error in found)]


def question_lines(prompt: Prompt, width: int) -> list[Line]:
    """What was asked, and behind which system prompt."""
    lines: list[Line] = [[(line, "bold")] for line in text.wrap(safe(prompt.text), width)]
    if prompt.system:
        lines += [[(line, "dim")] for line in text.wrap(f"system: {safe(prompt.system)}", width)]
    return lines


def window(order: Sequence[int], at: int, width: int) -> list[int]:
    """As many rows as have room beside each other, that at place `at` among them."""
    room = max(1, (width + len(_GAP)) // (LEAST_COLUMN + len(_GAP)))
    start = max(0, min(at, len(order) - room))
    return list(order[start : start + room])


def answer_lines(bench: Bench, numbers: Sequence[int], prompt: Prompt, width: int, chosen: int = -1) -> list[Line]:
    """The answers of these rows to one prompt, beside each other; `chosen` is the row that stands out."""
    if not numbers:
        return []
    each = max(2, (width - len(_GAP) * (len(numbers) - 1)) // len(numbers))
    blocks = [_answer(bench, number, prompt, each, number == chosen) for number in numbers]
    lines: list[Line] = []
    for parts in zip_longest(*blocks, fillvalue=("", "")):
        line: Line = []
        for place, (said, role) in enumerate(parts):
            line += [(_GAP, "dim")] if place else []
            line.append((text.fit(said, each), role))
        lines.append(line)
    return lines


def _answer(bench: Bench, number: int, prompt: Prompt, width: int, chosen: bool) -> list[tuple[str, str]]:
    row = bench.rows[number]
    title = " · ".join(filter(None, (name(row), weights(row), plain(row.preset))))
    head = [(line, "answer" if chosen else "bold") for line in text.wrap(title, width)]
    said = bench.answer(number, prompt.id)
    if row.error or said is None:
        wrong = plain(row.error) or "no answer"
        lines = [(line, "error") for line in text.wrap(wrong, width)]
        return [*head, *lines, *((line, "dim") for line in text.wrap(plain(row.remedy), width) if row.remedy)]
    how = f"{text.plural(said.tokens, 'token')}, {'ended' if said.stop == 'end' else 'cut at the cap'}"
    body = safe(said.text) or "(nothing)"
    return [*head, (text.fit(how, width).rstrip(), "dim"), *((line, "") for line in _wrapped(body, width))]


def _wrapped(said: str, width: int) -> list[str]:
    """`said` in lines of at most `width` cells; what a line of code is indented by stays."""
    lines: list[str] = []
    for line in said.expandtabs(4).split("\n"):
        indent = " " * min(len(line) - len(line.lstrip(" ")), width // 2)
        lines += [indent + part for part in text.wrap(line, width - len(indent))]
    return lines


def as_csv(bench: Bench, order: Sequence[int]) -> str:
    """One line per row and prompt. What a spreadsheet would take for a formula is marked as text."""
    out = io.StringIO()
    writer = csv.writer(out)
    measured = ["load_seconds", "peak_bytes", "weight_bytes", "tokens_per_second"]
    writer.writerow(["model", "weights", "preset", *measured, "prompt", "tokens", "stop", "answer", "error"])
    for number in order:
        row = bench.rows[number]
        own = [row.candidate.model, weights(row), row.preset]
        numbers: list[object] = [""] * 4
        if not row.error:
            numbers = [f"{row.load_seconds:.3f}", row.peak_bytes, row.weight_bytes, f"{row.per_second or 0:.2f}"]
        for prompt in bench.header.prompts:
            said = bench.answer(number, prompt.id)
            answer = [said.tokens, said.stop, said.text] if said else ["", "", ""]
            writer.writerow([_harmless(value) for value in (*own, *numbers, prompt.id, *answer, row.error)])
    return out.getvalue()


def _harmless(value: object) -> object:
    if not isinstance(value, str):
        return value
    shown = safe(value)
    return f"'{shown}" if shown.lstrip(" ").startswith(_FORMULA) else shown


def as_markdown(bench: Bench, order: Sequence[int]) -> str:
    """The table, then every prompt with all answers; texts of models stand in fences that they cannot close."""
    rows = [TITLES, ["---"] * len(TITLES)]
    for number in order:
        found = cells(bench.rows[number])
        found[-1:] = [f"{found[-1]} {plain(bench.rows[number].error)}".strip()]
        rows.append(found + [""] * (len(TITLES) - len(found)))
    lines = ["# Models side by side", "", *(f"| {' | '.join(map(_cell, row))} |" for row in rows)]
    for prompt in bench.header.prompts:
        lines += ["", f"## {_cell(plain(prompt.id))}", "", *_fenced(prompt.text)]
        for number in order:
            said = bench.answer(number, prompt.id)
            if said is not None:
                row = bench.rows[number]
                title = ", ".join(filter(None, (name(row), weights(row), plain(row.preset))))
                stop = "ended" if said.stop == "end" else "cut"
                lines += ["", f"**{_cell(title)}** ({said.tokens} tokens, {stop})", "", *_fenced(said.text)]
    return "\n".join(lines) + "\n"


def _cell(said: str) -> str:
    return said.replace("|", "\\|").replace("<", "&lt;")


def _fenced(said: str) -> list[str]:
    longest = max((len(part) for part in re.findall("`+", said)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", safe(said), fence]


def plain(said: str) -> str:
    """Outside text on one line."""
    return safe(" ".join(said.split()), keep_newlines=False)
