"""A warm engine that answers questions about the rows of one file; started again when it dies."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from engine.contract import calls, rows
from engine.contract.errors import MoltingError

from .. import state_files
from . import engine

Then = Callable[[Any], None]  # hears the result, or the MoltingError instead
Told = Callable[[calls.Progress], None]


class RowSession:
    """Asks without waiting; answers come to `post(then, answer)`, from another thread."""

    def __init__(self, request: rows.DataRequest, post: Callable[..., object]) -> None:
        self.request, self._post = request, post
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: dict[int, tuple[type, Then, Told]] = {}
        self._last = 0
        self._closed = False

    def ask(self, question: rows.Question, kind: Any, then: Then, told: Told = lambda progress: None) -> None:
        """Ask; `then` hears a value of `kind` or a MoltingError, `told` how far long work is."""
        with self._guard:
            if self._closed:
                return
            try:
                process = self._running(question)
                self._send(process, question, kind, then, told)
            except OSError as error:
                self._post(then, MoltingError(f"The engine could not be reached: {error}."))

    def close(self) -> None:
        """End the engine."""
        with self._guard:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def _running(self, question: rows.Question) -> subprocess.Popen[bytes]:
        """The process, started where there is none; a new one is told first which file this is about."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        log = state_files.new_log("engine-data")
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*engine.ENGINE, "data-session"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        threading.Thread(target=self._listen, args=(self._process, log), daemon=True).start()
        if not isinstance(question, rows.DataRequest):
            self._send(self._process, self.request, rows.Opened, lambda opened: None, lambda progress: None)
        return self._process

    def _send(self, process: Any, question: rows.Question, kind: type, then: Then, told: Told) -> None:
        self._last += 1
        self._waiting[self._last] = (kind, then, told)
        process.stdin.write(msgspec.json.encode(rows.Ask(n=self._last, ask=question)) + b"\n")
        process.stdin.flush()

    def _listen(self, process: Any, log: Any) -> None:
        for raw in process.stdout:
            try:
                said = msgspec.json.decode(raw, type=rows.Said)
            except (msgspec.DecodeError, RecursionError):
                continue
            self._hear(said)
        with process:  # closes both pipes and waits
            pass
        if log.stat().st_size == 0:
            log.unlink()
        with self._guard:
            left, self._waiting = (self._waiting, {}) if self._process is process else ({}, self._waiting)
        if not self._closed:
            for _, then, _ in left.values():
                self._post(then, MoltingError("The engine ended while it read these rows.", remedy="Try it again."))

    def _hear(self, said: rows.Said) -> None:
        if isinstance(said.line, calls.Progress):
            waiting = self._waiting.get(said.n)
            if waiting:
                self._post(waiting[2], said.line)
            return
        kind, then, _ = self._waiting.pop(said.n, (object, lambda value: None, None))
        self._post(then, _answer(said.line, kind))


def _answer(line: calls.Result | calls.Failure, kind: Any) -> Any:
    if isinstance(line, calls.Failure):
        return MoltingError(line.message, remedy=line.remedy, code=line.code)
    try:
        return msgspec.json.decode(line.value, type=kind)
    except msgspec.DecodeError as error:
        return MoltingError(f"The engine answered with something else than expected: {error}.")
