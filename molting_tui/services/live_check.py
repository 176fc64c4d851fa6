"""The doctor while a spec is being edited: one check at a time, the newest one; an older one is ended."""

from __future__ import annotations

import threading
from collections.abc import Callable

from engine.contract import calls
from engine.contract.errors import MoltingError

from .engine import Heard
from .task import Cancelled, Task


class LiveCheck:
    """Runs in threads that its caller gives it; only the newest check is heard."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._task: Task | None = None

    def run(self, request: calls.PreflightRequest, hear: Callable[[Heard], None]) -> calls.Preflight | None:
        """The findings, told one by one on the way; None when a newer check or `cancel` came between.

        MoltingError where there is no telling, as for a model that is refused.
        """
        task = Task(hear)
        with self._guard:
            if self._task is not None:
                self._task.cancel()
            self._task = task
        try:
            return task.call("preflight", request, calls.Preflight)
        except Cancelled:
            return None
        except MoltingError:
            if task.cancelled:
                return None
            raise

    def cancel(self) -> None:
        """End what runs."""
        with self._guard:
            if self._task is not None:
                self._task.cancel()
