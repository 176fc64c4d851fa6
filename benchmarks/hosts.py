"""The runs of three machines over ssh: seconds and bytes of a list, and of the changes that follow.

    python benchmarks/hosts.py [--runs 50] [--repeat 5]

Three real sshds on loopback, each with a home of its own. The first list connects, the next use the connection that
is open; beside them the list without ssh. Then the app's watch over all three: until all runs are known, and bytes for
each change. Bytes are what the command of the other machine says, before ssh encrypts it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.on_pty import machine
from molting_tui.services import ssh
from tests.support.runs import Recorded, Supervisor, finished_run, make_run
from tests.support.sshd import WHY_NOT, Box, ssh_world

NAMES = ("one", "two", "three")
LIMIT = 2.0  # a warm list costs at most this many times one without ssh
_CHANGES = 10


def listed(box: Box, *, over_ssh: bool) -> tuple[float, int]:
    """(seconds, bytes) of one list, as a command of the other machine answers it."""
    there = ssh.machine(box.name, {}).argv(["runs", "--json"])
    here = [str(box.molting), "runs", "--json"]
    env = os.environ | {"MOLTING_RUNS": str(box.runs)}
    began = time.perf_counter()
    done = subprocess.run(
        there if over_ssh else here, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    return time.perf_counter() - began, len(done.stdout)


def followed(boxes: list[Box], recorded: list[Recorded]) -> tuple[float, float, float]:
    """(seconds until all runs of all machines are known, bytes of that for each, bytes for each change)."""
    began = time.perf_counter()
    following = [
        subprocess.Popen(
            ssh.machine(box.name, {}).argv(["runs", "--follow", "--json"]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        for box in boxes
    ]
    first = 0
    for each in following:
        assert each.stdout
        for line in each.stdout:
            first += len(line)
            if line == b'{"complete": true}\n':
                break
    complete = time.perf_counter() - began
    changes = 0
    for step in range(_CHANGES):
        for history, each in zip(recorded, following, strict=True):
            history.steps([100 + step])
            assert each.stdout
            changes += len(each.stdout.readline())
    for each in following:
        each.terminate()
        each.wait()
    return complete, first / len(boxes), changes / _CHANGES / len(boxes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    if WHY_NOT:
        print(f"Not measured: {WHY_NOT}.")
        return 0
    with tempfile.TemporaryDirectory(prefix="mh-") as place, ssh_world(Path(place), *NAMES) as (env, boxes):
        os.environ.update(env)
        live = []
        for box in boxes:
            for number in range(args.runs - 1):
                finished_run(box.runs, f"run{number}")
            run = make_run(box.runs, "live")
            live.append(run)
        recorded = [
            Recorded(run, time.time()).state("queued", "starting").start(steps=500).state("training") for run in live
        ]
        supervisors = [Supervisor(run) for run in live]
        try:
            print(f"3 machines, {args.runs} runs each, median of {args.repeat}; {machine()}")
            cold = [listed(box, over_ssh=True) for box in boxes]
            warm = [listed(box, over_ssh=True) for _ in range(args.repeat) for box in boxes]
            local = [listed(box, over_ssh=False) for _ in range(args.repeat) for box in boxes]
            complete, first, change = followed(boxes, recorded)
        finally:
            for supervisor in supervisors:
                supervisor.kill()
    ratio = _median(warm) / _median(local)
    print("                              seconds    KiB a machine")
    print(f"list, connecting              {_median(cold):>7.2f}    {cold[0][1] / 1024:>13.1f}")
    print(f"list, connected               {_median(warm):>7.2f}    {warm[0][1] / 1024:>13.1f}")
    print(f"list, without ssh             {_median(local):>7.2f}    {local[0][1] / 1024:>13.1f}")
    print(f"watch of all three, complete  {complete:>7.2f}    {first / 1024:>13.1f}")
    print(f"one change                          -    {change / 1024:>13.2f}")
    print(f"connected / without ssh       {ratio:>7.2f}    limit {LIMIT}{'   MISSED' if ratio > LIMIT else ''}")
    return int(ratio > LIMIT)


def _median(measured: list[tuple[float, int]]) -> float:
    return statistics.median(seconds for seconds, _ in measured)


if __name__ == "__main__":
    sys.exit(main())
