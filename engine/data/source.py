"""Opening a file of rows safely, and reading it once, in bounded pieces of UTF-8."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from engine.contract.errors import MoltingError

CHUNK = 1 << 16
RECORD_LIMIT = 16 << 20  # bytes; a longer record is damage or an attack, never a row of a chat

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_PACKED = (
    (b"\x1f\x8b", "a gzip archive", "Unpack it first (gunzip -k FILE) and give the file inside."),
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "Unpack it, or export the sheet as CSV."),
    (b"BZh", "a bzip2 archive", "Unpack it first (bunzip2 -k FILE)."),
    (b"\xfd7zXZ", "an xz archive", "Unpack it first (unxz -k FILE)."),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "Unpack it first (unzstd FILE)."),
    (b"SQLite format 3", "an SQLite database", "Export the table as CSV."),
)
_PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".npy", ".npz"}


def bad_data(path: Path, what: str, remedy: str = "") -> MoltingError:
    """The error for a data file that cannot be used: one sentence that begins with its name."""
    return MoltingError(f"{path} {what}.", remedy=remedy, reason="bad_data", code=1)


class Source:
    """An open regular file. `position` and `size` are bytes of the file; `chunks` and `lines` give UTF-8."""

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises MoltingError for what is not a plain, unpacked, non-empty file of rows."""
        self.path = path
        fd = _open_regular(path)
        self.file = os.fdopen(fd, "rb", buffering=0)
        try:
            self.size = os.fstat(fd).st_size
            self.position = 0
            self.head = os.pread(fd, CHUNK, 0)
            self._encoding, self._mark = _encoding(path, self.head)
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.close()

    @property
    def plain(self) -> bool:
        """Whether bytes of the file are bytes of its text."""
        return self._encoding == "utf-8"

    @property
    def start(self) -> int:
        """The byte at which reading begins: behind the byte order mark."""
        return self._mark

    def begin_at(self, offset: int) -> None:
        """Let `chunks` and `lines` begin at this byte."""
        self._mark = offset

    def chunks(self) -> Iterator[bytes]:
        """The whole file from its beginning in pieces of about 64 KiB, without its byte order mark."""
        self.file.seek(self._mark)
        self.position = self._mark
        decoder = None if self._encoding == "utf-8" else codecs.getincrementaldecoder(self._encoding)("replace")
        read = self.file.read
        while data := read(CHUNK):
            self.position += len(data)
            yield decoder.decode(data).encode("utf-8", "replace") if decoder else data

    def lines(self) -> Iterator[bytes | None]:
        """Lines without their newline; None stands for a line longer than RECORD_LIMIT."""
        rest: list[bytes] = []  # the pieces of a line that spans chunks
        length = 0
        for chunk in self.chunks():
            first, *others = chunk.split(b"\n")
            length += len(first)
            if length > RECORD_LIMIT:
                rest = []
            else:
                rest.append(first)
            if not others:
                continue
            yield None if length > RECORD_LIMIT else b"".join(rest)
            rest = [others.pop()]
            length = len(rest[0])
            yield from others
        if length:
            yield None if length > RECORD_LIMIT else b"".join(rest)

    def ends_with(self, *marks: bytes) -> bool:
        """Whether the last visible byte is one of `marks`, which it is not in a file that was cut short."""
        tail = os.pread(self.file.fileno(), 4096, max(0, self.size - 4096))
        return tail.rstrip(b" \t\r\n\x00").endswith(marks)


def _open_regular(path: Path) -> int:
    if path.suffix.lower() in _PICKLES:
        raise bad_data(
            path,
            "is of a kind that can run code when it is opened, so it is not read",
            "Save the rows as JSONL, JSON, CSV or Parquet.",
        )
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise bad_data(path, "does not exist", "Check the path; it is relative to the spec's folder.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise bad_data(path, f"cannot be opened: {reason}", "Give a readable file of rows.") from error
    info = os.fstat(fd)
    if stat.S_ISREG(info.st_mode) and info.st_size:
        return fd
    os.close(fd)
    if stat.S_ISDIR(info.st_mode):
        raise bad_data(path, "is a folder", "Give the file of rows inside it.")
    if stat.S_ISREG(info.st_mode):
        raise bad_data(path, "is empty", "Put at least one row into it.")
    raise bad_data(path, "is not a regular file", "Give a file of rows, not a pipe, socket or device.")


def _encoding(path: Path, head: bytes) -> tuple[str, int]:
    """(encoding, length of the byte order mark). Raises MoltingError for archives and other binary files."""
    if head.startswith(b"PAR1"):
        return "utf-8", 0
    for magic, kind, remedy in _PACKED:
        if head.startswith(magic):
            raise bad_data(path, f"is {kind}", remedy)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise bad_data(path, "is a Python pickle, which can run code, so it is not read", "Save it as JSONL.")
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding, len(mark)
    if b"\x00" in head:
        raise bad_data(
            path,
            "holds zero bytes: it is a binary file, or UTF-16 text without its byte order mark",
            "Save it as UTF-8 text.",
        )
    return "utf-8", 0
