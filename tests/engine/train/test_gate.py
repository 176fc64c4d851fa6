"""Waiting for memory: as long as another program holds it, and not when nothing can free it."""

from __future__ import annotations

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


def test_what_our_own_processes_hold_comes_back() -> None:
    before = ours.held()
    code = "import sys, time; kept = b'x' * 80_000_000; print('up', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, "-m", "engine", "trainer"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert ours.held() - before > 80_000_000
        process.kill()
    assert ours.held("GPU-of-nobody") == 0
