"""A file of rows on disk: read, saved over the very content that was read, and a private copy of what is unsaved."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.contract import durable
from engine.contract.errors import MoltingError

from .. import state_files
from ..state.rows_file import MOST_BYTES


class Unsaved(msgspec.Struct, frozen=True):
    """What somebody had written of `path` when it was last seen; `base` is the hash of what the file held then."""

    path: str
    base: str
    text: str


@dataclass
class RowsStore:
    """One file. `base` is the hash of what was read or saved last."""

    path: Path
    base: str = ""

    def read(self) -> bytes:
        """The content. MoltingError for one that is too large to be written here, or cannot be read."""
        try:
            if self.path.stat().st_size > MOST_BYTES:
                raise MoltingError(
                    f"{self.path} has more than {MOST_BYTES >> 20} MiB: its rows are only shown.", code=1
                )
            data = self.path.read_bytes()
        except OSError as error:
            raise MoltingError(f"{self.path} cannot be read: {error.strerror}.") from None
        self.base = _digest(data)
        return data

    def changed(self) -> bool:
        """Whether the file holds something else than what was read or saved last."""
        try:
            return _digest(self.path.read_bytes()) != self.base
        except OSError:
            return True

    def save(self, text: str) -> None:
        """Put `text` in the place of the content, all or nothing. MoltingError when it cannot be written."""
        data = text.encode("utf-8")
        target = self.path.resolve()  # a link stays a link
        try:
            durable.write_replace(target, data, target.stat().st_mode & 0o777 if target.exists() else 0o600)
        except OSError as error:
            raise durable.explain(error, f"save {self.path}") from None
        self.base = _digest(data)
        self.forget()

    def keep_both(self, text: str) -> Path:
        """Save `text` beside the file, under a name that is free; the name."""
        for i in range(1, 1000):
            beside = self.path.with_name(f"{self.path.stem}.mine{i if i > 1 else ''}{self.path.suffix}")
            try:
                durable.write_new(beside, text.encode("utf-8"))
                return beside
            except FileExistsError:
                continue
            except OSError as error:
                raise durable.explain(error, f"write {beside}") from None
        raise MoltingError(f"There are a thousand copies of {self.path} already.")

    @property
    def _aside(self) -> Path:
        name = hashlib.blake2b(os.fsencode(self.path.resolve()), digest_size=12).hexdigest()
        return state_files.folder() / "unsaved" / f"{name}.json"

    def remember(self, text: str) -> None:
        """Keep what is unsaved where it survives this process. MoltingError when it cannot be written."""
        kept = Unsaved(str(self.path), self.base, text)
        try:
            durable.make_private_dir(self._aside.parent)
            durable.write_replace(self._aside, msgspec.json.encode(kept))
        except OSError as error:
            raise durable.explain(error, "keep a copy of the unsaved rows") from None

    def remembered(self) -> Unsaved | None:
        """What was unsaved when this file was last written here."""
        try:
            kept = msgspec.json.decode(self._aside.read_bytes(), type=Unsaved)
        except (OSError, ValueError):
            return None
        return kept if _digest(kept.text.encode("utf-8", "surrogatepass")) != self.base else None

    def forget(self) -> None:
        """Nothing is unsaved any more."""
        self._aside.unlink(missing_ok=True)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
