"""From files to rows: read, detect, convert, encode, hold out. `stream.py` does it for files beyond memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import msgspec

from engine.contract.errors import MoltingError
from engine.data.conversation import BadRow, Conversation
from engine.data.convert import Mapping, to_conversation
from engine.data.detect import detect
from engine.data.encode import Encoder
from engine.data.funnel import Funnel
from engine.data.read import RecordStream, open_records
from engine.data.rows import EncodedRow

SAMPLES = 200  # rows looked at to detect the format
SAMPLE_BYTES = 32 << 20  # but no further into the file than this, for rows may be huge
BATCH = 64  # rows encoded in one exchange


class DataOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to teach with. `heldout`: a file of its own; without one, `heldout_fraction` is taken from `train`."""

    train: Path
    heldout: Path | None = None
    heldout_fraction: float = 0.1
    format: str = "auto"
    fields: dict[str, str] = {}
    title_template: str = ""
    seed: int = 42
    shuffle_buffer: int = 2000


class Prepared(msgspec.Struct, frozen=True):
    """Rows to train on and rows held out, each in the order of its file; where all rows went; how they were read."""

    train: list[EncodedRow]
    heldout: list[EncodedRow]
    funnel: Funnel
    mapping: Mapping


def prepare(options: DataOptions, encoder: Encoder) -> Prepared:
    """All rows of the files, encoded. `encoder.join` is set to what the format puts after a prompt.

    Raises MoltingError (bad_data) for files that cannot be read, formats that are not known, and when no row to
    train on is left.
    """
    mapping = data_mapping(options)
    encoder.join = mapping.join
    funnel = Funnel()
    pairs = list(_whole_file(options.train, mapping, encoder, funnel))
    shares = [share_of(conversation, options.seed) for conversation, _ in pairs]
    taken = set() if options.heldout else hold_out(shares, options.heldout_fraction)
    train = [row for i, (_, row) in enumerate(pairs) if i not in taken]
    heldout = [row for i, (_, row) in enumerate(pairs) if i in taken]
    if options.heldout:
        heldout = [row for _, row in _whole_file(options.heldout, mapping, encoder, funnel)]
    for row in train:
        funnel.train(row)
    funnel.heldout = len(heldout)
    if not train:
        raise no_rows(options.train, funnel)
    return Prepared(train, heldout, funnel, mapping)


def _whole_file(
    path: Path, mapping: Mapping, encoder: Encoder, funnel: Funnel
) -> Iterator[tuple[Conversation, EncodedRow]]:
    stream = open_records(path)
    yield from encoded(conversations(stream, mapping, funnel), encoder, funnel)
    funnel.damaged(stream)


def data_mapping(options: DataOptions) -> Mapping:
    """How the rows of the training file are read, judged by its first SAMPLES rows."""
    stream = open_records(options.train)
    samples = []
    for record in stream:
        samples.append(record.value)
        if len(samples) == SAMPLES or record.offset > SAMPLE_BYTES:
            break
    if not samples:
        funnel = Funnel()
        funnel.damaged(stream)
        raise no_rows(options.train, funnel)
    return detect(samples, format=options.format, fields=options.fields, title_template=options.title_template)


def hold_out(shares: list[float], fraction: float) -> set[int]:
    """Which rows are held out: those whose share of the hash space is below `fraction`.

    A row's side depends on nothing but itself and the seed, so added rows move no other, and duplicates stay
    together. From 10 rows on at least one is held out, and at least one is always left.
    """
    taken = {i for i, share in enumerate(shares) if share < fraction}
    if not taken and fraction > 0 and len(shares) >= 10:
        taken = {min(range(len(shares)), key=shares.__getitem__)}
    if shares and len(taken) == len(shares):
        taken.remove(max(taken, key=shares.__getitem__))
    return taken


def share_of(conversation: Conversation, seed: int) -> float:
    """The row's place in the hash space, in [0, 1)."""
    digest = hashlib.blake2b(f"{seed}".encode(), digest_size=8)
    for turn in conversation.turns:
        digest.update(f"\x00{turn.role}\x01{turn.content}".encode())
    return int.from_bytes(digest.digest(), "big") / 2**64


def conversations(stream: RecordStream, mapping: Mapping, funnel: Funnel) -> Iterator[tuple[int, Conversation]]:
    """(row number, conversation) of every row that holds one; all others are counted as dropped."""
    for record in stream:
        try:
            yield record.index, to_conversation(record.value, mapping)
        except BadRow as bad:
            funnel.drop(record.index, bad.why)


def encoded(
    items: Iterable[tuple[int, Conversation]], encoder: Encoder, funnel: Funnel
) -> Iterator[tuple[Conversation, EncodedRow]]:
    """Every conversation with its row, encoded in batches; those that make no row are counted as dropped."""
    items = iter(items)
    while batch := list(islice(items, BATCH)):
        rows = encoder.encode_all([conversation for _, conversation in batch])
        for (index, conversation), row in zip(batch, rows, strict=True):
            if isinstance(row, BadRow):
                funnel.drop(index, row.why)
            else:
                yield conversation, row


def no_rows(path: Path, funnel: Funnel) -> MoltingError:
    """The error for a file of which no row is left to train on."""
    reasons = "; ".join(f"{count} {why}" for why, count in funnel.dropped.items())
    return MoltingError(
        f"No row of {path} can be trained on: {funnel.read} read, {funnel.heldout} held out"
        f"{f', dropped: {reasons}' if reasons else ''}.",
        remedy="Mend the rows, or say in data.format and data.fields how they are to be read.",
        reason="bad_data",
        code=1,
    )
