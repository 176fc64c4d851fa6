"""The trainer's voice: events to its journal, phases with their ETA, and the heartbeat."""

from __future__ import annotations

import os
import time

from engine.contract import events
from engine.contract.journal import JournalWriter
from engine.contract.rundir import AttemptDir

PROGRESS_EVERY = 0.5  # seconds between progress events of one phase
BEAT_EVERY = 1.0  # seconds between touches of the heartbeat


class Recorder:
    """The only writer of an attempt's events."""

    def __init__(self, attempt: AttemptDir) -> None:
        self._journal = JournalWriter(attempt.events)
        self._heartbeat = os.open(attempt.heartbeat, os.O_CREAT | os.O_WRONLY, 0o600)
        self._seq = 0
        self._phase = events.Phase(name="")
        self._phase_began = self._progress_at = self._beat_at = 0.0

    @property
    def phase_name(self) -> str:
        return self._phase.name

    def emit(self, event: events.Event, *, durable: bool = False) -> None:
        """Write one event; `durable` waits until it is on the disk."""
        event.seq, event.t = self._seq, time.time()
        self._seq += 1
        self._journal.write(events.encode(event), durable=durable)
        self.beat()

    def beat(self) -> None:
        """Say that there is progress, though nothing worth an event."""
        now = time.monotonic()
        if now - self._beat_at >= BEAT_EVERY:
            self._beat_at = now
            os.utime(self._heartbeat)

    def phase(self, name: str, total: float = 0.0, unit: str = "", done: float = 0.0) -> None:
        """Begin a phase, or go on with it at `done`; it ends when the next begins."""
        self._phase = events.Phase(name=name, total=total, unit=unit)
        self._phase_began = self._progress_at = time.monotonic()
        self._say_phase(done, None)

    def progress(self, done: float, total: float | None = None) -> None:
        """How far the phase is; written at most twice a second."""
        now = time.monotonic()
        self.beat()
        if total is not None:
            self._phase.total = total
        if now - self._progress_at < PROGRESS_EVERY:
            return
        self._progress_at = now
        rate = done / (now - self._phase_began)
        left = self._phase.total - done
        self._say_phase(done, left / rate if rate > 0 and left >= 0 else None)

    def _say_phase(self, done: float, eta: float | None) -> None:
        was = self._phase
        self.emit(events.Phase(name=was.name, done=done, total=was.total, unit=was.unit, eta=eta))

    def warn(self, id: str, message: str, remedy: str = "", step: int = 0) -> None:
        self.emit(events.Warn(id=id, message=message, remedy=remedy, step=step))

    def log(self, message: str) -> None:
        self.emit(events.Log(message=message))

    def close(self) -> None:
        self._journal.close()
        os.close(self._heartbeat)


class Silent(Recorder):
    """That of a process which trains beside the one that writes: it knows its phase, and says nothing."""

    def __init__(self) -> None:
        self._phase = events.Phase(name="")
        self._phase_began = self._progress_at = 0.0

    def emit(self, event: events.Event, *, durable: bool = False) -> None:
        pass

    def beat(self) -> None:
        pass

    def close(self) -> None:
        pass
