"""`data-session`: answers questions about one file for as long as the screen is open.

Short questions are answered in order. Counting, searching and surveying run beside them, and a new search ends the old.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec

from engine.contract import calls, rows
from engine.contract.errors import MoltingError
from engine.contract.safe import redact
from engine.data.browse import Book
from engine.data.survey import survey

_PAGE = 500  # rows sent at once, at most
_EVERY = 1 << 20  # bytes of the file between two words about progress


def serve(requests: BinaryIO, out: BinaryIO) -> int:
    """Until there are no more questions."""
    session = _Session(out)
    for line in requests:
        try:
            asked = msgspec.json.decode(line, type=rows.Ask)
        except (msgspec.DecodeError, RecursionError):
            continue
        session.take(asked)
    return 0


class _Session:
    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._guard = threading.Lock()
        self._book: Book | None = None
        self._search = threading.Event()  # set: end it

    def take(self, asked: rows.Ask) -> None:
        """Answer now, or begin to."""
        ask = asked.ask
        if isinstance(ask, (rows.Find, rows.Cancel)):
            self._search.set()
            self._search = threading.Event()
        if isinstance(ask, (rows.Find, rows.Count, rows.Look)):
            stop = self._search
            threading.Thread(target=self._answer, args=(asked.n, lambda: self._long(asked, stop)), daemon=True).start()
        else:
            self._answer(asked.n, lambda: self._short(ask))

    @property
    def book(self) -> Book:
        if self._book is None:
            raise MoltingError("No file is open.", code=2)
        return self._book

    def _short(self, ask: rows.Question) -> Any:
        if isinstance(ask, rows.DataRequest):
            self._book = Book(ask)
            return self._book.opened()
        if isinstance(ask, rows.Lines):
            return self.book.lines(max(0, ask.start), min(ask.count, _PAGE), ask.values)
        if isinstance(ask, rows.Show):
            return self.book.show(ask.number)
        return self.book.draft(ask.value) if isinstance(ask, rows.Draft) else rows.MaybeRow()

    def _long(self, asked: rows.Ask, stop: threading.Event) -> Any:
        ask, last = asked.ask, 0

        def progress(done: int, total: int) -> None:
            nonlocal last
            if done - last >= _EVERY or done < last:
                last = done
                self._say(asked.n, calls.Progress(phase="reading", done=done, total=total, unit="B"))

        if isinstance(ask, rows.Find):
            return rows.MaybeRow(number=self.book.find(ask.text, ask.start, stop.is_set, progress))
        if isinstance(ask, rows.Count):
            return self.book.count(progress)
        found = survey(self.book, lambda: False, progress)
        found.findings = self.book.findings()
        return found

    def _answer(self, n: int, work: Callable[[], Any]) -> None:
        try:
            line: Any = calls.result(work())
        except MoltingError as error:
            line = calls.Failure(message=error.message, remedy=error.remedy, code=error.code)
        except IndexError:
            line = calls.Failure(message="There is no row of that number.", code=2)
        except Exception as error:
            said = f"The engine failed over these rows: {type(error).__name__}: {redact(str(error))[:300]}"
            line = calls.Failure(message=said, code=3)
        self._say(n, line)

    def _say(self, n: int, line: Any) -> None:
        with self._guard:
            self._out.write(msgspec.json.encode(rows.Said(n=n, line=line)) + b"\n")
            self._out.flush()
