"""Answer sheets: `answers/<name>.jsonl`, what a model said to the questions of a rubric, frozen with how it was made.

The first line is the header, then one line per answer, and last a seal: how many answers, and the sha256 of every byte
before it. A file without a seal was never finished and is not graded; one that does not fit its seal is refused.
What was not recorded is None or empty, never guessed.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Union

import msgspec

from .durable import explain
from .errors import MoltingError
from .journal import MAX_LINE, JournalWriter
from .plainfile import read_plain
from .rubric import Rubric
from .rundir import RunDir

VERSION = 1
LIMIT = 64 << 20  # bytes of a sheet
Voice = Literal["base", "adapter", "checkpoint"]
Stop = Literal["end", "cap", ""]  # by itself, cut at the cap, not recorded


def main_voice(voices: Sequence[str]) -> str:
    """The voice that a score without further words is about: what was learned goes before the base."""
    return next((voice for voice in ("adapter", "checkpoint", "base") if voice in voices), "")


class Decoding(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """How answers were drawn. None: not recorded. `temperature` is that of the samples; sample 0 is always greedy."""

    max_new_tokens: Union[int, None] = None
    temperature: Union[float, None] = None
    top_p: Union[float, None] = None
    top_k: Union[int, None] = None
    repetition_penalty: Union[float, None] = None
    seed: Union[int, None] = None
    samples: Union[int, None] = None  # seeded ones, besides the greedy one


class Header(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="k", tag="header"):
    """What every answer of the sheet has in common. `t` is Unix seconds; hashes are hex."""

    name: str
    run: str
    rubric: Rubric
    t: float
    v: int = VERSION
    origin: Literal["own", "imported"] = "own"
    rubric_hash: str = ""  # of `rubric`; a reader computes it again and refuses another
    adapter: str = ""  # sha256 of the weights that the adapter's voice spoke with
    base: str = ""  # fingerprint of the base model
    model: str = ""  # its name
    template: str = ""  # sha256 of the chat template
    system: Union[str, None] = None  # the system prompt itself; "" is none, None not recorded
    system_hash: str = ""
    decoding: Decoding = Decoding()
    checkpoint: Union[int, None] = None  # step whose weights the voice "checkpoint" has
    versions: dict[str, str] = {}
    sources: dict[str, str] = {}  # files that were imported: name -> sha256
    recorded: dict[str, str] = {}  # what an imported file says of itself, as text
    notes: list[str] = []  # what is odd about the answers, a sentence each


class Item(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="k", tag="item"):
    """One answer. `sample` 0 is greedy, 1 to K are drawn with `seed`; `tokens` counts the end token too."""

    id: str
    question_id: str
    question: str
    voice: Voice
    answer: str
    sample: int = 0
    seed: Union[int, None] = None
    tokens: Union[int, None] = None
    stop: Stop = ""


class Seal(msgspec.Struct, kw_only=True, tag_field="k", tag="seal"):
    items: int
    sha256: str


class Sheet(msgspec.Struct, kw_only=True):
    """A sealed sheet. `sha256` is its seal, which grade files name."""

    header: Header
    items: list[Item]
    sha256: str

    def item(self, wanted: str) -> Item | None:
        return next((item for item in self.items if item.id == wanted), None)

    def of(self, voice: str, sample: int | None = None) -> list[Item]:
        """The answers of one voice, of one sample only unless None, in the order of the sheet."""
        return [item for item in self.items if item.voice == voice and sample in (None, item.sample)]

    @property
    def voices(self) -> list[str]:
        """Those there are, in the order base, adapter, checkpoint."""
        found = {item.voice for item in self.items}
        return [voice for voice in ("base", "adapter", "checkpoint") if voice in found]

    @property
    def main_voice(self) -> str:
        """The one that a score without further words is about."""
        return main_voice(self.voices)


_decoder = msgspec.json.Decoder(Union[Header, Item, Seal])
_encoder = msgspec.json.Encoder()


class SheetWriter:
    """Writes one sheet, answer by answer; it counts only after `seal`. Leaving the body early leaves it unsealed."""

    def __init__(self, run: RunDir, header: Header) -> None:
        header.rubric_hash = header.rubric.fingerprint
        self.path = run.sheet(header.name)
        self._digest, self._items = hashlib.sha256(), 0
        with _said("write the answer sheet"):
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            self._journal = JournalWriter(self.path)
        self._put(header)

    def __enter__(self) -> SheetWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._journal.close()

    def add(self, item: Item) -> None:
        """Append one answer. MoltingError for one over 1 MiB, or when the disk refuses."""
        self._put(item)
        self._items += 1

    def seal(self) -> str:
        """End the sheet durably; its sha256."""
        found = self._digest.hexdigest()
        self._put(Seal(items=self._items, sha256=found), durable=True)
        return found

    def _put(self, part: Union[Header, Item, Seal], durable: bool = False) -> None:
        line = _encoder.encode(part)
        if len(line) > MAX_LINE:
            what = f"The answer {part.id}" if isinstance(part, Item) else "The rubric with its texts"
            raise MoltingError(f"{what} is longer than 1 MiB, which no answer sheet holds.", code=2)
        with _said("write the answer sheet"):
            self._journal.write(line, durable)
        self._digest.update(line + b"\n")


@contextlib.contextmanager
def _said(doing: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise MoltingError(f"{error.filename} exists already.", remedy="Try again: another name is taken.") from None
    except OSError as error:
        raise explain(error, doing) from error


def read(path: Path) -> Sheet:
    """A sealed sheet. MoltingError when it is unfinished, damaged, changed since, or of a newer version."""
    try:
        raw = read_plain(path, LIMIT)
    except FileNotFoundError:
        raise MoltingError(f"There is no answer sheet {path}.", code=2) from None
    lines = raw.split(b"\n")
    if not raw.endswith(b"\n") or len(lines) < 3 or b'"k":"seal"' not in lines[-2]:
        raise MoltingError(
            f"{path} was never sealed: its answers were not all written.", remedy="`molting answers` makes a new sheet."
        )
    try:
        header, *items, seal = (_decoder.decode(line) for line in lines[:-1])
    except (ValueError, RecursionError) as error:
        raise MoltingError(f"{path} is damaged: {str(error)[:200]}.") from None
    body = raw[: len(raw) - len(lines[-2]) - 1]
    sound = isinstance(header, Header) and all(isinstance(item, Item) for item in items) and isinstance(seal, Seal)
    if not sound or seal.items != len(items) or seal.sha256 != hashlib.sha256(body).hexdigest():
        raise MoltingError(f"{path} has changed since it was sealed, so nothing in it is graded or compared.")
    if header.v > VERSION:
        raise MoltingError(f"{path} was written by a newer Molting (version {header.v}).")
    if header.rubric_hash != header.rubric.fingerprint or len({item.id for item in items}) != len(items):
        raise MoltingError(f"{path} contradicts itself: its rubric is not the one it names, or an id stands twice.")
    return Sheet(header=header, items=items, sha256=seal.sha256)


def listed(run: RunDir) -> list[Path]:
    """Files of the run's sheets, oldest first, sealed or not."""
    found = [file for file in run.answers.glob("*.jsonl") if not file.is_symlink()] if run.answers.is_dir() else []
    return sorted(found, key=lambda file: (file.lstat().st_mtime_ns, file.name))


def readable(run: RunDir) -> tuple[list[Sheet], list[str]]:
    """Every sealed sheet of the run, oldest first, and a sentence for each file that is none."""
    sheets, problems = [], []
    for file in listed(run):
        try:
            sheets.append(read(file))
        except MoltingError as error:
            problems.append(error.message)
    return sheets, problems


def new_name(run: RunDir, rubric: Rubric) -> str:
    """A name for the next sheet of `run`: the rubric's and a number."""
    taken = {file.stem for file in listed(run)}
    return next(name for n in range(1, len(taken) + 2) if (name := f"{rubric.name}-{n}") not in taken)


def write(run: RunDir, header: Header, items: Iterable[Item]) -> Path:
    """A whole sheet at once, sealed; its file."""
    with SheetWriter(run, header) as writer:
        for item in items:
            writer.add(item)
        writer.seal()
    return writer.path


def weights_hash(files: dict[str, str]) -> str:
    """One hash for the weights of a sealed directory, of the names and sha256 of its files. Empty without weights."""
    weights = sorted((name, digest) for name, digest in files.items() if name.endswith(".safetensors"))
    return hashlib.sha256(repr(weights).encode()).hexdigest() if weights else ""
