"""The event log: 1,000,000 events appended, read, and its tail shown, beside plain Python doing the same.

    python benchmarks/journal.py [EVENTS]

Ends with status 1 when a limit is missed. The peer writes lines with `json` and one flush each, and must read
the whole file to show its end.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.contract import events
from engine.contract.journal import JournalReader, JournalWriter

TAIL = 2000  # lines: more than a screen and its plot show at first
TAIL_LIMIT = 0.3  # seconds


def metric(n: int) -> events.Metric:
    """A step as a trainer says it."""
    return events.Metric(
        seq=n, t=1763.0 + n, step=n, loss=2.5 / (1 + n), grad_norm=0.7, lr=2e-4, tokens=900 * n, learned=310, rows=4,
        seconds=0.41, epoch=n / 250,
    )  # fmt: skip


def timed(work: Callable[[], object]) -> tuple[float, object]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def append(path: Path, count: int) -> None:
    writer = JournalWriter(path)
    for n in range(count):
        writer.write(events.encode(metric(n)), durable=n % 10_000 == 0)
    writer.close()


def append_plainly(path: Path, count: int) -> None:
    with path.open("w") as file:
        for n in range(count):
            fields = {name: getattr(event, name) for event in [metric(n)] for name in event.__struct_fields__}
            file.write(json.dumps({"k": "metric", **fields}) + "\n")
            file.flush()


def tail(path: Path) -> int:
    return len([events.decode(line) for line in JournalReader(path).tail(TAIL)])


def tail_plainly(path: Path) -> int:
    with path.open() as file:
        return len([json.loads(line) for line in deque(file, TAIL)])


def read(path: Path) -> int:
    return sum(1 for line in JournalReader(path).read() if events.decode(line))


def read_plainly(path: Path) -> int:
    with path.open() as file:
        return sum(1 for line in file if json.loads(line))


def back_fill(path: Path) -> int:
    """Tail first, then everything before it, as the live screen does."""
    reader = JournalReader(path)
    reader.tail(TAIL)
    return TAIL + sum(sum(1 for line in block if events.decode(line)) for block in reader.iter_backwards())


def main(count: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = Path(folder) / "ours.jsonl", Path(folder) / "plain.jsonl"
        appended, _ = timed(lambda: append(ours, count))
        appended_plainly, _ = timed(lambda: append_plainly(plain, count))
        tails = [timed(lambda: tail(ours)) for _ in range(3)]
        tail_seconds, shown = max(tails, key=lambda each: each[0])
        plain_tail, _ = timed(lambda: tail_plainly(plain))
        whole, found = timed(lambda: read(ours))
        plain_whole, _ = timed(lambda: read_plainly(plain))
        backwards, filled = timed(lambda: back_fill(ours))
        assert (found, filled, shown) == (count, max(count, TAIL), min(count, TAIL)), "an event was lost"
        size = ours.stat().st_size / 1e6
    print(f"{count:,} events, {size:.0f} MB")
    print(f"{'':32}{'ours':>10}{'plain json':>12}{'limit':>10}")
    print(f"{'append, microseconds an event':32}{appended / count * 1e6:>10.1f}{appended_plainly / count * 1e6:>12.1f}")
    print(f"{f'tail of {TAIL} decoded, seconds':32}{tail_seconds:>10.3f}{plain_tail:>12.3f}{TAIL_LIMIT:>10.1f}")
    print(f"{'read all and decode, seconds':32}{whole:>10.2f}{plain_whole:>12.2f}")
    print(f"{'tail, then back-fill, seconds':32}{backwards:>10.2f}")
    return int(tail_seconds > TAIL_LIMIT)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
