"""Watches a folder of runs: what is new, changed or gone. Reads only; knows no widgets."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine.contract import rundir, slurm, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.summary import Summary

_BATCH_SECONDS = 0.05  # a batch of summaries is given after this long, so that the table fills while it loads
_LOOK_AGAIN = 2.0  # seconds after which a live run is read anew even if no file changed: its owner may be dead
_ROUNDS = 8  # polls in which each ended run is looked at once
_AT_ONCE = 100  # ended runs looked at in one poll; of many runs each is looked at less often
_GRAIN = 2 * 10**9  # nanoseconds after a scan in which a change of the folder may leave its time as it was
_SCAN_AGAIN = 240  # polls after which the folder is read anew in any case: clocks of file servers differ

Signature = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Seen:
    """One round's news. `listed` are runs that exist, not read yet; `complete` when nothing is left to read."""

    listed: list[str] = field(default_factory=list)
    changed: list[Summary] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    complete: bool = False


@dataclass
class _Known:
    run: RunDir
    signature: Signature = ()
    live: bool = False
    read_at: float = 0.0


class RunsWatch:
    """Give it `poll` again and again; each time it reads only what changed. For one thread."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._known: dict[str, _Known] = {}
        self._scanned: object = None
        self._fresh = True  # whether the folder had just changed when it was scanned
        self._round = 0

    def poll(self) -> Iterator[Seen]:
        """News in batches, the last one complete. Nothing here raises for a damaged run or a missing folder."""
        new, gone = self._scan()
        if new or gone:
            yield Seen(listed=new, gone=gone)
        batch: list[Summary] = []
        since = time.monotonic()
        if any(known.live and known.run.slurm.exists() for known in self._known.values()):
            slurm.refresh_soon()
        for known in self._due():
            if (read := self._read(known)) is not None:
                batch.append(read)
            if batch and time.monotonic() - since > _BATCH_SECONDS:
                yield Seen(changed=batch)
                batch, since = [], time.monotonic()
        yield Seen(changed=batch, complete=True)

    def _scan(self) -> tuple[list[str], list[str]]:
        """(ids that appeared, ids that went). The folder's own time tells whether a scan is needed."""
        try:
            status = self._runs.stat()
            stamp = (status.st_ino, status.st_mtime_ns)
        except OSError:
            stamp = None
        # A change within the clock's grain after the last scan would go unseen; so then every few polls scan anyway.
        self._round += 1
        fresh = stamp is None or time.time_ns() - stamp[1] < _GRAIN or self._fresh
        if stamp == self._scanned and self._round % (_ROUNDS if fresh else _SCAN_AGAIN):
            return [], []
        self._scanned = stamp
        self._fresh = stamp is None or time.time_ns() - stamp[1] < _GRAIN
        try:
            found = {run.id: run for run in rundir.listed(self._runs)}
        except OSError:
            found = {}
        gone = [run_id for run_id in self._known if run_id not in found]
        for run_id in gone:
            del self._known[run_id]
        new = [run_id for run_id in found if run_id not in self._known]
        self._known |= {run_id: _Known(found[run_id]) for run_id in new}
        return new, gone

    def _due(self) -> list[_Known]:
        """Runs never read, newest first; then all live ones, and a share of the ended."""
        known = list(self._known.values())
        unread = [each for each in known if not each.signature]
        unread.sort(key=lambda each: _modified(each.run.path), reverse=True)
        rounds = max(_ROUNDS, -(-len(known) // _AT_ONCE))
        slot = self._round % rounds
        live = [each for each in known if each.live]
        return unread + live + [each for each in known[slot::rounds] if each.signature and not each.live]

    def _read(self, known: _Known) -> Summary | None:
        """A new summary where the run's files changed, else None."""
        now = time.monotonic()
        signature = _signature(known.run)
        stale = known.live and now - known.read_at > _LOOK_AGAIN
        if signature == known.signature and not stale:
            return None
        try:
            seen = summary.summarise(known.run)
        except (OSError, MoltingError) as error:
            # It went while it was read; the next scan tells.
            seen = Summary(
                id=known.run.id, path=str(known.run.path), name=known.run.id, state="lost", problem=str(error)
            )
        known.signature, known.live, known.read_at = signature, seen.live, now
        return seen


def _signature(run: RunDir) -> Signature:
    """Changes whenever lifecycle, newest events, grades or what lies in the run do; never empty."""
    attempts = run.path / "attempts"
    try:
        newest = max((int(name) for name in os.listdir(attempts) if name.isdecimal()), default=0)  # noqa: PTH208
    except OSError:
        newest = 0
    try:
        graded = sorted(run.grades.glob("*.jsonl"))
    except OSError:
        graded = []
    said = (run.path, run.lifecycle, run.attempt(newest).events, run.checkpoints, run.answers, *graded)
    return tuple(map(_stamp, said))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_size


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
