"""The index of a file, built beside the training that reads it."""

from __future__ import annotations

import threading
from pathlib import Path

from engine.contract.errors import MoltingError
from engine.data import index
from engine.data.index_marks import Progress

_TOLD_EVERY = 0.2  # seconds


class Indexing:
    """Builds the index of `path` in a thread of its own; what is in the cache already is there at once.

    Looking for the ends of rows lets go of the interpreter for nearly all of its time, so training goes on beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: index.Index | None = None
        self._done = (0, 0)  # bytes, of bytes
        self._thread = threading.Thread(target=self._build, name="indexing", daemon=True)
        self._thread.start()

    @property
    def count(self) -> int | None:
        """How many records the file has; None while that is not known."""
        return self._found.count if self._found else None

    def wait(self, progress: Progress = lambda done, total: None) -> index.Index:
        """The index, as soon as it is there. MoltingError for a file that cannot be read."""
        while self._thread.is_alive():
            self._thread.join(_TOLD_EVERY)
            progress(*self._done)
        return self._found or index.build(self._path, progress)  # a second time it says what was wrong

    def _build(self) -> None:
        try:
            self._found = index.build(self._path, self._tell)
        except (MoltingError, OSError):
            return  # the reader of the rows says it, at the row where it matters

    def _tell(self, done: int, total: int) -> None:
        self._done = (done, total)
