from __future__ import annotations

import fcntl
import os
import signal
import threading
from pathlib import Path

import pytest

from engine.contract.errors import MoltingError
from engine.contract.locks import FileLock, is_locked
from tests.support import processes

HOLD = """
import sys, time
from pathlib import Path
from engine.contract.locks import FileLock
lock = FileLock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
time.sleep(60)
"""
TRY = """
import sys
from pathlib import Path
from engine.contract.locks import FileLock
print(FileLock(Path(sys.argv[1])).acquire(), flush=True)
"""


def another_process_gets(path: Path) -> bool:
    return processes.start(TRY, path).communicate()[0].strip() == "True"


def test_one_holder_until_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "owner.lock"
    lock = FileLock(path)
    assert not is_locked(path) and not path.exists()
    holder = processes.start(HOLD, path)
    assert processes.line(holder) == "True"
    assert not lock.acquire() and not lock.held
    assert is_locked(path) and lock.holder_pid() == holder.pid
    os.kill(holder.pid, signal.SIGSTOP)
    assert is_locked(path), "stopped is not dead"
    processes.end(holder)
    assert not is_locked(path) and lock.holder_pid() is None
    assert lock.acquire() and lock.held and path.stat().st_mode & 0o777 == 0o600
    lock.release()
    assert another_process_gets(path)


def test_asking_in_the_holders_own_process_does_not_drop_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = FileLock(path)
    assert lock.acquire()
    os.link(path, tmp_path / "other-name")
    (tmp_path / "folder").symlink_to(tmp_path)
    for name in (path, tmp_path / "other-name", tmp_path / "folder" / "lock"):
        assert is_locked(name)
        assert FileLock(name).holder_pid() == os.getpid()
        assert not FileLock(name).acquire(), "a second lock object in one process is another holder"
    assert lock.acquire(), "asking again for what one has is allowed"
    assert not another_process_gets(path)
    lock.release()
    lock.release()
    assert another_process_gets(path)


def test_a_forked_child_neither_has_nor_drops_the_lock(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    assert lock.acquire()
    child = os.fork()
    if child == 0:
        held = lock.held or FileLock(tmp_path / "lock").acquire() or lock.holder_pid() != os.getppid()
        lock.release()
        os._exit(int(held))
    assert os.waitpid(child, 0)[1] == 0
    assert lock.held and not another_process_gets(tmp_path / "lock")
    lock.release()


def test_a_lock_file_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first, second = FileLock(path), FileLock(path)
    assert first.acquire()
    path.unlink()
    assert second.acquire() and second.held and path.exists()
    first.release()
    assert not another_process_gets(path)
    second.release()


def test_a_lock_file_deleted_just_before_locking_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, really_lock = FileLock(tmp_path / "lock"), fcntl.lockf

    def too_late(fd: int, flags: int) -> None:
        lock.path.unlink()
        really_lock(fd, flags)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "lockf", too_late)
        assert not lock.acquire()
    assert lock.acquire() and not another_process_gets(lock.path)
    lock.release()


def test_blocking_waits(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire()
    waiter = threading.Thread(target=second.acquire, kwargs={"blocking": True})
    waiter.start()
    waiter.join(0.2)
    assert waiter.is_alive()
    first.release()
    waiter.join(10)
    assert second.held
    second.release()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_not_a_plain_file_is_no_lock(tmp_path: Path, make) -> None:
    make(tmp_path / "lock")
    with pytest.raises(MoltingError):
        FileLock(tmp_path / "lock").acquire()


def test_of_many_that_race_one_wins(tmp_path: Path) -> None:
    racers = [processes.start(HOLD, tmp_path / "lock") for _ in range(6)]
    won = [processes.line(racer) for racer in racers]
    for racer in racers:
        processes.end(racer)
    assert won.count("True") == 1
