"""Follows one run in a thread of its own and posts what it finds. It never touches a widget."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from textual.message import Message

from engine.contract import summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir

from ..state.live import LiveRun
from .run_reader import Batch, RunReader, apply

EVERY = 0.25  # seconds between looks at the logs
_PULSE_EVERY = 2.0
_PROGRESS_EVERY = 0.25


class TailMessage(Message):
    """Something about the run `run_id`."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id


class History(TailMessage):
    """The run so far. `live` belongs to the receiver from now on, in place of what it had.

    `complete` is false for a glance at a long run, after which the whole history follows.
    """

    def __init__(self, run_id: str, live: LiveRun, complete: bool) -> None:
        super().__init__(run_id)
        self.live, self.complete = live, complete


class Reading(TailMessage):
    """The share of the history that was read; only the newest counts."""

    def __init__(self, run_id: str, share: float) -> None:
        super().__init__(run_id)
        self.share = share

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Reading) and message.run_id == self.run_id


class News(TailMessage):
    """What happened since: everything of one look, in order. `apply_to` the receiver's LiveRun."""

    def __init__(self, run_id: str, batches: list[Batch]) -> None:
        super().__init__(run_id)
        self.batches = batches

    def apply_to(self, live: LiveRun) -> None:
        for batch in self.batches:
            apply(live, batch)


class Pulse(TailMessage):
    """Whether a supervisor lives (None: it cannot be known), and when the trainer last got somewhere."""

    def __init__(self, run_id: str, owned: bool | None, heartbeat: float | None) -> None:
        super().__init__(run_id)
        self.owned, self.heartbeat = owned, heartbeat

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Pulse) and message.run_id == self.run_id


class Trouble(TailMessage):
    """The run cannot be read; it is tried again."""

    def __init__(self, run_id: str, message: str, remedy: str) -> None:
        super().__init__(run_id)
        self.message, self.remedy = message, remedy


class RunTail:
    """Posts a glance for a long run, then its History, then News; a new History when a log was replaced.

    `post` is called from the thread, as `post_message` of a widget allows. `smoothing` is worked out ahead.
    """

    def __init__(
        self, run: RunDir, post: Callable[[Message], object], *, every: float = EVERY, smoothing: float = 0.9
    ) -> None:
        self.run = run
        self._post = post
        self._every = every
        self._smoothing = smoothing
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"tail {run.id}", daemon=True)

    def start(self) -> RunTail:
        self._thread.start()
        return self

    def stop(self, wait: float = 1.0) -> None:
        """End the thread; returns when it has ended or after `wait` seconds."""
        self._stop.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(wait)

    def _work(self) -> None:
        told = ""
        while not self._stop.is_set():
            reader = RunReader(self.run)
            try:
                self._follow(reader)
                told = ""
            except (MoltingError, OSError) as error:
                # Said once; what is wrong may be put right while we wait.
                if str(error) != told:
                    told = str(error)
                    remedy = error.remedy if isinstance(error, MoltingError) else ""
                    message = error.message if isinstance(error, MoltingError) else f"The run cannot be read: {error}"
                    self._post(Trouble(self.run.id, message, remedy))
                self._stop.wait(_PULSE_EVERY)
            finally:
                reader.close()

    def _follow(self, reader: RunReader) -> None:
        """Until a log was replaced or it is over."""
        if glance := reader.glance():
            self._post(History(self.run.id, glance, complete=False))
        live = reader.history(self._progress())
        live.series("loss", smoothing=self._smoothing)
        if self._stop.is_set():
            return
        self._post(History(self.run.id, live, complete=True))
        del live
        pulse_at = 0.0
        while not self._stop.is_set():
            if time.monotonic() - pulse_at >= _PULSE_EVERY:
                pulse_at = time.monotonic()
                self._post(self._pulse())
            batches = [batch for batch in reader.read() if batch]
            if reader.restarted:
                return
            if batches:
                self._post(News(self.run.id, batches))
            self._stop.wait(self._every)

    def _progress(self) -> Callable[[float], bool]:
        said = time.monotonic()

        def progress(share: float) -> bool:
            nonlocal said
            if time.monotonic() - said >= _PROGRESS_EVERY:
                said = time.monotonic()
                self._post(Reading(self.run.id, share))
            return not self._stop.is_set()

        return progress

    def _pulse(self) -> Pulse:
        attempts = self.run.attempts()
        try:
            heartbeat = attempts[-1].heartbeat.stat().st_mtime if attempts else None
        except OSError:
            heartbeat = None
        return Pulse(self.run.id, summary.owner_alive(self.run), heartbeat)
