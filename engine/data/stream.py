"""Rows of a file beyond memory, read and encoded while training."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from engine.data.conversation import BadRow, Conversation
from engine.data.convert import to_conversation
from engine.data.encode import Encoder
from engine.data.funnel import Funnel
from engine.data.prepare import BATCH, DataOptions, conversations, data_mapping, encoded, share_of
from engine.data.read import RecordStream, open_records
from engine.data.rows import EncodedRow
from engine.data.source import bad_data

if TYPE_CHECKING:
    from engine.data.index import Index

BUFFER_CHARS = 32 << 20  # a shuffle buffer holds no more text than this, however many rows were asked for
HELDOUT_ROWS = 200

Item = tuple[int, Conversation]


class Position(msgspec.Struct, kw_only=True):
    """Where a pass through a file stands, in numbers of records alone: what they say is in the file.

    `record` is read next, those in `buffer` wait for their turn in this order, those in `ready` come first. `ended`:
    the file is through, and the buffer in its last order. `draws`: the state of the random numbers.
    """

    epoch: int
    record: int
    buffer: list[int]
    ready: list[int]
    ended: bool
    draws: list[int]
    funnel: Funnel


class RowStream:
    """The rows of `options.train` in the seed's order, in bounded memory.

    Every `iter()` begins the file anew. The order depends on the seed and on `epoch` alone. Rows whose hash says held
    out are left out.
    """

    def __init__(self, options: DataOptions, encoder: Encoder) -> None:
        """Looks at the first rows only. Sets `encoder.join`. Raises MoltingError as `prepare` does."""
        self.options = options
        self.encoder = encoder
        self.mapping = data_mapping(options)
        encoder.join = self.mapping.join
        self.epoch = 0
        self.whole: Funnel | None = None  # of a pass that came to its end
        self._pass: Pass | None = None

    @property
    def funnel(self) -> Funnel:
        """Where the rows of a whole pass went, once there was one; before, those of the pass that runs so far."""
        return self.whole or (self._pass.counted() if self._pass else Funnel())

    @property
    def position(self) -> int:
        """Bytes of the file read in this pass."""
        return self._pass.records.position if self._pass else 0

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return open_records(self.options.train).size

    def estimated(self) -> int:
        """About how many records the file has, judged by those read so far; 0 before the first."""
        records = self._pass.records if self._pass else None
        return round(records.read * self.size / records.position) if records and records.position else 0

    def set_epoch(self, epoch: int) -> None:
        """Which pass the next `iter()` is: another order of the same rows."""
        self.epoch = epoch

    def __iter__(self) -> Pass:
        """The rows to train on. Raises MoltingError where the file cannot be read on."""
        self._pass = Pass(self, open_records(self.options.train))
        return self._pass

    def go_on(self, at: Position, known: Index) -> Pass:
        """The rest of the pass that stood at `at`: the file is read from its oldest waiting record on."""
        from engine.data import index  # numpy: only a pass that goes on needs it

        self.epoch = at.epoch
        oldest = min([at.record, *at.buffer, *at.ready])
        first, records = index.open_at(known, oldest)
        records.first, records.counted_from = first, at.record
        self._pass = Pass(self, records, at)
        return self._pass

    def heldout(self, limit: int = HELDOUT_ROWS) -> list[EncodedRow]:
        """The first `limit` held-out rows; the file is read no further than they need."""
        path = self.options.heldout or self.options.train
        items = conversations(open_records(path), self.mapping, Funnel())
        chosen = items if self.options.heldout else (item for item in items if self.is_heldout(item[1]))
        return [row for _, row in islice(encoded(islice(chosen, limit), self.encoder, Funnel()), limit)]

    def is_heldout(self, conversation: Conversation) -> bool:
        """Whether the row's hash keeps it from being trained on."""
        fraction = 0.0 if self.options.heldout else self.options.heldout_fraction
        return fraction > 0 and share_of(conversation, self.options.seed) < fraction


