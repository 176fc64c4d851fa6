"""Grade files: `grades/<rater>-<n>.jsonl`, one line per key press that matters. Never rewritten; the last word counts.

The first line says who grades what; the rest are events. What they add up to is `grading.fold`, a pure function: no
total is ever stored. `GradeFile.say` returns only when the line is on the disk, so "saved" is true.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Union

import msgspec
from msgspec import Meta

from .durable import explain, make_private_dir, write_replace
from .errors import MoltingError
from .journal import JournalWriter
from .locks import FileLock
from .plainfile import read_plain
from .rubric import Rubric
from .rundir import RunDir, slug

VERSION = 1
LIMIT = 64 << 20  # bytes of a grade file
Short = Annotated[str, Meta(max_length=20_000)]


class Event(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="k"):
    """`t` is Unix seconds."""

    t: float = 0.0


class Opened(Event, tag="open"):
    """The first line: who grades which sheet by which rubric, in the order that `seed` gives."""

    rater: str
    sheet: str  # its name
    sheet_hash: str
    rubric: Rubric
    rubric_hash: str
    v: int = VERSION
    adapter: str = ""
    kind: Literal["person", "model", "unknown"] = "person"
    blind: Union[bool, None] = True  # whether the rater was kept from knowing whose answers these are; None: not known
    origin: Literal["own", "imported"] = "own"
    mode: Literal["cells", "pairs"] = "cells"
    seed: int = 0
    voices: list[str] = msgspec.field(
        default_factory=lambda: ["adapter"]
    )  # which voices are graded; in pairs: one against the other
    samples: list[int] = msgspec.field(default_factory=lambda: [0])  # which samples of each
    extras: bool = True  # duplicates and calibration answers are mixed in
    against: str = ""  # pairs: seal of the other run's sheet; its path is `against_path`
    against_path: str = ""
    notes: list[str] = []


class Cell(Event, tag="cell"):
    """A level for one dimension of one slot. It reopens a committed slot."""

    item: str
    dimension: str
    level: int


class Comment(Event, tag="comment"):
    """Replaces the comment on a dimension, or on the whole answer where `dimension` is empty."""

    item: str
    text: Short
    dimension: str = ""


class Quote(Event, tag="quote"):
    """Words of the answer, from character `start` to `end`; imported reasons only have the words (start = end = -1).

    The fold marks a quote whose words are not at its place (or, without a place, nowhere in the answer).
    """

    item: str
    text: Short
    start: int = -1
    end: int = -1
    dimension: str = ""


class Skip(Event, tag="skip"):
    """Not graded now; it comes again when the others are done. `on` false takes it back."""

    item: str
    on: bool = True


class Flag(Event, tag="flag"):
    """Marked to be looked at again."""

    item: str
    on: bool = True


class Commit(Event, tag="commit"):
    """The answer is graded. `key` is that of the slot: hash of answer, rubric and adapter."""

    item: str
    key: str


class Checked(Event, tag="check"):
    """What the rater made of a machine pre-check, after the commit: `accepted` puts `level` in place of their own.

    Both stay readable: the own one in the cell, this one here.
    """

    item: str
    rule: str
    accepted: bool
    dimension: str = ""
    level: Union[int, None] = None


class Total(Event, tag="total"):
    """Imported only: points of one answer as a whole, where the file has no cells."""

    item: str
    points: float
    of: float


class Duel(Event, tag="duel"):
    """Pairs: which of two answers is better, by the side it was shown on. `swapped`: the first was on the right."""

    item: str
    choice: Literal["left", "right", "tie", "bad"]
    swapped: bool


class Go(Event, tag="go"):
    """The rater moved there; nothing is changed by it."""

    item: str
    dimension: str = ""


class Undo(Event, tag="undo"):
    """Takes back the last event that was not taken back yet, also of an earlier answer."""


class Pause(Event, tag="pause"):
    """The clock stands still until `Resume`, or the next key."""


class Resume(Event, tag="resume"):
    pass


AnyEvent = Union[Cell, Comment, Quote, Skip, Flag, Commit, Checked, Total, Duel, Go, Undo, Pause, Resume]

_head = msgspec.json.Decoder(Opened)
_decoder = msgspec.json.Decoder(AnyEvent)
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True)
class Recorded:
    """A grade file as it was read. `damaged` counts complete lines that could not be used and were passed over."""

    path: Path
    opened: Opened
    events: list[AnyEvent] = field(default_factory=list)
    damaged: int = 0


def read(path: Path) -> Recorded:
    """Everything whole in a grade file; a torn last line is not there yet. MoltingError where its head is unusable."""
    try:
        raw = read_plain(path, LIMIT)
    except FileNotFoundError:
        raise MoltingError(f"There is no grade file {path}.", code=2) from None
    first, *lines = raw.split(b"\n")[:-1] or [b""]
    try:
        opened = _head.decode(first)
    except (ValueError, RecursionError) as error:
        raise MoltingError(f"{path} is damaged, so its grades cannot be used: {str(error)[:200]}.") from None
    if opened.v > VERSION:
        raise MoltingError(f"{path} was written by a newer Molting (version {opened.v}).")
    if opened.rubric_hash != opened.rubric.fingerprint:
        raise MoltingError(f"{path} contradicts itself: its rubric is not the one it names.")
    events: list[AnyEvent] = []
    damaged = 0
    for line in lines:
        try:
            events.append(_decoder.decode(line))
        except (ValueError, RecursionError):
            damaged += bool(line)  # an empty line is where a torn one was closed
    return Recorded(path, opened, events, damaged)


def listed(run: RunDir) -> list[Path]:
    """Grade files of the run, the one written last at the end."""
    found = [file for file in run.grades.glob("*.jsonl") if not file.is_symlink()] if run.grades.is_dir() else []
    return sorted(found, key=lambda file: (file.lstat().st_mtime_ns, file.name))


class GradeFile:
    """One grading being written, by one process at a time. `say` returns when the line is on the disk (about 4 ms)."""

    def __init__(self, path: Path, head: bytes = b"") -> None:
        """Continue a grade file, or begin it with `head`. MoltingError when another process is writing it, or the disk
        refuses."""
        self.path = path
        self._lock = FileLock(path.with_name(f".{path.stem}.lock"))
        if not self._lock.acquire():
            raise MoltingError(
                f"{path.name} is being graded in another window.", remedy="Go on there, or close it first.", code=3
            )
        try:
            with _said():
                if head and not path.exists():
                    write_replace(path, head)  # whole or not there: a grading without its head is none
                self._journal = JournalWriter(path, exclusive=False)
        except BaseException:
            self._lock.release()
            raise

    @classmethod
    def create(cls, run: RunDir, opened: Opened) -> GradeFile:
        """Begin a grading of `run`: a new file, its first line written."""
        with _said():
            make_private_dir(run.grades)
        stem = slug(opened.rater)
        numbers = [int(tail) for file in listed(run) if (tail := file.stem.removeprefix(f"{stem}-")).isdecimal()]
        opened.rubric_hash = opened.rubric.fingerprint
        opened.t = opened.t or time.time()
        return cls(run.grades / f"{stem}-{max(numbers, default=0) + 1}.jsonl", _encoder.encode(opened) + b"\n")

    def say(self, event: AnyEvent) -> None:
        """Append one event durably, stamped with the time unless it has one. MoltingError when the disk refuses."""
        event.t = event.t or time.time()
        with _said():
            self._journal.write(_encoder.encode(event), durable=True)

    def close(self) -> None:
        """Let others write it; closing twice is allowed."""
        with _said():
            self._journal.close()
        self._lock.release()

    def __enter__(self) -> GradeFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextlib.contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain(error, "save the grade") from error
