"""Reads what the checks look at: rows, tokenizer, facts table, questions. A bounded part of anything huge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import msgspec

from engine.contract import rubric, tomlcheck
from engine.contract.errors import MoltingError
from engine.contract.safe import safe
from engine.contract.spec import Spec
from engine.data.conversation import BadRow, Conversation
from engine.data.convert import Mapping, to_conversation
from engine.data.encode import Encoder
from engine.data.funnel import Funnel
from engine.data.of_spec import options
from engine.data.prepare import BATCH, data_mapping, hold_out, share_of
from engine.data.read import Record, RecordStream, open_records
from engine.data.rows import EncodedRow
from engine.data.tokenizer import TokenizerFiles
from engine.models import rope
from engine.models.files import read_json_object, read_regular
from engine.models.inspect import weight_files
from engine.models.safetensors_header import read_header
from engine.train import freeze

from .case import Example, Facts, Questions, Tokens

STREAM_ROWS = 500  # rows of a huge file that are looked at
SIZED_BY = 4 << 20  # bytes of rows by which the number of all is judged
TEXTS = 5_000  # rows whose texts are compared with one another
LONGEST = 1 << 20  # tokens; for measuring rows that were too long
MEASURED = 50  # of them
TABLE_LIMIT = 1 << 20
_FITS_NOT = "longer than"


@dataclass
class Gathered:
    """Rows of a spec's files with their conversations, and where the others went."""

    mapping: Mapping
    funnel: Funnel = field(default_factory=Funnel)
    rows: list[EncodedRow] = field(default_factory=list)
    kept: list[Example] = field(default_factory=list)
    unfit: list[Example] = field(default_factory=list)  # too long to be learned, but read all the same
    heldout: list[EncodedRow] = field(default_factory=list)
    heldout_examples: list[Example] = field(default_factory=list)
    dropped: dict[str, list[int]] = field(default_factory=dict)
    too_long: list[tuple[int, int]] = field(default_factory=list)
    own_heldout_file: bool = False
    sampled: int = 0
    estimated_rows: int = 0

    @property
    def examples(self) -> list[Example]:
        """All rows of the training file that hold a conversation, in its order, the held-out share too."""
        share = [] if self.own_heldout_file else self.heldout_examples
        return sorted([*self.kept, *self.unfit, *share], key=lambda example: example.number)

    def drop(self, number: int, why: str) -> None:
        self.funnel.drop(number - 1, why)
        self.dropped.setdefault(why, []).append(number)


def rows(spec: Spec, encoder: Encoder) -> Gathered:
    """The rows exactly as training will have them (engine.data.prepare); of a stream the first ones.

    Raises MoltingError where the file cannot be read at all. A file of which no row is left is no error here.
    """
    chosen = options(spec)
    mapping = data_mapping(chosen)
    encoder.join = mapping.join
    gathered = Gathered(mapping, own_heldout_file=bool(chosen.heldout))
    limit = STREAM_ROWS if spec.data.stream else None
    stream = open_records(chosen.train)
    records = iter(stream)
    pairs = list(_encoded(records, limit, gathered, encoder))
    if limit is None:
        gathered.funnel.damaged(stream)
    else:
        _sampled(gathered, stream, records)
    shares = [share_of(conversation, chosen.seed) for _, conversation, _ in pairs]
    taken = set() if chosen.heldout else hold_out(shares, chosen.heldout_fraction)
    for i, (number, conversation, row) in enumerate(pairs):
        example = Example(number, tuple(conversation.turns), conversation.kind)
        if i in taken:
            gathered.heldout.append(row)
            gathered.heldout_examples.append(example)
        else:
            gathered.rows.append(row)
            gathered.kept.append(example)
            gathered.funnel.train(row)
    if chosen.heldout:
        _from_heldout_file(chosen.heldout, gathered, encoder, limit)
    gathered.funnel.heldout = len(gathered.heldout)
    return gathered


def _encoded(
    stream: Iterable[Record], limit: int | None, gathered: Gathered, encoder: Encoder
) -> Iterator[tuple[int, Conversation, EncodedRow]]:
    items = iter(list(_conversations(stream, limit, gathered)))
    long: list[tuple[int, Conversation]] = []
    while batch := list(islice(items, BATCH)):
        for (number, conversation), row in zip(batch, encoder.encode_all([c for _, c in batch]), strict=True):
            if isinstance(row, BadRow):
                gathered.drop(number, row.why)
                if row.why.startswith(_FITS_NOT) or "answer longer than" in row.why:
                    long.append((number, conversation))
            else:
                yield number, conversation, row
    _measure(long, gathered, encoder)


def _measure(long: list[tuple[int, Conversation]], gathered: Gathered, encoder: Encoder) -> None:
    """How long the rows are that did not fit."""
    gathered.unfit += [Example(number, tuple(each.turns), each.kind) for number, each in long]
    most, encoder.max_length = encoder.max_length, LONGEST
    try:
        measured = encoder.encode_all([conversation for _, conversation in long[:MEASURED]])
    finally:
        encoder.max_length = most
    lengths = [0 if isinstance(row, BadRow) else len(row.input_ids) for row in measured]
    longest = max(lengths, default=0)
    lengths += [longest] * (len(long) - len(lengths))
    gathered.too_long += [(number, length) for (number, _), length in zip(long, lengths, strict=True)]


