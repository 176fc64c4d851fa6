"""Rows of a file beyond memory, read and encoded while training."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import islice

from engine.data.conversation import Conversation
from engine.data.encode import Encoder
from engine.data.funnel import Funnel
from engine.data.prepare import DataOptions, conversations, data_mapping, encoded, share_of
from engine.data.read import RecordStream, open_records
from engine.data.rows import EncodedRow

BUFFER_CHARS = 32 << 20  # a shuffle buffer holds no more text than this, however many rows were asked for
HELDOUT_ROWS = 200

Item = tuple[int, Conversation]


class RowStream:
    """The rows of `options.train` in the seed's order, in bounded memory.

    Every `iter()` begins the file anew. The order depends on the seed and on `epoch` alone, so a resumed run that
    skips what it has seen goes on with the same rows. Rows whose hash says held out are left out.
    """

    def __init__(self, options: DataOptions, encoder: Encoder) -> None:
        """Looks at the first rows only. Sets `encoder.join`. Raises MoltingError as `prepare` does."""
        self.options = options
        self.encoder = encoder
        self.mapping = data_mapping(options)
        encoder.join = self.mapping.join
        self.epoch = 0
        self.funnel = Funnel()  # of the pass that runs; it adds up when the pass is over
        self._records: RecordStream = open_records(options.train)

    @property
    def position(self) -> int:
        """Bytes of the file read in this pass."""
        return self._records.position

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._records.size

    def set_epoch(self, epoch: int) -> None:
        """Which pass the next `iter()` is: another order of the same rows."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[EncodedRow]:
        """Yield the rows to train on. Raises MoltingError where the file cannot be read on."""
        options, funnel = self.options, Funnel()
        self.funnel = funnel
        self._records = open_records(options.train)
        order = random.Random(f"{options.seed}:{self.epoch}")
        kept = self._kept(conversations(self._records, self.mapping, funnel), funnel)
        for _, row in encoded(shuffled(kept, options.shuffle_buffer, order), self.encoder, funnel):
            funnel.train(row)
            yield row
        funnel.damaged(self._records)

    def heldout(self, limit: int = HELDOUT_ROWS) -> list[EncodedRow]:
        """The first `limit` held-out rows; the file is read no further than they need."""
        path = self.options.heldout or self.options.train
        items = conversations(open_records(path), self.mapping, Funnel())
        chosen = items if self.options.heldout else (item for item in items if self._is_heldout(item[1]))
        return [row for _, row in islice(encoded(islice(chosen, limit), self.encoder, Funnel()), limit)]

    def _is_heldout(self, conversation: Conversation) -> bool:
        fraction = 0.0 if self.options.heldout else self.options.heldout_fraction
        return fraction > 0 and share_of(conversation, self.options.seed) < fraction

    def _kept(self, items: Iterable[Item], funnel: Funnel) -> Iterator[Item]:
        for item in items:
            if self._is_heldout(item[1]):
                funnel.heldout += 1
            else:
                yield item


def shuffled(items: Iterable[Item], size: int, order: random.Random) -> Iterator[Item]:
    """The items in random order, as far as `size` of them (or BUFFER_CHARS of their text) held at a time allow."""
    buffer: list[Item] = []
    chars = 0
    for item in items:
        buffer.append(item)
        chars += _chars(item)
        while len(buffer) > size or chars > BUFFER_CHARS:
            chosen = order.randrange(len(buffer))
            buffer[chosen], buffer[-1] = buffer[-1], buffer[chosen]
            picked = buffer.pop()
            chars -= _chars(picked)
            yield picked
    order.shuffle(buffer)
    yield from buffer


def _chars(item: Item) -> int:
    return sum(len(turn.content) for turn in item[1].turns)
