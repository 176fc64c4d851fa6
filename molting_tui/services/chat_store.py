"""Conversations on disk: `conversations/ID.jsonl` in the run, a line per question and answer, durable once told so."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from engine.contract import durable, sheets
from engine.contract.errors import MoltingError
from engine.contract.journal import JournalReader, JournalWriter
from engine.contract.rundir import RunDir

from ..state import chat
from ..state.chat import Conversation

_LISTED = 200  # conversations that are looked through, the newest


def new_id() -> str:
    """A name for a conversation: when it began, and something that no other has."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def adapter_sha(run: RunDir) -> str:
    """The sha256 of the run's weights as they were sealed; empty where none are."""
    with contextlib.suppress(MoltingError, OSError):
        files = durable.read_manifest(run.adapter).files
        return sheets.weights_hash({name: entry.sha256 for name, entry in files.items()})
    return ""


class ChatStore:
    """Writes one conversation. Several apps may: ids are drawn, and a line is appended whole."""

    def __init__(self, run: RunDir, id: str) -> None:
        self.run, self.id = run, id
        self._journal: JournalWriter | None = None

    @property
    def path(self) -> Path:
        return self.run.conversations / f"{self.id}.jsonl"

    def save(self, *records: chat.Record) -> None:
        """On the disk when this returns. MoltingError where the disk refuses."""
        try:
            for record in self._opened(records):
                assert self._journal is not None
                self._journal.write(chat.encode(record))
        except OSError as error:
            raise durable.explain(error, "save the conversation") from error

    def _opened(self, records: tuple[chat.Record, ...]) -> tuple[chat.Record, ...]:
        """The records to write, with the head of a new file before them."""
        if self._journal is not None:
            return records
        self.run.conversations.mkdir(mode=0o700, exist_ok=True)
        new = not self.path.exists()
        self._journal = JournalWriter(self.path, exclusive=False)
        if not new:
            return records
        return (chat.Begun(id=self.id, run=self.run.id, t=time.time(), adapter=adapter_sha(self.run)), *records)

    def close(self) -> None:
        if self._journal is not None:
            with contextlib.suppress(OSError):
                self._journal.close()
            self._journal = None


def read(path: Path) -> tuple[Conversation, int]:
    """A conversation, and how many of its lines are damaged. MoltingError when the file cannot be read."""
    found, reader = Conversation(path.stem), JournalReader(path)
    try:
        for line in reader.read():
            try:
                found.take(chat.decoder.decode(line))
            except (ValueError, RecursionError):
                reader.count_damage()
    finally:
        reader.close()
    return found, reader.damaged


def files(run: RunDir) -> list[Path]:
    """Files of the run's conversations, the one written last first."""
    if not run.conversations.is_dir():
        return []
    found = [file for file in run.conversations.glob("*.jsonl") if not file.is_symlink() and file.is_file()]
    return sorted(found, key=lambda file: file.stat().st_mtime_ns, reverse=True)[:_LISTED]


def latest(run: RunDir) -> tuple[Conversation, int] | None:
    """The conversation written last that has a question in it."""
    return next(((found, damaged) for found, damaged in map(read, files(run)) if found.turns), None)


def every(run: RunDir) -> list[Conversation]:
    """The run's conversations, the one written last first; one that cannot be read is left out."""
    found = []
    for file in files(run):
        with contextlib.suppress(MoltingError):
            found.append(read(file)[0])
    return [each for each in found if each.turns]


def keep_row(path: Path, row: dict[str, Any]) -> None:
    """Append one row of data durably. MoltingError where the disk refuses or the name is no plain file."""
    line = msgspec.json.encode(row) + b"\n"
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line  # somebody's editor left the last line open
            durable.append(fd, line)
            os.fdatasync(fd)
        finally:
            os.close(fd)
        durable.fsync_dir(path.parent)
    except OSError as error:
        raise durable.explain(error, f"write {path}") from error


def digest(text: str) -> str:
    """Hex sha256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
