from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from engine.contract.devices import DeviceQueue, DeviceQueues
from tests.support import processes
from tests.support.processes import eventually

# Takes the device, says so in a common file, and keeps it until told.
USE = """
import sys
from engine.contract.devices import DeviceQueue
queue = DeviceQueue("GPU-1234")
print("ahead", queue.ahead(), flush=True)
assert queue.acquire(poll=float(sys.argv[3]))
assert queue.ahead() == 0
with open(sys.argv[1], "a") as file:
    file.write(sys.argv[2])
sys.stdin.readline()
queue.release()
"""
# Takes and gives back many times; a file that must not exist yet shows two users at once.
RACE = """
import os, sys, time
from engine.contract.devices import DeviceQueue
for _ in range(8):
    queue = DeviceQueue("cpu")
    assert queue.acquire(poll=0.002)
    os.close(os.open(sys.argv[1], os.O_CREAT | os.O_EXCL))
    time.sleep(0.002)
    os.unlink(sys.argv[1])
    queue.release()
"""

# The same with two devices at once, named in the order that is given.
PAIR = """
import os, sys, time
from engine.contract.devices import DeviceQueues
for _ in range(8):
    queues = DeviceQueues(sys.argv[2].split(","))
    assert queues.acquire(poll=0.002)
    for name in set(sys.argv[2].split(",")):
        os.close(os.open(sys.argv[1] + name, os.O_CREAT | os.O_EXCL))
    time.sleep(0.002)
    for name in set(sys.argv[2].split(",")):
        os.unlink(sys.argv[1] + name)
    queues.release()
"""


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOLTING_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path / "runtime"


def test_first_come_first_served_and_the_dead_leave_the_line(tmp_path: Path, private: Path) -> None:
    used = tmp_path / "used"
    used.touch()
    users: list[subprocess.Popen[str]] = []
    for name in "abcd":
        # The last one looks far more often than those before it, and must wait all the same.
        user = processes.start(USE, used, name, 0.001 if name == "d" else 0.3)
        assert processes.line(user) == f"ahead {len(users)}"
        tickets = private / "devices" / "GPU-1234" / "tickets"
        waiting = len(users)
        if not users:
            assert eventually(lambda: used.read_text() == "a")
        else:
            assert eventually(lambda n=waiting, t=tickets: len(list(t.iterdir())) == n)
        users.append(user)
    a, b, c, d = users
    assert DeviceQueue("GPU-1234").ahead() == 4 and DeviceQueue("GPU-5678").ahead() == 0
    processes.end(b)  # while it waits
    assert eventually(lambda: DeviceQueue("GPU-1234").ahead() == 3)
    assert used.read_text() == "a"
    processes.end(a)  # while it has the device
    assert eventually(lambda: used.read_text() == "ac")
    c.communicate("done\n")
    assert eventually(lambda: used.read_text() == "acd")
    d.communicate("done\n")
    assert DeviceQueue("GPU-1234").ahead() == 0
    assert not list(tickets.iterdir())


def test_never_two_at_once(tmp_path: Path, private: Path) -> None:
    racers = [processes.start(RACE, tmp_path / "in-use") for _ in range(5)]
    for racer in racers:
        racer.communicate()
    assert [racer.returncode for racer in racers] == [0] * 5
    assert not list((private / "devices" / "cpu" / "tickets").iterdir())


def test_who_is_told_to_stop_leaves_the_line() -> None:
    first, second = DeviceQueue("cpu"), DeviceQueue("cpu")
    assert first.acquire()
    asked: list[int] = []

    def stop() -> bool:
        asked.append(second.ahead())
        return len(asked) == 3

    assert second.acquire(poll=0.01, stop=stop) is False
    assert asked == [1, 1, 1]
    first.release()
    assert second.acquire(poll=0.01)
    assert first.ahead() == 1
    second.release()


def test_a_hostile_device_name_stays_in_its_folder(private: Path) -> None:
    queue = DeviceQueue("../../etc/x")
    assert queue.acquire()
    queue.release()
    assert [path.name for path in (private / "devices").iterdir()] == ["______etc_x"]


def test_runs_that_want_several_devices_never_wait_for_each_other(tmp_path: Path) -> None:
    users = [processes.start(PAIR, tmp_path / "used-", names) for names in ("a,b", "b,a", "b,c", "c,a")]
    for user in users:
        user.communicate(timeout=60)
        assert user.returncode == 0


def test_who_stops_waiting_for_the_second_device_lets_go_of_the_first() -> None:
    second = DeviceQueue("b")
    assert second.acquire()
    assert not DeviceQueues(["b", "a"]).acquire(poll=0.01, stop=lambda: True)
    assert DeviceQueue("a").ahead() == 0
    second.release()
    both = DeviceQueues(["a", "b", "a"])
    assert both.acquire(poll=0.01)
    both.release()
