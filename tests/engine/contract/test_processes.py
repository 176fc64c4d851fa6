from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from engine.contract import processes as ours
from engine.contract.errors import MoltingError
from tests.support import processes
from tests.support.processes import eventually

SLEEP = "import time; print('ready', flush=True); time.sleep(60)"


def test_this_process_is_alive_and_survives_encoding() -> None:
    me = ours.current()
    assert me.pid == os.getpid() and ours.is_alive(me) is True
    assert msgspec.json.decode(msgspec.json.encode(me), type=ours.Identity) == me


def test_the_dead_and_zombies_are_not_alive() -> None:
    child = processes.start(SLEEP)
    processes.line(child)
    identity = ours.of(child.pid)
    assert identity is not None and ours.is_alive(identity) is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{child.pid}").exists(), "it is a zombie now"
    assert ours.is_alive(identity) is False and ours.of(child.pid) is None
    child.communicate()
    assert ours.is_alive(identity) is False and not ours.send_signal(identity, signal.SIGTERM)


def test_another_host_cannot_be_known_and_another_boot_is_dead() -> None:
    me = ours.current()
    elsewhere = msgspec.structs.replace(me, host="some-other-host")
    assert ours.is_alive(elsewhere) is None
    assert ours.is_alive(msgspec.structs.replace(me, boot_id="before")) is False
    with pytest.raises(MoltingError, match="some-other-host"):
        ours.send_signal(elsewhere, signal.SIGTERM)


def test_a_name_with_brackets_and_spaces_does_not_confuse(tmp_path: Path) -> None:
    odd = tmp_path / "a) Z 1 (b"
    shutil.copy("/bin/sleep", odd)
    child = subprocess.Popen([odd, "60"])
    try:
        assert eventually(lambda: b"a) Z" in Path(f"/proc/{child.pid}/stat").read_bytes())
        identity = ours.of(child.pid)
        assert identity is not None and abs(identity.start_time - ours.current().start_time) < 10**6
    finally:
        child.kill()
        child.wait()


def test_a_stranger_with_the_same_number_is_not_signalled() -> None:
    child = processes.start(SLEEP)
    processes.line(child)
    identity = ours.of(child.pid)
    assert identity is not None
    earlier = msgspec.structs.replace(identity, start_time=identity.start_time - 1)
    assert ours.is_alive(earlier) is False
    assert ours.send_signal(earlier, signal.SIGKILL) is False
    assert child.poll() is None, "the stranger lives"
    assert ours.send_signal(identity, signal.SIGTERM) is True
    assert child.wait(10) == -signal.SIGTERM
    child.communicate()


def _with_pid(pid: int) -> subprocess.Popen[bytes] | None:
    """A process that the kernel gave this very number, or None after some tries."""
    for _ in range(50):
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        child = subprocess.Popen(["/bin/sleep", "60"])
        if child.pid == pid:
            return child
        child.kill()
        child.wait()
    return None


@pytest.mark.skipif(
    not os.access("/proc/sys/kernel/ns_last_pid", os.W_OK), reason="this kernel does not let us choose a pid"
)
def test_a_number_that_was_really_used_again_is_not_signalled() -> None:
    first = subprocess.Popen(["/bin/sleep", "60"])
    identity = ours.of(first.pid)
    assert identity is not None
    first.kill()
    first.wait()
    time.sleep(0.05)
    stranger = _with_pid(first.pid)
    if stranger is None:
        pytest.skip("the number was taken by others each time")
    try:
        assert ours.send_signal(identity, signal.SIGKILL) is False
        assert ours.is_alive(identity) is False
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_without_pidfd_strangers_are_safe_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    test_a_stranger_with_the_same_number_is_not_signalled()


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline().strip(), flush=True)
child.wait()
"""


def test_a_child_dies_with_its_parent() -> None:
    dying = "from engine.contract.processes import die_with_parent; die_with_parent();" + SLEEP
    for code, dies in ((dying, True), (SLEEP, False)):
        parent = processes.start(PARENT, code)
        pid, ready = processes.line(parent).split()
        assert ready == "ready"
        child = ours.of(int(pid))
        assert child is not None
        processes.end(parent)
        assert eventually(lambda who=child: ours.is_alive(who) is False, 10 if dies else 0.5) is dies
        ours.send_signal(child, signal.SIGKILL)


def test_a_child_whose_parent_was_already_dead_dies_at_once() -> None:
    code = "from engine.contract.processes import die_with_parent; die_with_parent(15, parent=1); print('alive')"
    child = processes.start(code)
    assert child.communicate()[0] == "" and child.returncode == -signal.SIGTERM


SPAWN = """
import os, sys, time
from pathlib import Path
from engine.contract.processes import spawn_detached
secret = os.open("/etc/passwd", os.O_RDONLY); os.set_inheritable(secret, True)
pid = spawn_detached([sys.executable, "-c", "import time; print('hello', flush=True); time.sleep(60)"],
                     stdout=Path(sys.argv[1]), env=os.environ)
