"""What earlier runs on this machine taught about forecasts: one line a run, in the user's state folder."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine.contract.durable import make_private_dir
from engine.contract.errors import MoltingError
from engine.contract.journal import JournalReader, JournalWriter
from engine.contract.locks import FileLock

LAST = 9  # runs that count, of the same device and method
NEEDED = 2  # one run alone may have been disturbed
ALIKE = 2.0  # times larger or smaller
LEAST, MOST = 0.8, 1.6  # a correction beyond these says that something else is wrong
_READ = 2000  # lines


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that were forecast (before any correction) and measured, and what the steps took.

    `device`: "cpu", or the name of the GPU. `settings`, `tokens` and the seconds are those of `duration`.
    """

    device: str
    method: str
    forecast: int
    measured: int
    runtime: int = 0  # resident before loading; 0 where that was not measured
    model: str = ""  # its fingerprint
    parameters: int = 0
    settings: str = ""
    tokens: int = 0  # that passed through the model, without the first step
    seconds: float = 0.0  # that they took
    beside: float = 0.0  # all other seconds: loading, the first step, held-out rows, samples, saving
    t: float = 0.0


def file() -> Path:
    """`$XDG_STATE_HOME/molting/memory.jsonl`."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    return base / "molting" / "memory.jsonl"


def load(path: Path | None = None) -> list[Run]:
    """All runs, oldest first; a line that cannot be read is passed over, and so is a file that is none."""
    runs: list[Run] = []
    with contextlib.suppress(OSError, MoltingError):
        for line in JournalReader(path or file()).tail(_READ):
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                runs.append(msgspec.json.decode(line, type=Run))
    return runs


def append(run: Run, path: Path | None = None) -> None:
    """Add a run, durably. OSError when the disk refuses it."""
    path = path or file()
    make_private_dir(path.parent)
    lock = FileLock(path.with_suffix(".lock"))
    lock.acquire(blocking=True)
    try:
        writer = JournalWriter(path, exclusive=False)
        try:
            writer.write(msgspec.json.encode(msgspec.structs.replace(run, t=run.t or time.time())))
        finally:
            writer.close()
    finally:
        lock.release()


def correction(runs: Sequence[Run], device: str, method: str, forecast: int) -> float:
    """What a forecast of so many bytes is multiplied by: 1.0 before there are runs alike, then their
    median ratio.

    Alike is the same device and method and a forecast of half to twice the size: what a toy was off by, which is mostly
    libraries, says nothing of a large model.
    """
    ratios = [
        run.measured / run.forecast
        for run in runs
        if (run.device, run.method) == (device, method)
        and min(run.forecast, run.measured) > 0
        and forecast / ALIKE <= run.forecast <= forecast * ALIKE
    ]
    if len(ratios) < NEEDED:
        return 1.0
    return min(MOST, max(LEAST, statistics.median(ratios[-LAST:])))


def runtime(runs: Sequence[Run], device: str) -> int:
    """Bytes that a trainer held before it loaded anything, as measured here; 0 where it never was."""
    measured = [run.runtime for run in runs if run.device == device and run.runtime > 0]
    return round(statistics.median(measured[-LAST:])) if measured else 0
