"""Curation: what a run answered for its own next set of rows, and what a person made of it.

`curation/<n>.jsonl` is a batch: a header, one line per answer with what the gates said of it, a seal. Never changed.
`curation/<n>.choices.jsonl` are the choices: who chooses, then one line per key; the last word counts. What they add up
to is `fold`, a pure function. A line is on the disk before `ChoiceFile.say` returns.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Union

import msgspec
from msgspec import Meta

from .durable import explain, make_private_dir, write_new, write_replace
from .errors import MoltingError
from .journal import MAX_LINE, JournalWriter
from .locks import FileLock
from .plainfile import read_plain
from .rundir import RunDir
from .sheets import Decoding, Stop

VERSION = 1
LIMIT = 64 << 20  # bytes of a file
MOST = 20_000  # answers of a batch
Text = Annotated[str, Meta(max_length=100_000)]


class CurateRequest(msgspec.Struct, kw_only=True):
    """Verb `curate`: measure a run and let it answer each prompt `k` times.

    `prompts`: a file of the user's own, asked besides the shipped ones; with `only` instead of them. `gates` false
    makes the unfiltered control. `measure_only`: no answers. Temperature 0 or None: the run's own, else 0.8.
    """

    run: str
    models: str
    k: int = 2
    prompts: str = ""
    only: bool = False
    facts: str = ""
    gates: bool = True
    temperature: Union[float, None] = None
    seed: int = 0
    measure_only: bool = False


class Candidate(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True, tag_field="k", tag="candidate"):
    """One answer. `gate` names the gate that refused it and `why` says the reason; both empty where it passed."""

    id: str
    prompt: str
    answer: str
    sample: int = 0
    seed: int = 0
    tokens: int = 0
    stop: Stop = ""
    gate: str = ""
    why: str = ""


class Header(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="k", tag="header"):
    """What all answers of a batch have in common. `gated` false: the control, in which refused answers stay."""

    run: str
    t: float
    v: int = VERSION
    adapter: str = ""  # sha256 of the weights that spoke
    per_prompt: int = 1
    prompts: int = 0
    gated: bool = True
    decoding: Decoding = Decoding()
    notes: list[str] = []


class Seal(msgspec.Struct, kw_only=True, tag_field="k", tag="seal"):
    """The last line: how many answers, and the sha256 of every byte before it."""

    candidates: int
    sha256: str


@dataclass(frozen=True)
class Batch:
    """A sealed batch. `name` is its number as text."""

    name: str
    header: Header
    candidates: list[Candidate]
    sha256: str

    @property
    def offered(self) -> list[Candidate]:
        """What there is to choose from: what passed the gates; in a control everything."""
        return [each for each in self.candidates if not (each.gate and self.header.gated)]

    @property
    def refused(self) -> Counter[str]:
        """Answers by the gate that refused them, or would have."""
        return Counter(each.gate for each in self.candidates if each.gate)


_parts = msgspec.json.Decoder(Union[Header, Candidate, Seal])
_encoder = msgspec.json.Encoder()


def write(run: RunDir, header: Header, candidates: Sequence[Candidate]) -> Batch:
    """A new batch of `run`, sealed and durable. MoltingError when the disk refuses or an answer is over 1 MiB."""
    lines = [_encoder.encode(part) for part in (header, *candidates)]
    if max(map(len, lines)) > MAX_LINE:
        raise MoltingError("An answer is longer than 1 MiB, which no batch holds.", code=2)
    body = b"".join(line + b"\n" for line in lines)
    seal = Seal(candidates=len(candidates), sha256=hashlib.sha256(body).hexdigest())
    name = str(max((int(path.stem) for path in listed(run)), default=0) + 1)
    with _said("write the answers"):
        make_private_dir(run.curation)
        write_new(run.curation / f"{name}.jsonl", body + _encoder.encode(seal) + b"\n")
    return Batch(name, header, list(candidates), seal.sha256)


def listed(run: RunDir) -> list[Path]:
    """Files of the run's batches, oldest first."""
    found = [path for path in run.curation.glob("*.jsonl") if path.stem.isdecimal() and not path.is_symlink()]
    return sorted(found, key=lambda path: int(path.stem))


def read(path: Path) -> Batch:
    """A sealed batch. MoltingError when it is unfinished, damaged, changed since, or of a newer version."""
    try:
        raw = read_plain(path, LIMIT)
    except FileNotFoundError:
        raise MoltingError(f"There is no batch {path}.", code=2) from None
    lines = raw.split(b"\n")
    try:
        header, *candidates, seal = [_parts.decode(line) for line in lines[:-1]]
    except (ValueError, RecursionError) as error:
        raise MoltingError(f"{path} is damaged: {str(error)[:200]}.") from None
    body = raw[: len(raw) - len(lines[-2]) - 1]
    sound = isinstance(header, Header) and isinstance(seal, Seal) and not lines[-1]
    if not sound or seal.sha256 != hashlib.sha256(body).hexdigest() or seal.candidates != len(candidates):
        raise MoltingError(f"{path} has changed since it was sealed, so nothing in it is used.")
    if header.v > VERSION:
        raise MoltingError(f"{path} was written by a newer Molting (version {header.v}).")
    if not all(isinstance(each, Candidate) for each in candidates) or len({each.id for each in candidates}) < len(
        candidates
    ):
        raise MoltingError(f"{path} contradicts itself: an answer stands twice in it.")
    return Batch(path.stem, header, candidates, seal.sha256)


class Opened(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="k", tag="open"):
    """First line of the choices: of which batch, and who chooses. "gates": all that passed; "nobody": all there is."""

    batch_hash: str
    t: float
    by: Literal["person", "gates", "nobody"] = "person"
    v: int = VERSION


