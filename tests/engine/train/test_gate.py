"""Waiting for memory: as long as another program holds it, and not when nothing can free it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from engine.contract import events
from engine.contract.journal import JournalReader
from engine.contract.rundir import RunDir
from engine.train import gate, ours
from engine.train.recorder import Recorder

GB = 10**9


class Waited:
    """One wait with memory that is told look by look."""

    def __init__(self, folder: Path, frees: list[int], *, need: int) -> None:
        run = RunDir(folder)
        attempt = run.attempt(1)
        attempt.path.mkdir(parents=True)
        recorder, left, slept = Recorder(attempt), iter(frees), []
        gate.wait(need, 4 * GB, lambda: next(left), recorder, slept.append)
        recorder.close()
        self.looks = len(slept)
        self.said = [events.decode(line) for line in JournalReader(attempt.events).read()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_what_fits_does_not_wait(folder: Path) -> None:
    waited = Waited(folder, [3 * GB], need=2 * GB)
    assert (waited.looks, waited.said) == (0, [])


def test_it_waits_until_the_other_program_has_gone_and_says_so(folder: Path) -> None:
    waited = Waited(folder, [GB, GB, 2 * GB], need=2 * GB)
    assert waited.looks == 2
    warned = next(event for event in waited.said if isinstance(event, events.Warn))
    assert "needs 2.00 GB and 1.00 GB are free" in warned.message
    assert any(isinstance(event, events.Phase) and event.name == "waiting for memory" for event in waited.said)


def test_what_no_waiting_can_free_is_not_waited_for(folder: Path) -> None:
    assert Waited(folder, [GB], need=5 * GB).looks == 0


_RANK = """
import sys
from pathlib import Path
from engine.contract.rundir import RunDir
from engine.train import gate, ranks
from engine.train.recorder import Recorder, Silent

mine, frees, slept = ranks.of_environment(), map(int, sys.argv[2].split()), []
ranks.meet(mine, 60)
gate._own = lambda device: (4 * 10**9, lambda: next(frees))
recorder = Recorder(RunDir(Path(sys.argv[1])).attempt(1)) if mine.first else Silent()
total, free = gate.room("cuda", mine)
gate.wait(2 * 10**9, total, free, recorder, slept.append, devices=mine.world)
recorder.close()
print(len(slept))
mine.leave()
"""


def test_of_several_devices_each_must_have_room(folder: Path) -> None:
    attempt = RunDir(folder).attempt(1)
    attempt.path.mkdir(parents=True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    frees = [f"{3 * GB} {3 * GB} {3 * GB}", f"{GB} {GB} {2 * GB}"]  # it is the other's card that is full
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _RANK, str(folder), free],
            env=os.environ | common | {"RANK": str(rank), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
        )
        for rank, free in enumerate(frees)
    ]
    assert [process.communicate(timeout=120)[0].split()[-1:] for process in processes] == [[b"2"], [b"2"]]
    said = [events.decode(line) for line in JournalReader(attempt.events).read()]
    warned = next(event for event in said if isinstance(event, events.Warn))
    assert "2.00 GB on each of 2 GPUs and 1.00 GB are free on one of them" in warned.message


@pytest.mark.parametrize("verb", ["trainer", "host"])
def test_what_our_own_processes_hold_comes_back(verb: str) -> None:
    before = ours.held()
    code = "import sys, time; kept = b'x' * 80_000_000; print('up', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, "-m", "engine", verb], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert ours.held() - before > 80_000_000
        process.kill()
    assert ours.held("GPU-of-nobody") == 0
