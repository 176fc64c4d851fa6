"""Both ends of one event log, and what is rare in it: enough for a glance at a run, however long it was."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import events
from .journal import whole_lines
from .plainfile import open_plain

WINDOW = 64 << 10  # bytes read from either end of an event log
_SEARCH = 1 << 20  # bytes looked through for the last evaluation, which is rarer than steps
_SAMPLES = 16  # places of a long log that are looked at for the trend
_SAMPLE = 2 << 10  # bytes at each


class Windows:
    """The two ends of one event log, and the search for what is rare in it."""

    def __init__(self, head: bytes, tail: bytes, before: bytes, sampled: bytes) -> None:
        self.head = head  # whole lines
        self.tail = tail  # whole lines; all of the log where it is short
        self.sampled = sampled  # lines from places spread over what lies before the tail
        self._before = before  # what lies before the tail, up to a limit
        self.newer = False
        for line in head.split(b"\n")[:1]:
            self.newer = _is_newer(line)

    @classmethod
    def read(cls, path: Path) -> Windows:
        fd = open_plain(path)
        try:
            size = os.fstat(fd).st_size
            head = whole_lines(os.pread(fd, WINDOW, 0))
            begin = max(len(head), size - _SEARCH)
            rest = whole_lines(os.pread(fd, size - begin, begin))
            sampled = b"".join(_sampled(fd, size - WINDOW))
        finally:
            os.close(fd)
        if begin > len(head):
            rest = rest[rest.find(b"\n") + 1 :]  # its first line began before the window
        everything = head + rest
        cut = everything.find(b"\n", len(everything) - WINDOW) + 1 if len(everything) > WINDOW else 0
        return cls(head, everything[cut:], everything[:cut], sampled)

    def count(self, needle: bytes) -> int:
        return (self._before + self.tail).count(needle)

    def records(self) -> int | None:
        """How many records a stream has, by the last word on it: said early, and once more when they were counted."""
        for text in (self.tail, self.head):
            lines = (line for line in reversed(text.split(b"\n")) if b'"k":"stream"' in line)
            for event in decoded([next(lines, b"")]):
                return event.records if isinstance(event, events.Stream) else None
        return None

    def last_eval(self, ends: int | None) -> float | None:
        """The last evaluation's loss, of those up to step `ends`."""
        text = self._before + self.tail
        at = len(text)
        while (at := text.rfind(b'"k":"eval"', 0, at)) >= 0:
            line = text[text.rfind(b"\n", 0, at) + 1 : text.find(b"\n", at)]
            for event in decoded([line]):
                if isinstance(event, events.Eval) and (ends is None or event.step <= ends):
                    return event.loss
        return None


def _sampled(fd: int, end: int) -> Iterator[bytes]:
    """Some whole lines from each of a few places before `end`, in order; nothing where `end` lies before the file."""
    for place in range(_SAMPLES if end > 0 else 0):
        part = os.pread(fd, _SAMPLE, end * place // _SAMPLES)
        yield part[part.find(b"\n") + 1 : part.rfind(b"\n") + 1]


def decoded(lines: Iterable[bytes]) -> Iterator[events.AnyEvent]:
    """The events that can be read; damage is shown where a log is followed, not here."""
    for line in lines:
        if not line:
            continue
        try:
            event = events.decode(line)
        except (ValueError, events.NewerVersion):
            continue
        if event is not None:
            yield event


def _is_newer(line: bytes) -> bool:
    try:
        events.decode(line)
    except events.NewerVersion:
        return True
    except ValueError:
        return False
    return False