print(pid, flush=True)
time.sleep(60)
"""


@dataclass
class Spawned:
    identity: ours.Identity
    log: Path

    @property
    def alive(self) -> bool:
        return ours.is_alive(self.identity) is True


def _spawned(pid: int, log: Path) -> Spawned:
    identity = ours.of(pid)
    assert identity is not None
    assert eventually(lambda: log.exists() and log.read_text() == "hello\n")
    return Spawned(identity, log)


def test_what_is_detached_outlives_its_starter_killed_with_its_group(tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", SPAWN, tmp_path / "log"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=processes.ROOT,
    )
    run = _spawned(int(processes.line(starter)), tmp_path / "log")
    try:
        os.killpg(starter.pid, signal.SIGKILL)
        starter.communicate()
        time.sleep(0.3)
        assert run.alive
        assert os.getsid(run.identity.pid) == run.identity.pid
        files = {link.name: str(link.readlink()) for link in Path(f"/proc/{run.identity.pid}/fd").iterdir()}
        assert files == {"0": "/dev/null", "1": str(run.log), "2": str(run.log)}
        status = Path(f"/proc/{run.identity.pid}/status").read_text()
        assert "Umask:\t0077" in status
        assert run.log.stat().st_mode & 0o777 == 0o600
    finally:
        ours.send_signal(run.identity, signal.SIGKILL)


def test_what_is_detached_outlives_its_terminal(tmp_path: Path) -> None:
    # The child of the fork becomes another program at once, so it runs none of pytest's clean-up.
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(processes.ROOT)
        os.execv(sys.executable, [sys.executable, "-c", SPAWN, str(tmp_path / "log")])
    said = b""
    while not said.endswith(b"\n"):
        said += os.read(terminal, 100)
    run = _spawned(int(said), tmp_path / "log")
    try:
        os.close(terminal)
        assert os.waitpid(pid, 0)[1] == signal.SIGHUP, "the starter died of its terminal"
        time.sleep(0.3)
        assert run.alive
    finally:
        ours.send_signal(run.identity, signal.SIGKILL)


def test_no_zombie_stays(tmp_path: Path) -> None:
    pid = ours.spawn_detached(["true"], stdout=None, env=os.environ)
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_what_cannot_be_started_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MoltingError, match="no-such-program could not be started"):
        ours.spawn_detached(["no-such-program"], stdout=None, env=os.environ)
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MoltingError, match="could not be started"):
        ours.spawn_detached(["true"], stdout=tmp_path / "log", env=os.environ)
    assert not (tmp_path / "elsewhere").exists()


@pytest.fixture
def logind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine with systemd, played by small programs; call it with what they say."""

    def play(kill: str, linger: str = "no", scope_works: bool = True) -> None:
        scripts = {
            "busctl": f"echo 'b {kill}'",
            "loginctl": f"echo Linger={linger}",
            # As the real one: the command replaces it.
            "systemd-run": 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"' if scope_works else "exit 1",
        }
        for name, body in scripts.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
            (tmp_path / name).chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(ours, "_SYSTEMD", tmp_path)
    return play


def test_logout_kills_only_where_logind_says_so(logind) -> None:
    logind("false")
    assert ours.survives_logout()[0] is True
    logind("true")
    survives, sentence = ours.survives_logout()
    assert survives is False and "enable-linger" in sentence
    logind("true", "yes")
    assert ours.survives_logout() == (True, ours.survives_logout()[1]) and "scope" in ours.survives_logout()[1]
    logind("true", "yes", scope_works=False)
    assert ours.survives_logout()[0] is False


def test_a_scope_of_its_own_keeps_the_pid(logind, tmp_path: Path) -> None:
    logind("true", "yes")
    pid = ours.spawn_detached(["sleep", "60"], stdout=None, env=os.environ)
    try:
        assert eventually(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    finally:
        os.kill(pid, signal.SIGKILL)


def test_without_systemd_nothing_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ours, "_SYSTEMD", tmp_path / "none")
    assert ours.survives_logout()[0] is True
