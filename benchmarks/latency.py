"""A live run on a real terminal while 100 and 1,000 events a second arrive: keys, CPU and bytes written.

    python benchmarks/latency.py [--keys 60] [--seconds 10]

Another process appends the events. First the screen is only watched (CPU and bytes), then the cursor on the plot is
moved at random moments: from the key to the bytes of the new reading. At the usual rate of repaints and over SSH.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.day import event_at
from benchmarks.on_pty import machine, molting
from engine.contract import events
from engine.contract.rundir import RunDir
from tests.support import runs as recorded

LIMIT_MS, LIMIT_KIB = 60.0, 20.0  # p95 of keys; a second at the rate over SSH
RATES = (100, 1_000)
_BEFORE, _STEPS = 5_000, 200_000  # steps at the start, and in all
_LEFT, _RIGHT = "\x1b[D", "\x1b[C"
_READING = re.compile(rb"([\d,]+)  loss [\d.]+")


def long_run(folder: Path) -> RunDir:
    """A run in training, with some history."""
    (folder / "runs").mkdir(parents=True)
    run = recorded.make_run(folder / "runs", "long")
    said = recorded.Recorded(run, time.time() - _BEFORE)
    said.state("queued", "starting").start(steps=_STEPS).state("training")
    said.raw(b"".join(line_of(n, time.time() - (_BEFORE - n) / 5) for n in range(1, _BEFORE + 1)))
    return run


def line_of(n: int, t: float) -> bytes:
    event = event_at(n, _STEPS)
    event.seq, event.t = n, t
    return events.encode(event)


def append(log: Path, rate: int) -> None:
    """The process that appends, each event by a write of its own, until it is ended."""
    began, n = time.monotonic(), 0
    with log.open("ab", buffering=0) as file:
        while True:
            n += 1
            time.sleep(max(0.0, began + n / rate - time.monotonic()))
            file.write(line_of(_BEFORE + n, time.time()))


def measure(rate: int, env: dict[str, str], keys: int, seconds: float) -> tuple[float, float, float, float]:
    """(p50 ms, p95 ms, CPU share, KiB/s)"""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = long_run(folder)
        with recorded.Supervisor(run), molting(folder, **env) as app:
            app.until(lambda raw: b"training" in raw)
            app.watch(1.0)
            app.press("\r")
            app.until(lambda raw: b"tokens/s" in raw)
            argv = [sys.executable, __file__, "--append", str(run.attempt(1).events), str(rate)]
            writer = subprocess.Popen(argv)
            try:
                app.watch(3.0)
                cpu, written, since = _spent(app.process), len(app.raw), time.perf_counter()
                app.watch(seconds)
                passed = time.perf_counter() - since
                share, kib = (_spent(app.process) - cpu) / passed, (len(app.raw) - written) / 1024 / passed
                times = [_moved(app, n) for n in range(keys + 1)][1:]  # the first brings the cursor
                assert writer.poll() is None, "the appending process ended"
            finally:
                writer.kill()
                writer.wait()
    return statistics.median(times), statistics.quantiles(times, n=20)[-1], share, kib


def _spent(process) -> float:  # type: ignore[no-untyped-def]
    times = process.cpu_times()
    return times.user + times.system


def _moved(app, turn: int) -> float:  # type: ignore[no-untyped-def]
    """Milliseconds from a key to the new reading, after a wait that no repaint keeps step with."""
    app.watch(random.uniform(0.15, 0.45))
    told = _READING.findall(app.raw)
    before = told[-1] if told else b""
    begin = len(app.raw)
    pressed = app.press(_LEFT if turn % 2 == 0 else _RIGHT)
    seen = app.until(lambda raw: any(each != before for each in _READING.findall(raw)), begin, 10.0)
    return (seen - pressed) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--append", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.append:
        append(Path(args.append[0]), int(args.append[1]))
    print(f"{args.keys} keys each; {machine()}")
    print("events/s  terminal   p50 ms   p95 ms  limit  CPU %   KiB/s  limit")
    missed = False
    for rate in RATES:
        for where, env in (("local", {}), ("SSH", {"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"})):
            p50, p95, share, kib = measure(rate, env, args.keys, args.seconds)
            over = p95 > LIMIT_MS or (where == "SSH" and kib > LIMIT_KIB)
            missed = missed or over
            limit = f"{LIMIT_KIB:>5.0f}" if where == "SSH" else f"{'-':>5}"
            print(
                f"{rate:>8,}  {where:8}  {p50:>7.1f}  {p95:>7.1f}  {LIMIT_MS:>5.0f}  {share:>5.0%}  {kib:>6.1f}"
                f"  {limit}{'   MISSED' if over else ''}",
                flush=True,
            )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
