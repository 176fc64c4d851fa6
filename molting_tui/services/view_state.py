"""What the user arranged for looking at runs: pins, names, what is archived or hidden. Kept in `runs/.app/view.json`.

It lies beside the runs, so that it travels with them and every machine that shares the folder sees the same.
Nothing in it changes a run. Without it, nothing but the arrangement is lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.contract import durable
from engine.contract.errors import MoltingError
from engine.contract.locks import FileLock

from ..state.view import View

_LIMIT = 16 << 20
_PATIENCE = 2.0  # seconds to wait for another app that is writing


class ViewStore:
    """Reads and durably changes the view of one folder of runs. Usable from any thread and any number of apps."""

    def __init__(self, runs: Path) -> None:
        self._folder = runs / ".app"
        self._file = self._folder / "view.json"
        self._guard = threading.Lock()

    @property
    def folder(self) -> Path:
        """Where the app may keep other things about these runs."""
        return self._folder

    def read(self) -> View:
        """The view; an empty one when there is no file, or none that can be read."""
        try:
            raw = self._file.read_bytes()
            return msgspec.json.decode(raw, type=View) if len(raw) <= _LIMIT else View()
        except (OSError, ValueError, RecursionError):
            return View()

    def change(self, edit: Callable[[View], None]) -> View:
        """Read, `edit`, write: what another app wrote meanwhile is kept. MoltingError when the disk refuses."""
        with self._guard:
            try:
                durable.make_private_dir(self._folder)
                return self._locked(edit)
            except OSError as error:
                raise durable.explain(error, f"remember this in {self._file}") from None

    def _locked(self, edit: Callable[[View], None]) -> View:
        lock = FileLock(self._folder / "lock")
        give_up = time.monotonic() + _PATIENCE
        while not lock.acquire():
            if time.monotonic() > give_up:
                raise MoltingError(f"Another app has been writing {self._file} for too long; nothing was changed.")
            time.sleep(0.02)
        try:
            self._keep_damaged()
            view = self.read()
            edit(view)
            durable.write_replace(self._file, msgspec.json.encode(view))
            return view
        finally:
            lock.release()

    def _keep_damaged(self) -> None:
        """A file that does not decode is put aside before a new one takes its place."""
        try:
            raw = self._file.read_bytes()
        except FileNotFoundError:
            return
        try:
            msgspec.json.decode(raw, type=View)
        except (ValueError, RecursionError):
            self._file.replace(self._folder / f"view.damaged-{int(time.time())}.json")
