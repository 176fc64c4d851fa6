"""Whose request is next: the clients in turn, so that many questions of one do not keep another waiting."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """A line for each client, served round robin. Safe between threads."""

    def __init__(self) -> None:
        self._lines: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._changed = threading.Condition()

    def add(self, client: Hashable, item: T, *, first: bool = False) -> None:
        """Put `item` at the end of its client's line; `first` lets it pass all others."""
        with self._changed:
            self._lines.setdefault(client, deque()).append(item)
            if first:
                self._lines.move_to_end(client, last=False)
            self._changed.notify()

    def take(self) -> T:
        """Wait for the next item; its client then stands last."""
        with self._changed:
            while not self._lines:
                self._changed.wait()
            client, line = self._lines.popitem(last=False)
            item = line.popleft()
            if line:
                self._lines[client] = line
            return item

    def remove(self, client: Hashable, item: T) -> bool:
        """Take an item out that still waits; False where it does not."""
        with self._changed:
            line = self._lines.get(client, deque())
            if item not in line:
                return False
            line.remove(item)
            if not line:
                del self._lines[client]
            return True

    def waiting(self, client: Hashable | None = None) -> int:
        """Items that wait, of one client or of all."""
        with self._changed:
            return sum(len(line) for of, line in self._lines.items() if client is None or of == client)
