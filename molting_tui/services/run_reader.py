"""Reads all that happened in a run, in order and in bounded memory: first at a glance, then whole, then what is new."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Literal, Union, get_args

import msgspec

from engine.contract import events, lifecycle
from engine.contract.errors import MoltingError
from engine.contract.journal import MAX_LINE, JournalReader
from engine.contract.rundir import AttemptDir, RunDir

from ..state.live import LiveRun
from ..state.records import Metrics
from .follow import Damage

What = Union[events.AnyEvent, lifecycle.Transition, Metrics, Damage]
Batch = list[tuple[int, What]]  # (attempt, what happened in it)

GLANCE_OVER = 4 << 20  # bytes of event logs; what is shorter is read whole at once
_SAMPLES = 192  # places of a long log that are looked at first
_SAMPLE = 4 << 10  # bytes at each
_HEAD = 64 << 10  # bytes in which an attempt says what it will do
_DRAIN_BEFORE = frozenset({"stopping", "finished", "interrupted", "failed"})
_METRIC = b'{"k":"metric",'  # how the engine's encoder begins such a line
_FEW = 8  # fewer metrics in a row are not worth a column


class _Metric(msgspec.Struct, tag_field="k", tag="metric", gc=False):
    """What is kept of a metric event; half the time of decoding all of it."""

    step: int
    loss: Union[float, None]
    grad_norm: Union[float, None]
    lr: float
    tokens: int
    rows: int
    seconds: float
    epoch: float
    presented: int = 0
    computed: int = 0
    t: float = 0.0
    v: Literal[1] = 1


_KINDS = (_Metric, *(kind for kind in get_args(events.AnyEvent) if kind is not events.Metric))
_decode_metric = msgspec.json.Decoder(_Metric).decode
_decode_all = msgspec.json.Decoder(Union[_KINDS]).decode_lines


class RunReader:
    """One pass over a run's logs, which goes on where it stopped. For one thread.

    `restarted`: a log was replaced or cut short, so what was told no longer holds; make a new reader.
    """

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.restarted = False
        self._attempt = 0
        self._done = 0  # bytes of event logs, about
        self._lifecycle = JournalReader(run.lifecycle)
        self._events: JournalReader | None = None

    def read(self) -> Iterator[Batch]:
        """Everything new, in batches of bounded size. MoltingError when a log is not a plain file."""
        for transition in self._transitions(self._lifecycle.read()):
            # An attempt's events were written before the transition that ended it: so are they told.
            if transition.attempt != self._attempt or transition.state in _DRAIN_BEFORE:
                yield from self._drain()
            self._turn_to(transition.attempt)
            yield [(transition.attempt, transition)]
        self.restarted = self.restarted or self._lifecycle.restarted
        yield from self._drain()
        # A damaged line of the lifecycle must not hide an attempt.
        for attempt in self.run.attempts():
            if attempt.number > self._attempt:
                self._turn_to(attempt.number)
                yield from self._drain()

    def glance(self) -> LiveRun | None:
        """A long run as it looks from afar, in a few hundredths of a second; None for one that is quickly read."""
        attempts = self.run.attempts()
        if sum(_size(each) for each in attempts) < GLANCE_OVER:
            return None
        seen = LiveRun()
        changes = list(self._transitions(JournalReader(self.run.lifecycle).read()))
        for attempt in attempts:
            number = attempt.number
            apply(seen, [(number, change) for change in changes if change.attempt == number])
            apply(seen, [(number, what) for what in _glance(attempt)])
        # Attempt 0: an imported run, which ended elsewhere.
        later = [change for change in changes if change.attempt > seen.attempt or not change.attempt]
        apply(seen, [(change.attempt, change) for change in later])
        seen.damaged = 0  # what is missing between the pieces is not lost; the whole history tells what is
        return seen

    def history(self, progress: Callable[[float], bool] = lambda share: True) -> LiveRun:
        """All of the run so far. `progress` hears the share that was read; it returns whether to go on."""
        live = LiveRun()
        total = max(1, sum(_size(each) for each in self.run.attempts()))
        for batch in self.read():
            apply(live, batch)
            if not progress(min(1.0, self._done / total)):
                break
        return live

    def close(self) -> None:
        self._lifecycle.close()
        if self._events:
            self._events.close()

    def _transitions(self, lines: list[bytes]) -> Iterator[lifecycle.Transition]:
        for line in lines:
            try:
                yield lifecycle.decode(line)
            except ValueError:
                self._lifecycle.count_damage()

    def _turn_to(self, attempt: int) -> None:
        if attempt <= self._attempt:
            return
        if self._events:
            self._events.close()
        self._attempt = attempt
        self._events = JournalReader(self.run.attempt(attempt).events)

    def _drain(self) -> Iterator[Batch]:
        reader = self._events
        if reader is None:
            return
        before = reader.damaged
        for block in reader.blocks():
            self.restarted = self.restarted or reader.restarted
            self._done += len(block)
            found = _decode_block(block)
            if found is None:
                found, unreadable = decode(reader.usable(block.split(b"\n")))
                reader.count_damage(unreadable)
            batch: Batch = [(self._attempt, what) for what in found]
            if reader.damaged > before:
                batch.append((self._attempt, Damage(reader.damaged - before, str(reader.path))))
                before = reader.damaged
            yield batch
        self.restarted = self.restarted or reader.restarted


def apply(live: LiveRun, batch: Batch) -> None:
    """Let `live` take in a batch."""
    for attempt, what in batch:
        if isinstance(what, Metrics):
            live.apply_metrics(attempt, what)
        elif isinstance(what, Damage):
            live.damage(attempt, what.lines, what.path)
        else:
            live.apply(attempt, what)


def _decode_block(block: bytes) -> list[Union[events.AnyEvent, Metrics]] | None:
    """What `decode` gives, several times faster; None where anything in the block is damaged, newer or unknown."""
    try:
        every = _decode_all(block)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if len(every) != block.count(b"\n") + 1 or len(block) > MAX_LINE:
        return None
    found: list[Union[events.AnyEvent, Metrics]] = []
    for kind, group in groupby(every, type):
        if kind is _Metric:
            found.append(_columns(list(group)))
            continue
        others = list(group)
        if any(each.v > events.VERSION for each in others):
            return None
        found += others
    return found


def decode(lines: list[bytes]) -> tuple[list[Union[events.AnyEvent, Metrics]], int]:
    """What the lines of an event log say, in order, long rows of metrics as columns; how many are unreadable."""
    found: list[Union[events.AnyEvent, Metrics]] = []
    unreadable = 0
    begin = 0
    # Other events are rare: between two of them lie the metrics.
    for end in [i for i, line in enumerate(lines) if not line.startswith(_METRIC)] + [len(lines)]:
        many = _decode_many(lines[begin:end]) if end - begin >= _FEW else None
        if many:
            found.append(many)
            begin = end
        for line in lines[begin : end + 1]:
            try:
                event = events.decode(line)
            except (ValueError, events.NewerVersion):
                unreadable += 1
                continue
            if event is not None:
                found.append(event)
        begin = end + 1
    return found, unreadable


def _decode_many(lines: list[bytes]) -> Metrics | None:
    """None when any of them is damaged; then each is looked at alone."""
    try:
        decoded = list(map(_decode_metric, lines))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return _columns(decoded)


def _columns(decoded: list[_Metric]) -> Metrics:
    return Metrics(
        step=[each.step for each in decoded],
        loss=[each.loss for each in decoded],
        grad_norm=[each.grad_norm for each in decoded],
        lr=[each.lr for each in decoded],
        tokens=[each.tokens for each in decoded],
        seconds=[each.seconds for each in decoded],
        t=[each.t for each in decoded],
        epoch=[each.epoch for each in decoded],
        rows=[each.rows for each in decoded],
        presented=sum(each.presented for each in decoded),
        computed=sum(each.computed for each in decoded),
    )


def _size(attempt: AttemptDir) -> int:
    try:
        return attempt.events.stat().st_size
    except OSError:
        return 0


def _glance(attempt: AttemptDir) -> list[Union[events.AnyEvent, Metrics]]:
    """How the attempt began, and what some places of its log say, in order."""
    try:
        fd = os.open(attempt.events, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return []
    try:
        size = os.fstat(fd).st_size
        found, _ = decode(_whole_lines(os.pread(fd, _HEAD, 0), first=True))
        for place in range(1, _SAMPLES + 1):
            at = max(_HEAD, (size - _SAMPLE) * place // _SAMPLES)
            found += decode(_whole_lines(os.pread(fd, _SAMPLE, at), first=False))[0]
    except OSError as error:
        raise MoltingError(f"{attempt.events} cannot be read: {error.strerror}.") from None
    finally:
        os.close(fd)
    return found


def _whole_lines(raw: bytes, first: bool) -> list[bytes]:
    lines = raw.split(b"\n")[:-1]
    return lines if first else lines[1:]
