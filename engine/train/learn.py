"""The rows of a run: what is learned at each optimizer step, what is held out, and the funnel between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from engine.contract import events
from engine.contract.spec import Spec
from engine.data.encode import EncodedRow, Encoder
from engine.data.funnel import Funnel
from engine.data.of_spec import options
from engine.data.prepare import prepare
from engine.data.stream import RowStream

from . import rows as steps


@dataclass(frozen=True)
class Rows:
    """`count` is 0 for a stream, whose length is not known; `longest` is in tokens."""

    of_step: Callable[[int], list[EncodedRow]]
    heldout: Sequence[EncodedRow]
    count: int
    longest: int
    funnel: Callable[[], events.Funnel]  # as it stands now


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

    def one_pass(number: int) -> Iterator[EncodedRow]:
        stream.set_epoch(number)
        return iter(stream)

    return Rows(
        of_step=steps.Streamed(one_pass, spec.rows_per_step),
        heldout=stream.heldout(),
        count=0,
        longest=spec.data.max_length,
        funnel=lambda: event(stream.funnel, stream.mapping.format, stream=True),
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
