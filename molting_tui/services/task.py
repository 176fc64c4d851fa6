"""Work of the engine that the app waits for in a thread, and that can be cancelled from another."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from typing import TypeVar

import msgspec

from . import engine
from .engine import Heard

T = TypeVar("T")


class Cancelled(Exception):
    """The user no longer waits."""


class Task:
    """Passes on what the engine says, until it is cancelled; then the engine's process ends with it."""

    def __init__(self, hear: Callable[[Heard], None]) -> None:
        self._hear = hear
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.cancelled = False

    def call(self, verb: str, request: msgspec.Struct, result: type[T]) -> T:
        """One verb of the engine. MoltingError as `engine.call` raises it, Cancelled once `cancel` was called."""
        try:
            return engine.call(verb, request, result, self.tell, on_start=self._started)
        except Exception:
            if self.cancelled:
                raise Cancelled from None
            raise
        finally:
            self._process = None

    def cancel(self) -> None:
        """End what runs, and let nothing more begin."""
        with self._guard:
            self.cancelled = True
            if self._process is not None:
                self._process.terminate()

    def _started(self, process: subprocess.Popen[bytes]) -> None:
        with self._guard:
            if self.cancelled:
                raise Cancelled
            self._process = process

    def tell(self, heard: Heard) -> None:
        """Show this; raises Cancelled where nobody waits any longer."""
        if self.cancelled:
            raise Cancelled
        self._hear(heard)
