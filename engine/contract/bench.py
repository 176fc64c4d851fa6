"""Models side by side: what is asked, of whom, what came of it, and the file that keeps it.

A bench is one file of JSON lines, `runs/.bench/ID.jsonl`: a header, then for every model and every way to ask it one
row and one line per answer. What was measured before an interruption stays.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Union

import msgspec
from msgspec import Meta

from . import durable, places, tomlcheck
from .errors import MoltingError
from .journal import JournalReader, JournalWriter
from .plainfile import read_plain
from .safe import safe
from .spec import Generation

MAX_PROMPTS = 200
_MAX_PROMPT = 100_000  # characters
_MAX_TEXT = 100_000  # characters of an answer that are kept
_FOLDER = ".bench"

Quantize = Literal["", "none", "nf4", "int8"]
Precision = Literal["", "bf16", "fp16", "fp32"]


class Prompt(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One question. `system`: instead of the model's own system prompt; empty leaves that."""

    id: Annotated[str, Meta(min_length=1, max_length=80)]
    text: Annotated[str, Meta(min_length=1, max_length=_MAX_PROMPT)]
    system: Annotated[str, Meta(max_length=_MAX_PROMPT)] = ""


class PromptSet(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A file of prompts, as those in `data/prompts`."""

    title: str
    language: str
    prompts: Annotated[list[Prompt], Meta(min_length=1, max_length=MAX_PROMPTS)]


class Way(msgspec.Struct, kw_only=True, frozen=True):
    """How answers are made, and what that is called."""

    preset: str
    options: Generation


class Candidate(msgspec.Struct, kw_only=True, frozen=True):
    """Whose answers: a model ("demo", a folder, a GGUF file, a hub id), or what a run learned (`run` is its path).

    Empty `quantize` and `precision`: those of the run, else chosen for the device.
    """

    model: str
    run: str = ""
    quantize: Quantize = ""
    precision: Precision = ""

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.model, self.quantize, self.precision)))


class BenchRequest(msgspec.Struct, kw_only=True):
    """Verb `bench`: one candidate, in a process of its own, asked all prompts in every way."""

    candidate: Candidate
    models: str
    prompts: list[Prompt]
    ways: list[Way]


class Said(msgspec.Struct, kw_only=True, tag_field="k", tag="said"):
    """One answer: of row number `row` to prompt `prompt`. `stop`: its end token, or the cap."""

    row: int
    prompt: str
    text: str
    tokens: int
    stop: Literal["end", "cap"]


class Row(msgspec.Struct, kw_only=True, tag_field="k", tag="row"):
    """What one candidate took, asked in one way. With an `error` there is nothing else to say.

    load_seconds   from the first byte read to the first token
    peak_bytes     most memory while loading and answering, of the GPU, else of the process, over what it began with
    seconds        all answers; `tokens` were made in them, several answers at a time
    """

    candidate: Candidate
    preset: str = ""
    options: Generation | None = None
    precision: str = ""
    quantization: str = ""
    device: str = ""
    load_seconds: float = 0.0
    peak_bytes: int = 0
    weight_bytes: int = 0
    tokens: int = 0
    seconds: float = 0.0
    ended: int = 0
    cut: int = 0
    error: str = ""
    remedy: str = ""
    notes: list[str] = []

    @property
    def per_second(self) -> float | None:
        return self.tokens / self.seconds if self.seconds > 0 and not self.error else None


class Benched(msgspec.Struct, kw_only=True):
    """Result of `bench`; the `row` of an answer counts within it."""

    rows: list[Row]
    said: list[Said]


class Header(msgspec.Struct, kw_only=True, tag_field="k", tag="bench"):
    """How a bench began: the questions, and whom to ask."""

    t: float
    sets: list[str]
    prompts: list[Prompt]
    candidates: list[Candidate]


class Bench(msgspec.Struct, kw_only=True):
    """All of a bench, as far as it came."""

    id: str
    path: str
    header: Header
    rows: list[Row]
    said: list[Said]

    @property
    def complete(self) -> bool:
        return {row.candidate for row in self.rows} >= set(self.header.candidates)

    def answer(self, row: int, prompt: str) -> Said | None:
        return next((said for said in self.said if said.row == row and said.prompt == prompt), None)


_Record = Union[Header, Row, Said]


def shipped() -> list[str]:
    """Names of the prompt sets that ship with Molting."""
    return sorted(path.stem for path in (places.shipped() / "prompts").glob("*.toml"))


def read_prompts(wanted: Sequence[str]) -> list[Prompt]:
    """The prompts of files and of shipped sets: `reasoning-pt`, `reasoning` for all its languages, `all`.

    MoltingError (code 2) for what is neither, SpecError for a file that is wrong.
    """
    found = [prompt for each in wanted for file in _files(each) for prompt in _read(file)]
    if len(found) > MAX_PROMPTS:
        message = f"These are {len(found)} prompts; {MAX_PROMPTS} is the most."
        raise MoltingError(message, remedy="Give fewer of them.", code=2)
    ids = [prompt.id for prompt in found]
    if twice := next((each for each in ids if ids.count(each) > 1), ""):
        raise MoltingError(f"Two prompts have the id {twice!r}.", remedy="Give each an id of its own.", code=2)
    return found


def _files(wanted: str) -> list[Path]:
    known = shipped()
    names = [name for name in known if wanted == "all" or name == wanted or name.rpartition("-")[0] == wanted]
    if names:
        return [places.shipped() / "prompts" / f"{name}.toml" for name in names]
    path = Path(wanted).expanduser()
    if path.is_file():
        return [path]
    raise MoltingError(
        f"There are no prompts {safe(wanted[:200], False)!r}.",
        remedy=f"Give a .toml or .txt file, or one of: all, {', '.join(known)}.",
        code=2,
    )


def _read(file: Path) -> list[Prompt]:
    """A file in the shape of the shipped ones; any other is text, one prompt a line."""
    if file.suffix == ".toml":
        return tomlcheck.load(file, PromptSet).prompts
    try:
        lines = read_plain(file, 4 << 20).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MoltingError(f"{file} cannot be read as text: {error}.", code=2) from None
    prompts = [
        Prompt(id=f"{file.stem[:60]}-{number}", text=line.strip()[:_MAX_PROMPT])
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not prompts:
        raise MoltingError(f"{file} holds no prompts.", remedy="Write one a line.", code=2)
    return prompts


class BenchFile:
    """A bench that is being written; what `add` took is on the disk. MoltingError where the disk refuses."""

    def __init__(self, runs: Path, sets: Sequence[str], prompts: list[Prompt], candidates: list[Candidate]) -> None:
        self.id = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        self.path = folder(runs) / f"{self.id}.jsonl"
        self._rows = 0
        header = Header(t=time.time(), sets=list(sets), prompts=prompts, candidates=candidates)
        try:
            durable.make_private_dir(self.path.parent)
            self._journal = JournalWriter(self.path)
        except OSError as error:
            raise durable.explain(error, "keep the answers") from error
        self._write([header])

    def add(self, benched: Benched) -> None:
        said = (_numbered(each, self._rows) for each in benched.said)
        self._write([*benched.rows, *said])
        self._rows += len(benched.rows)

    def close(self) -> None:
        self._journal.close()

    def _write(self, records: Iterable[_Record]) -> None:
        try:
            for record in records:
                self._journal.write(msgspec.json.encode(record))
            self._journal.sync()
        except (OSError, ValueError) as error:
            cause = error if isinstance(error, OSError) else OSError(str(error))
            raise durable.explain(cause, "keep the answers") from error


def _numbered(said: Said, rows: int) -> Said:
    return msgspec.structs.replace(said, row=said.row + rows, text=said.text[:_MAX_TEXT])


def folder(runs: Path) -> Path:
    """Where benches lie."""
    return runs / _FOLDER


def listed(runs: Path) -> list[Path]:
    """The files of all benches, the newest first."""
    return sorted(folder(runs).glob("*.jsonl"), reverse=True)


def load(path: Path) -> Bench:
    """A saved bench; lines that cannot be used are passed over. MoltingError where it has no header."""
    records = list(_records(path))
    if not records or not isinstance(records[0], Header):
        raise MoltingError(f"{path} is not a saved bench.", remedy="`molting bench` lists those there are.", code=2)
    rows = [record for record in records if isinstance(record, Row)]
    said = [record for record in records if isinstance(record, Said) and 0 <= record.row < len(rows)]
    return Bench(id=path.stem, path=str(path), header=records[0], rows=rows, said=said)


def _records(path: Path) -> Iterator[_Record]:
    for line in JournalReader(path).read():
        try:
            yield msgspec.json.decode(line, type=_Record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
