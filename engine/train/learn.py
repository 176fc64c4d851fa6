"""The rows of a run: what is learned at each optimizer step, what is held out, and the funnel between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.contract import events
from engine.contract.spec import Spec
from engine.data.encode import EncodedRow, Encoder
from engine.data.funnel import Funnel
from engine.data.index_marks import Progress
from engine.data.indexing import Indexing
from engine.data.of_spec import options
from engine.data.prepare import prepare
from engine.data.stream import Position, RowStream

from . import rows as steps


@dataclass(frozen=True)
class Stream:
    """What a stream has besides its rows: where it stands, and in time how many records there are."""

    rows: RowStream
    steps: steps.Streamed
    indexing: Indexing

    def go_on(self, step: int, at: Position, progress: Progress) -> None:
        """Let step `step` be the next, `at` the place where the stream stood then. MoltingError (bad_data)."""
        self.steps.go_on(step, at, self.indexing.wait(progress))

    def records(self) -> events.Stream:
        """How many records there are, as well as that is known now."""
        count = self.indexing.count
        return events.Stream(records=self.rows.estimated() if count is None else count, exact=count is not None)


@dataclass(frozen=True)
class Rows:
    """`count` is 0 for a stream, whose length is not known before it was read; `longest` is in tokens."""

    of_step: Callable[[int], list[EncodedRow]]
    heldout: Sequence[EncodedRow]
    count: int
    longest: int
    funnel: Callable[[], events.Funnel]  # as it stands now
    stream: Stream | None = None


def open_rows(spec: Spec, encoder: Encoder) -> Rows:
    """Read and encode what the spec names; a stream only as far as its first rows. MoltingError (bad_data)."""
    if spec.data.stream:
        return _streamed(spec, encoder)
    prepared = prepare(options(spec), encoder)
    return Rows(
        of_step=steps.in_memory(prepared.train, spec.rows_per_step, spec.training.seed),
        heldout=prepared.heldout,
        count=len(prepared.train),
        longest=max(len(row.input_ids) for row in prepared.train),
        funnel=lambda: event(prepared.funnel, prepared.mapping.format),
    )


def _streamed(spec: Spec, encoder: Encoder) -> Rows:
    stream = RowStream(options(spec), encoder)
    of_step = steps.Streamed(stream, spec.rows_per_step)
    return Rows(
        of_step=of_step,
        heldout=stream.heldout(),
        count=0,
        longest=spec.data.max_length,
        funnel=lambda: event(stream.funnel, stream.mapping.format, stream=True),
        stream=Stream(stream, of_step, Indexing(stream.options.train)),
    )


def event(funnel: Funnel, format: str, *, stream: bool = False) -> events.Funnel:
    """The funnel as the run tells it."""
    return events.Funnel(
        read=funnel.read,
        heldout=funnel.heldout,
        trained=funnel.trained,
        dropped=dict(funnel.dropped),
        truncated=funnel.truncated,
        tokens=funnel.tokens,
        learned=funnel.learned_tokens,
        format=format,
        stream=stream,
    )
