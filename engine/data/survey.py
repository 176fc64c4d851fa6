"""All rows of a file together: where they go, who speaks in them, how long they are."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from engine.contract.rows import Bar, Survey
from engine.data.browse import Book, Progress, Stop
from engine.data.conversation import BadRow, Conversation
from engine.data.encode import EncodedRow
from engine.data.funnel import EXAMPLES, MAX_REASONS, OTHER
from engine.data.prepare import BATCH, hold_out, share_of
from engine.data.read import Record

MEASURED = 20_000  # rows that are tokenized; of more, the first are
_BARS = 24


def survey(book: Book, stop: Stop, progress: Progress) -> Survey:
    """Read all rows; of a large file only the first MEASURED are measured. Sets `book.heldout` where that is all."""
    found = Survey(rows=0, unit="tokens" if book.encoder else "characters")
    roles: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    lengths: list[int] = []
    shares: dict[int, float] = {}  # of the first rows; of a file beyond them each row decides for itself
    heldout = usable = 0
    fraction = 0.0 if book.spec.data.heldout else book.spec.data.heldout_fraction
    size = book.path.stat().st_size
    records = book.records(0)
    while batch := list(islice(records, BATCH)):
        if stop():
            break
        items = [book.conversation(record) for record in batch]
        good = [item for item in items if isinstance(item, Conversation)]
        for said in good:
            roles.update(turn.role for turn in said.turns)
        encoder = book.encoder if found.rows < MEASURED else None
        rows = iter(encoder.encode_all(good) if encoder else [None] * len(good))
        for item in items:
            row = next(rows) if isinstance(item, Conversation) else item
            if isinstance(row, BadRow):
                _drop(found, dropped, row.why)
            elif isinstance(item, Conversation):
                share = share_of(item, book.spec.training.seed)
                heldout, usable = heldout + (share < fraction), usable + 1
                if found.rows < MEASURED:
                    shares[found.rows] = share
                    lengths.append(_measure(found, tokens, item, row))
            found.rows += 1
        last = batch[-1]
        progress(min(last.offset, size) if isinstance(last, Record) else 0, size)
    if found.rows <= MEASURED:
        numbers = list(shares)
        book.heldout = {numbers[i] for i in hold_out(list(shares.values()), fraction)}
        heldout = len(book.heldout)
    found.heldout, found.trained = heldout, usable - heldout
    found.roles, found.dropped, found.tokens = dict(roles), dict(dropped), dict(tokens)
    found.bars, found.measured = bars(lengths), len(lengths)
    return found


def _drop(found: Survey, dropped: Counter[str], why: str) -> None:
    dropped[why if why in dropped or len(dropped) < MAX_REASONS else OTHER] += 1
    if len(found.examples) < EXAMPLES:
        found.examples.append((found.rows, why))


def _measure(found: Survey, tokens: Counter[str], item: Conversation, row: EncodedRow | None) -> int:
    """Add a row to the sums; its length."""
    if row is None:
        length = sum(len(turn.content) for turn in item.turns)
    else:
        length = len(row.input_ids)
        found.learned += row.n_learned
        found.truncated += row.lost_tokens > 0
        for span in row.spans:
            tokens[span.role] += span.end - span.start
    found.length += length
    return length


def bars(lengths: list[int], most: int = _BARS) -> list[Bar]:
    """A histogram in at most `most` bars of equal, round width."""
    if not lengths:
        return []
    low, high = min(lengths), max(lengths)
    width = _round_up((high - low + 1) / most)
    first = low // width
    counts = Counter(length // width for length in lengths)
    return [Bar(low=i * width, high=(i + 1) * width - 1, count=counts[i]) for i in range(first, high // width + 1)]


def _round_up(width: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50, …"""
    size = 1
    while True:
        for step in (1, 2, 5):
            if step * size >= width:
                return step * size
        size *= 10
