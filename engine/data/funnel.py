"""Where the rows went: read, dropped and why, held out, trained. Nothing leaves without being counted."""

from __future__ import annotations

import msgspec

from engine.data.read import EXAMPLES, Dropped, RecordStream
from engine.data.rows import EncodedRow

MAX_REASONS = 50  # reasons may quote a hostile template; past this many they are counted together
OTHER = "for other reasons"


class Funnel(msgspec.Struct, kw_only=True):
    """Counts of rows: `read` is always what was dropped, held out and trained together.

    `dropped` counts by reason, `examples` are the first of them. `tokens` and `learned_tokens` are those of the
    rows to train on, `truncated` those rows that lost something to the length limit.
    """

    read: int = 0
    dropped: dict[str, int] = {}
    examples: list[Dropped] = []
    heldout: int = 0
    trained: int = 0
    tokens: int = 0
    learned_tokens: int = 0
    truncated: int = 0

    def drop(self, index: int, why: str) -> None:
        """Count row `index` as dropped."""
        if why not in self.dropped and len(self.dropped) >= MAX_REASONS:
            why = OTHER
        self.dropped[why] = self.dropped.get(why, 0) + 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(Dropped(index, why))

    def damaged(self, stream: RecordStream) -> None:
        """Take over what the reader counted, once it has read its file."""
        self.read += stream.read
        for why, count in stream.dropped.items():
            self.dropped[why] = self.dropped.get(why, 0) + count
        self.examples = [*stream.examples, *self.examples][:EXAMPLES]

    def train(self, row: EncodedRow) -> None:
        """Count a row to train on."""
        self.trained += 1
        self.tokens += len(row.input_ids)
        self.learned_tokens += row.n_learned
        self.truncated += row.lost_tokens > 0

    def describe(self) -> str:
        """One line for people."""
        lost = sum(self.dropped.values())
        reasons = ", ".join(f"{count} {why}" for why, count in sorted(self.dropped.items(), key=lambda d: -d[1]))
        dropped = f"{lost} dropped ({reasons})" if lost else "none dropped"
        return f"{self.read} rows read, {dropped}, {self.heldout} held out, {self.trained} to train on"