def _conversations(
    stream: Iterable[Record], limit: int | None, gathered: Gathered
) -> Iterator[tuple[int, Conversation]]:
    for record in islice(stream, limit):
        try:
            yield record.index + 1, to_conversation(record.value, gathered.mapping)
        except BadRow as bad:
            gathered.drop(record.index + 1, bad.why)


def _sampled(gathered: Gathered, stream: RecordStream, records: Iterator[Record]) -> None:
    """A stream was read as far as its first rows: how many it has is told from the size of some more."""
    gathered.sampled = gathered.funnel.read = stream.read
    for _ in records:
        if stream.position > SIZED_BY:
            gathered.estimated_rows = _rough(stream.size * stream.read / stream.position)
            return
    gathered.estimated_rows = stream.read


def _rough(count: float) -> int:
    """Two telling digits."""
    digits = max(0, len(str(int(count))) - 2)
    return round(count / 10**digits) * 10**digits


def _from_heldout_file(path: Path, gathered: Gathered, encoder: Encoder, limit: int | None) -> None:
    aside = Gathered(gathered.mapping)
    for number, conversation, row in _encoded(open_records(path), limit, aside, encoder):
        gathered.heldout.append(row)
        gathered.heldout_examples.append(Example(number, tuple(conversation.turns), conversation.kind))


def tokens(files: TokenizerFiles, encoder: Encoder) -> Tokens:
    """What tokenizer and template say about special tokens."""
    names, tokenizer, shape = dict(files.tokens), encoder.tokenizer, encoder.shape
    known = frozenset(str(token.content) for token in tokenizer.get_added_tokens_decoder().values())
    return Tokens(
        names=names,
        known=known,
        bos_id=tokenizer.token_to_id(names["bos_token"]) if names.get("bos_token") else None,
        eos_ids=tuple(files.eos_ids),
        eos_texts=tuple(text for each in files.eos_ids if (text := tokenizer.id_to_token(each))),
        stop_ids=frozenset(encoder.stop_ids),
        template=encoder.template.source if encoder.template else None,
        own_template=files.chat_template,
        written=shape.header + shape.tail if shape else "",
        end_text=shape.tail if shape else "",
        end=shape.end if shape else None,
        default_system=shape.default_system if shape else "",
        takes_system=shape.takes_system if shape else True,
    )


def window(folder: Path) -> int:
    """Tokens that the model takes by its own configuration; 0 where it does not say."""
    try:
        config = read_json_object(folder / "config.json", 16 << 20)
    except (OSError, ValueError):
        return 0
    value = config.get("max_position_embeddings", config.get("n_positions"))
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 40 else 0


def modules(folder: Path) -> frozenset[str]:
    """Full names of the layers that have weights."""
    names = (name for file in weight_files(folder) for name in read_header(folder / file))
    return frozenset(name.removesuffix(".weight") for name in names)


def unstretchable(folder: Path) -> str:
    """Why the positions of the model cannot be stretched, as far as its configuration says; empty for no reason."""
    try:
        return rope.unstretchable(read_json_object(folder / "config.json", 16 << 20))
    except (OSError, ValueError):
        return ""


class _Table(msgspec.Struct):
    facts: dict[str, object] = {}
    forbidden: list[str] = []


def facts(*folders: Path) -> Facts:
    """The facts.toml beside spec or rows, empty where there is none. MoltingError (code 2) for a broken one."""
    for folder in folders:
        file = folder / "facts.toml"
        if file.is_file():
            return facts_in(file)
    return Facts()


def facts_in(file: Path) -> Facts:
    """A facts table. MoltingError (code 2) for a broken one."""
    try:
        text = read_regular(file, TABLE_LIMIT).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MoltingError(f"{file} cannot be read: {error}.", code=2) from None
    try:
        table = tomlcheck.load(text, _Table)
    except tomlcheck.SpecError as error:
        raise tomlcheck.SpecError(safe(str(file), keep_newlines=False), error.problems) from None
    listed = {key: tuple(_texts(value)) for key, value in table.facts.items()}
    single = {key: values[0] for key, values in listed.items() if len(values) == 1}
    return Facts(single, listed, tuple(table.forbidden), file.name)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield str(value)


def judged(spec: Spec, folder: Path) -> Facts:
    """Facts of the rubric that judges this persona: `rubric.toml` beside the spec, else the shipped one of its name.

    Empty where there is no such rubric, or a broken one: that is told where it is used.
    """
    shipped = rubric.shipped()
    own = folder / "rubric.toml"
    file = own if own.is_file() else shipped.get(spec.name)
    if file is None:
        return Facts()
    try:
        told = rubric.load(file).facts
    except (MoltingError, OSError):
        return Facts()
    listed = {key: tuple(_texts(value)) for key, value in told.items()}
    return Facts(listed=listed, file=f"the rubric {spec.name}" if file != own else file.name)


def questions(spec: Spec) -> list[Questions]:
    """The probe questions of a spec, and those of the rubrics that ship: a persona may be judged by them."""
    found = []
    probes = freeze.probes(spec)
    if spec.evaluation.probes:
        found.append(Questions("probe questions", tuple(probes)))
    for name, file in rubric.shipped().items():
        try:
            texts = tuple(question.text for question in rubric.load(file).questions)
        except (MoltingError, OSError):
            continue  # a rubric that is broken is told where it is used
        found.append(Questions(f"questions of the rubric {name}", texts, given=name == spec.name))
    return found


def placeholders(examples: Iterable[Example]) -> int:
    """Rows that `molting init` wrote and nobody replaced."""
    return sum(any("Replace this row" in turn.content for turn in example.turns) for example in examples)
