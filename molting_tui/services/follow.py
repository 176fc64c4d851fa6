"""Follows a run by reading its files: every transition and event once, in order; replay equals live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from engine.contract import events, lifecycle, slurm, summary
from engine.contract.journal import JournalReader
from engine.contract.rundir import RunDir

_DRAIN_BEFORE = frozenset({"finished", "interrupted", "failed"})


@dataclass(frozen=True)
class Damage:
    """Complete lines of a log that could not be used."""

    lines: int
    path: str


@dataclass(frozen=True)
class Seen:
    """Something that happened in attempt `attempt`."""

    attempt: int
    what: Union[lifecycle.Transition, events.AnyEvent, Damage]


class Follower:
    """Reads what is new at each `poll`. Holds two open files at most; close it or use it as a context."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.stored = ""  # the last state of the lifecycle
        self.attempt = 0
        self._lifecycle = JournalReader(run.lifecycle)
        self._events: JournalReader | None = None
        self._waiting: list[Seen] = []  # read, and to be told after a change of state

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *error: object) -> None:
        self._lifecycle.close()
        if self._events:
            self._events.close()

    def poll(self) -> list[Seen]:
        """Everything new. MoltingError when a log is not a plain file, or of a newer Molting."""
        new: list[Seen] = []
        before = self._lifecycle.damaged
        for line in self._lifecycle.read():
            try:
                transition = lifecycle.decode(line)
            except ValueError:
                self._lifecycle.count_damage()
                continue
            # An attempt's events were written before the transition that ended it: so are they told.
            # What the trainer said before a change of state is told before it, in a replay too.
            whole = transition.attempt != self.attempt or transition.state in _DRAIN_BEFORE
            new += self._drain() if whole else self._drain(until=transition.t)
            self._turn_to(transition.attempt)
            self.stored = transition.state
            new.append(Seen(transition.attempt, transition))
        new += self._damage(self._lifecycle, before)
        return new + self._drain()

    def owned(self) -> bool | None:
        """Whether a supervisor lives that carries the run on; None where that cannot be known."""
        if self.run.slurm.exists():
            slurm.refresh_soon()
        return summary.owner_alive(self.run)

    def _turn_to(self, attempt: int) -> None:
        if attempt == self.attempt:
            return
        if self._events:
            self._events.close()
        self.attempt = attempt
        self._events = JournalReader(self.run.attempt(attempt).events)

    def _drain(self, until: float | None = None) -> list[Seen]:
        """Events that were not told yet, all or those up to a time."""
        self._waiting += self._read()
        told = len(self._waiting)
        if until is not None:
            told = next((i for i, seen in enumerate(self._waiting) if getattr(seen.what, "t", 0.0) > until), told)
        now, self._waiting = self._waiting[:told], self._waiting[told:]
        return now

    def _read(self) -> list[Seen]:
        if self._events is None:
            return []
        new: list[Seen] = []
        before = self._events.damaged
        for line in self._events.read():
            try:
                event = events.decode(line)
            except ValueError:
                self._events.count_damage()
                continue
            except events.NewerVersion:
                self._events.count_damage()
                continue
            if event is not None:
                new.append(Seen(self.attempt, event))
        return new + self._damage(self._events, before)

    def _damage(self, reader: JournalReader, before: int) -> list[Seen]:
        lines = reader.damaged - before
        return [Seen(self.attempt, Damage(lines, str(reader.path)))] if lines > 0 else []
