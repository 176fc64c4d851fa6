"""Watches the runs of one other machine: one command there tells every change. It never touches a widget."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Union

import msgspec
from textual.message import Message

from engine.contract import rundir
from engine.contract.errors import MoltingError
from engine.contract.journal import MAX_LINE
from engine.contract.safe import safe
from engine.contract.summary import Summary

from ..state.hosts import Standing, key
from .ssh import Machine, no_ssh

_WAITS = (2.0, 4.0, 8.0, 15.0, 30.0, 60.0)  # seconds between attempts to connect; then the last
_GATHER = 0.1  # seconds of lines in one message
_COMMAND = ("runs", "--follow", "--json")


class HostSeen(Message):
    """News of one machine. The ids of `changed` and in `gone` carry its name."""

    def __init__(self, host: str, standing: Standing, changed: list[Summary], gone: list[str]) -> None:
        super().__init__()
        self.host, self.standing, self.changed, self.gone = host, standing, changed, gone


class _Line(msgspec.Struct):
    """One line of `molting runs --follow --json`."""

    run: Union[Summary, None] = None
    gone: str = ""
    complete: bool = False


@dataclass
class _News:
    changed: dict[str, Summary] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    complete: bool = False


class HostWatch:
    """Posts HostSeen until it is stopped; a machine that is away is tried again, at longer and longer intervals."""

    def __init__(self, machine: Machine, post: Callable[[Message], object]) -> None:
        self.machine = machine
        self._post = post
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._known: set[str] = set()
        self._seen: set[str] = set()  # since the connection is there
        self._read = False
        self._tries = 0
        self._thread = threading.Thread(target=self._work, name=f"host {machine.name}", daemon=True)

    def start(self) -> HostWatch:
        self._thread.start()
        return self

    def stop(self) -> None:
        """End it, and the command there; does not wait."""
        with self._guard:
            self._stop.set()
            if self._process is not None:
                self._process.terminate()

    def _work(self) -> None:
        since: float | None = None
        while not self._stop.is_set():
            self._read = False
            try:
                self._follow()
                why = "the connection was lost"
            except MoltingError as error:
                why = error.message.removeprefix(f"{self.machine.name} cannot be reached: ")
            if self._stop.is_set():
                return
            since = time.time() if self._read or since is None else since
            self._post(HostSeen(self.machine.name, Standing(since, why.rstrip(".")), [], []))
            self._stop.wait(_WAITS[min(self._tries, len(_WAITS) - 1)])
            self._tries += 1

    def _follow(self) -> None:
        """Tell what the machine says until it says no more. MoltingError where it cannot be asked."""
        self.machine.greet()
        with tempfile.TemporaryFile() as errors:
            with self._guard:
                if self._stop.is_set():
                    return
                self._process = _start(self.machine, errors)
            try:
                self._seen = set()
                for news in _news(self._process, self.machine.name):
                    self._tell(news)
            finally:
                self._process.terminate()
                status = self._process.wait()
                self._process = None
            errors.seek(0)
            if not self._read:
                raise self.machine.failed(status, errors.read(1 << 16).decode("utf-8", "replace"))

    def _tell(self, news: _News) -> None:
        self._tries = 0
        self._seen |= news.changed.keys()
        gone = [run_id for run_id in news.gone if run_id in self._known]
        self._known |= news.changed.keys()
        if news.complete and not self._read:
            # What went while nobody listened is not told: it is what does not come again.
            gone += [run_id for run_id in self._known if run_id not in self._seen]
            self._read = True
        self._known -= set(gone)
        self._post(HostSeen(self.machine.name, Standing(read=self._read), list(news.changed.values()), gone))


def _start(machine: Machine, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        # A session of its own: what is typed into the terminal, ctrl+z too, is not for it.
        return subprocess.Popen(
            machine.argv(_COMMAND),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise no_ssh() from None


def _news(process: subprocess.Popen[bytes], host: str) -> Iterator[_News]:
    """What the lines say, a tenth of a second of them at a time; ends with them."""
    assert process.stdout
    fd, rest, news, since = process.stdout.fileno(), b"", _News(), 0.0
    with process.stdout:
        while True:
            waiting = since + _GATHER - time.monotonic() if since else None
            ready = select.select([fd], [], [], None if waiting is None else max(0.0, waiting))[0]
            if since and (not ready or time.monotonic() - since > _GATHER):
                yield news
                news, since = _News(), 0.0
            if not ready:
                continue
            more = os.read(fd, 1 << 18)
            *lines, rest = (rest + more).split(b"\n")
            for line in lines:
                _take(line, host, news)
            since = since or time.monotonic()
            if len(rest) > MAX_LINE:
                raise MoltingError(f"{host} sends what is not a list of runs.")
            if not more:
                yield news
                return


def _take(line: bytes, host: str, news: _News) -> None:
    """A line that cannot be read, such as a greeting of the login's shell, is passed over."""
    if len(line) > MAX_LINE:
        return
    with suppress(ValueError, RecursionError):  # msgspec's errors are ValueErrors
        said = msgspec.json.decode(line, type=_Line)
        news.complete = news.complete or said.complete
        if said.gone:
            news.gone.append(key(host, said.gone))
            news.changed.pop(key(host, said.gone), None)
        if said.run is not None and rundir.is_id(said.run.id):
            run = _here(said.run, host)
            news.changed[run.id] = run


def _here(run: Summary, host: str) -> Summary:
    """As it is shown here. Its path leads nowhere on this machine."""
    run.id = key(host, run.id)
    run.path = safe(f"{host}:{run.path}", keep_newlines=False)
    run.reason = safe(run.reason, keep_newlines=False)
    return run