class Pass(Iterator[EncodedRow]):
    """One pass through the file. Between two rows, `position()` tells all that is needed to go on from there."""

    def __init__(self, stream: RowStream, records: RecordStream, at: Position | None = None) -> None:
        self.records = records
        self._stream, self._epoch, self._record = stream, stream.epoch, at.record if at else 0
        self._funnel = _copy(at.funnel) if at else Funnel()
        self._read = iter(records)
        self._waiting = Shuffled(
            self._kept(self._record),
            stream.options.shuffle_buffer,
            random.Random(f"{stream.options.seed}:{self._epoch}"),
        )
        self._ready: deque[tuple[int, EncodedRow]] = deque()
        if at:
            found = self._read_again({*at.buffer, *at.ready})
            self._waiting.go_on([(number, found[number]) for number in at.buffer], at.draws, ended=at.ended)
            self._ready.extend(self._encode([(number, found[number]) for number in at.ready]))

    def __next__(self) -> EncodedRow:
        while not self._ready:
            batch = list(islice(self._waiting, BATCH))
            if not batch:
                self._stream.whole = self.counted()
                raise StopIteration
            self._ready.extend(self._encode(batch))
        _, row = self._ready.popleft()
        self._funnel.train(row)
        return row

    def position(self) -> Position:
        """Where this pass stands."""
        return Position(
            epoch=self._epoch,
            record=self._record,
            buffer=[number for number, _ in self._waiting.buffer],
            ready=[number for number, _ in self._ready],
            ended=self._waiting.ended,
            draws=list(self._waiting.order.getstate()[1]),
            funnel=self.counted(),
        )

    def counted(self) -> Funnel:
        """Where the rows went so far; those that wait for their turn count as not read yet."""
        funnel = _copy(self._funnel)
        funnel.damaged(self.records)
        funnel.read = sum(funnel.dropped.values()) + funnel.heldout + funnel.trained
        return funnel

    def _read_again(self, wanted: set[int]) -> dict[int, Conversation]:
        """What waits, by number. It is read no further than it needs, so nothing new is taken."""
        found: dict[int, Conversation] = {}
        while len(found) < len(wanted):
            record = next(self._read, None)
            if record is None:
                raise bad_data(self.records.path, "has fewer records than when the run was stopped", "Put it back.")
            if record.index in wanted:
                found[record.index] = to_conversation(record.value, self._stream.mapping)
        return found

    def _kept(self, start: int) -> Iterator[Item]:
        """The rows to train on from record `start` on."""
        for record in self._read:
            if record.index < start:
                continue
            self._record = record.index + 1
            try:
                conversation = to_conversation(record.value, self._stream.mapping)
            except BadRow as bad:
                self._funnel.drop(record.index, bad.why)
                continue
            if self._stream.is_heldout(conversation):
                self._funnel.heldout += 1
            else:
                yield record.index, conversation

    def _encode(self, batch: list[Item]) -> Iterator[tuple[int, EncodedRow]]:
        rows = self._stream.encoder.encode_all([conversation for _, conversation in batch])
        for (number, _), row in zip(batch, rows, strict=True):
            if isinstance(row, BadRow):
                self._funnel.drop(number, row.why)
            else:
                yield number, row


class Shuffled(Iterator[Item]):
    """The items in random order, as far as `size` of them (or BUFFER_CHARS of their text) held at a time allow."""

    def __init__(self, items: Iterable[Item], size: int, order: random.Random) -> None:
        self.buffer: list[Item] = []  # once `ended`, the last comes first
        self.order, self.ended = order, False
        self._items, self._size, self._chars = iter(items), size, 0

    def go_on(self, buffer: list[Item], draws: list[int], *, ended: bool) -> None:
        """Take over what an earlier shuffle held, and the state of its random numbers."""
        self.buffer, self.ended = buffer, ended
        self.order.setstate((3, tuple(draws), None))
        self._chars = sum(map(_chars, buffer))

    def __next__(self) -> Item:
        while not self.ended:
            if len(self.buffer) > self._size or self._chars > BUFFER_CHARS:
                return self._pick()
            item = next(self._items, None)
            if item is None:
                self.ended = True
                self.order.shuffle(self.buffer)
                self.buffer.reverse()
            else:
                self.buffer.append(item)
                self._chars += _chars(item)
        if not self.buffer:
            raise StopIteration
        return self.buffer.pop()

    def _pick(self) -> Item:
        chosen = self.order.randrange(len(self.buffer))
        self.buffer[chosen], self.buffer[-1] = self.buffer[-1], self.buffer[chosen]
        picked = self.buffer.pop()
        self._chars -= _chars(picked)
        return picked


def _chars(item: Item) -> int:
    return sum(len(turn.content) for turn in item[1].turns)


def _copy(funnel: Funnel) -> Funnel:
    return msgspec.structs.replace(funnel, dropped=dict(funnel.dropped), examples=list(funnel.examples))