class Keep(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="k", tag="keep"):
    """The answer goes into the next set; `text` where the person wrote it otherwise."""

    item: str
    text: Text = ""
    t: float = 0.0


class Reject(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="k", tag="reject"):
    item: str
    t: float = 0.0


class Undo(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="k", tag="undo"):
    """Takes back the last choice that was not taken back yet."""

    t: float = 0.0


Choice = Union[Keep, Reject]
AnyEvent = Union[Keep, Reject, Undo]
_head = msgspec.json.Decoder(Opened)
_events = msgspec.json.Decoder(AnyEvent)


def standing(events: Iterable[AnyEvent]) -> list[Choice]:
    """The choices that were not taken back, in order."""
    found: list[Choice] = []
    for event in events:
        if not isinstance(event, Undo):
            found.append(event)
        elif found:
            found.pop()
    return found


def fold(events: Iterable[AnyEvent], offered: Sequence[Candidate]) -> dict[str, Choice]:
    """The last word on each answer that was offered; choices about others change nothing."""
    known = {each.id for each in offered}
    return {choice.item: choice for choice in standing(events) if choice.item in known}


@dataclass
class Choices:
    """A batch with what was chosen. `damaged` counts complete lines that could not be used and were passed over."""

    batch: Batch
    opened: Opened
    events: list[AnyEvent] = field(default_factory=list)
    damaged: int = 0

    @property
    def decided(self) -> dict[str, Choice]:
        return fold(self.events, self.batch.offered)

    @property
    def complete(self) -> bool:
        return len(self.decided) == len(self.batch.offered)

    @property
    def kept(self) -> list[tuple[Candidate, str]]:
        """Answers that were kept, with the text to learn."""
        decided = self.decided
        found = []
        for each in self.batch.offered:
            choice = decided.get(each.id)
            if isinstance(choice, Keep):
                found.append((each, choice.text or each.answer))
        return found


def choices_path(run: RunDir, batch: Batch) -> Path:
    return run.curation / f"{batch.name}.choices.jsonl"


def read_choices(run: RunDir, batch: Batch) -> Union[Choices, None]:
    """What was chosen of a batch so far; None where nobody began. MoltingError for choices of another batch."""
    path = choices_path(run, batch)
    try:
        raw = read_plain(path, LIMIT)
    except FileNotFoundError:
        return None
    first, *lines = raw.split(b"\n")[:-1] or [b""]
    try:
        opened = _head.decode(first)
    except (ValueError, RecursionError) as error:
        raise MoltingError(f"{path} is damaged, so its choices cannot be used: {str(error)[:200]}.") from None
    if opened.v > VERSION or opened.batch_hash != batch.sha256:
        raise MoltingError(f"{path} does not belong to the batch {batch.name}, or is of a newer Molting.")
    found = Choices(batch, opened)
    for line in lines:
        try:
            found.events.append(_events.decode(line))
        except (ValueError, RecursionError):
            found.damaged += bool(line)  # an empty line is where a torn one was closed
    return found


def newest(run: RunDir, name: str = "") -> Choices:
    """The batch of that name, or the newest, with its choices. MoltingError (code 2) where there is none."""
    found = {path.stem: path for path in listed(run)}
    if name and name not in found:
        there = f"There are: {', '.join(found)}." if found else ""
        raise MoltingError(f"{run.id} has no batch {name!r}.", remedy=there, code=2)
    if not found:
        raise MoltingError(f"{run.id} has no answers to choose from yet.", remedy=f"`molting curate {run.id}`", code=2)
    batch = read(found[name or list(found)[-1]])
    return read_choices(run, batch) or Choices(batch, Opened(batch_hash=batch.sha256, t=0.0))


class ChoiceFile:
    """Choices being written, by one process at a time. `say` returns when the line is on the disk."""

    def __init__(self, run: RunDir, batch: Batch, by: Literal["person", "gates", "nobody"] = "person") -> None:
        """Begin or continue. MoltingError when another process is at it, or the disk refuses."""
        path = choices_path(run, batch)
        self._lock = FileLock(path.with_name(f".{batch.name}.lock"))
        if not self._lock.acquire():
            raise MoltingError(f"Batch {batch.name} of {run.id} is being curated in another window.", code=3)
        try:
            with _said("save the choice"):
                if not path.exists():
                    head = Opened(batch_hash=batch.sha256, t=time.time(), by=by)
                    write_replace(path, _encoder.encode(head) + b"\n")
                self._journal = JournalWriter(path, exclusive=False)
        except BaseException:
            self._lock.release()
            raise

    def say(self, event: AnyEvent) -> None:
        """Append one event durably, stamped with the time unless it has one. MoltingError when the disk refuses."""
        event.t = event.t or time.time()
        with _said("save the choice"):
            self._journal.write(_encoder.encode(event), durable=True)

    def close(self) -> None:
        """Let others write it; closing twice is allowed."""
        with _said("save the choice"):
            self._journal.close()
        self._lock.release()


def keep_all(run: RunDir, batch: Batch) -> Choices:
    """Keep everything that is offered and not yet decided, without a person; the file says so."""
    file = ChoiceFile(run, batch, "gates" if batch.header.gated else "nobody")
    try:
        before = read_choices(run, batch)
        decided = before.decided if before else {}
        for each in batch.offered:
            if each.id not in decided:
                file.say(Keep(item=each.id))
    finally:
        file.close()
    return newest(run, batch.name)


@contextlib.contextmanager
def _said(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain(error, doing) from error
