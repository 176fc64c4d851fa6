"""Chat on a real terminal while both voices stream 50 tokens a second: keys, CPU and bytes written.

    python benchmarks/chat.py [--keys 60] [--seconds 10]

A scripted inference host speaks the real protocol over a real socket, so that the rate is exact. First the screen is
only watched (CPU and bytes), then letters are typed at random moments: from the key to the bytes of the letter. At the
usual rate of repaints and over SSH. Exits with 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.on_pty import OnPty, machine, molting, words
from engine.contract import host
from tests.support import chat_host
from tests.support.chat_host import Session
from tests.support.runs import Recorded, make_run

LIMIT_MS, LIMIT_KIB = 60.0, 20.0  # p95 of keys; a second at the rate over SSH
RATE = 50  # tokens a second, each voice
_WORDS = ("the", "lamp", "in", "an", "old", "tower", "has", "seen", "more", "storms", "than", "ships")
_KEYS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # none of them is in the stream


def stream(session: Session, request: host.Chat) -> None:
    """Both voices without end, a token each at a time, until the question is stopped."""
    session.say(chat_host.began(request))
    began, n = time.monotonic(), 0
    while not session.stopped(request):
        n += 1
        time.sleep(max(0.0, began + n / RATE - time.monotonic()))
        word = f" {_WORDS[n * 7 % len(_WORDS)]}"
        session.say(*(chat_host.delta(request, voice, word, n) for voice in range(len(request.voices))))


def measure(env: dict[str, str], keys: int, seconds: float) -> tuple[float, float, float, float]:
    """(p50 ms, p95 ms, CPU share, KiB/s)"""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        runtime = folder / "rt"
        runtime.mkdir(mode=0o700)
        (folder / "runs").mkdir()
        Recorded(make_run(folder / "runs", "long")).state("queued", "starting").start().state("training", "finished")
        env = env | {"MOLTING_RUNTIME_DIR": str(runtime), "CUDA_VISIBLE_DEVICES": ""}
        listening = chat_host.fake_host(runtime / "host-cpu.sock", stream)
        with listening as hosted, molting(folder, **env) as app:
            app.until(lambda raw: "finished" in words(raw))
            app.watch(1.0)
            app.press("c")
            app.until(lambda raw: bool(hosted.opened))
            app.watch(1.0)
            app.press("go\r")
            app.until(lambda raw: bool(hosted.asked) and "lamp" in words(raw))
            app.watch(2.0)
            cpu, written, since = _spent(app), len(app.raw), time.perf_counter()
            app.watch(seconds)
            passed = time.perf_counter() - since
            share, kib = (_spent(app) - cpu) / passed, (len(app.raw) - written) / 1024 / passed
            times = [_typed(app, _KEYS[n % len(_KEYS)]) for n in range(keys)]
    return statistics.median(times), statistics.quantiles(times, n=20)[-1], share, kib


def _spent(app: OnPty) -> float:
    times = app.process.cpu_times()
    return float(times.user + times.system)


def _typed(app: OnPty, letter: str) -> float:
    """Milliseconds from a key to its letter on the screen, after a wait that no repaint keeps step with."""
    app.watch(random.uniform(0.15, 0.45))
    begin = len(app.raw)
    pressed = app.press(letter)
    return (app.until(lambda raw: letter in words(raw), begin, 10.0) - pressed) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    print(f"{RATE} tokens/s a voice, {args.keys} keys each; {machine()}")
    print("terminal   p50 ms   p95 ms  limit  CPU %   KiB/s  limit")
    missed = False
    for where, env in (("local", {}), ("SSH", {"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"})):
        p50, p95, share, kib = measure(env, args.keys, args.seconds)
        over = p95 > LIMIT_MS or (where == "SSH" and kib > LIMIT_KIB)
        missed = missed or over
        limit = f"{LIMIT_KIB:>5.0f}" if where == "SSH" else f"{'-':>5}"
        print(
            f"{where:8}  {p50:>7.1f}  {p95:>7.1f}  {LIMIT_MS:>5.0f}  {share:>5.0%}  {kib:>6.1f}  {limit}"
            f"{'   MISSED' if over else ''}",
            flush=True,
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
