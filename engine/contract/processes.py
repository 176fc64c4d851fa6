"""Processes: who one is, whether it lives, signals that cannot hit a stranger, starting what outlives us.

Locks are in `locks`, the environment a child may see in `environment`; both are offered here too.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from .environment import clean_env, runtime_dir
from .errors import MoltingError
from .locks import FileLock, is_locked

__all__ = [
    "FileLock",
    "Identity",
    "clean_env",
    "current",
    "die_with_parent",
    "is_alive",
    "is_locked",
    "of",
    "runtime_dir",
    "send_signal",
    "spawn_detached",
    "survives_logout",
]

_PR_SET_PDEATHSIG = 1
_SYSTEMD = Path("/run/systemd/system")  # exists where systemd is what runs the machine


class Identity(msgspec.Struct, frozen=True):
    """One process, never mistaken for a later one with the same number.

    `start_time` is in clock ticks since boot (field 22 of /proc/PID/stat).
    """

    host: str
    boot_id: str
    pid: int
    start_time: int


@functools.cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        return str(int(psutil.boot_time()))


def _start_time(pid: int) -> int | None:
    """None when there is no such process; a zombie has died and does not count."""
    if not Path("/proc/self/stat").exists():
        return _start_time_elsewhere(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name of the command may hold spaces and brackets: what follows its last bracket starts at field 3.
    fields = stat.rpartition(b")")[2].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _start_time_elsewhere(pid: int) -> int | None:
    """Where there is no /proc, as on macOS: hundredths of a second."""
    import psutil

    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time() * 100)
    return None


def of(pid: int) -> Identity | None:
    """The process that has this number on this machine now, or None."""
    start_time = _start_time(pid) if pid > 0 else None
    return None if start_time is None else Identity(os.uname().nodename, _boot_id(), pid, start_time)


def current() -> Identity:
    """This process."""
    me = of(os.getpid())
    if me is None:
        raise MoltingError("This process cannot be seen in /proc.", remedy="Mount /proc in this container.")
    return me


def is_alive(identity: Identity) -> bool | None:
    """Whether that very process lives. None when it ran on another host, where we cannot look."""
    if identity.host != os.uname().nodename:
        return None
    return identity.boot_id == _boot_id() and of(identity.pid) == identity


def send_signal(identity: Identity, sig: int) -> bool:
    """Signal that very process. False when it is gone, even if its number lives on in a stranger.

    MoltingError when it runs on another host, or belongs to another user.
    """
    if is_alive(identity) is None:
        raise MoltingError(
            f"Process {identity.pid} runs on {identity.host}, which cannot be signalled from here.",
            remedy=f"Do this on {identity.host}.",
        )
    try:
        return _signal_if_same(identity, sig)
    except ProcessLookupError:
        return False
    except PermissionError:
        raise MoltingError(f"Process {identity.pid} belongs to another user.") from None


def _signal_if_same(identity: Identity, sig: int) -> bool:
    if not hasattr(os, "pidfd_open") or not hasattr(signal, "pidfd_send_signal"):
        # Pythons built against old headers: a moment remains in which the number could pass to another.
        alive = bool(is_alive(identity))
        if alive:
            os.kill(identity.pid, sig)
        return alive
    # The descriptor pins whatever process has the number now; only then is it compared.
    pidfd = os.pidfd_open(identity.pid)
    try:
        alive = bool(is_alive(identity))
        if alive:
            signal.pidfd_send_signal(pidfd, sig)
        return alive
    finally:
        os.close(pidfd)


def die_with_parent(sig: int = signal.SIGTERM, parent: int | None = None) -> None:
    """Ask the kernel to send this process `sig` when its parent dies. Linux only; elsewhere nothing happens.

    The kernel watches the parent's THREAD that started us: a parent must start children from a thread that
    lives as long as itself. Give `parent` (its pid) where it may already have died before this call; the
    signal is then sent at once.
    """
    expected = os.getppid() if parent is None else parent
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "prctl"):
        return
    if libc.prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0) != 0:
        raise MoltingError(f"The kernel refused a parent-death signal: {os.strerror(ctypes.get_errno())}.")
    if os.getppid() != expected:
        os.kill(os.getpid(), sig)


def spawn_detached(argv: Sequence[str], *, stdout: Path | None, env: Mapping[str, str], cwd: Path | None = None) -> int:
    """Start a process that outlives this one and its terminal; its pid.

    It gets its own session, /dev/null to read, `stdout` (appended to, made 0600) or /dev/null for what it
    prints, and no other descriptor of ours: any pipe or terminal it kept would kill it with us.
    MoltingError when it cannot be started.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        output = subprocess.DEVNULL if stdout is None else os.open(stdout, flags, 0o600)
        try:
            process = subprocess.Popen(
                [*_scope_of_its_own(), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
                close_fds=True,
                umask=0o077,
            )
        finally:
            if output >= 0:
                os.close(output)
    except OSError as error:
        raise MoltingError(f"{argv[0]} could not be started: {error.strerror}.") from None
    # Someone must collect its exit status, or it stays a zombie for as long as we live.
    threading.Thread(target=process.wait, name=f"reap-{process.pid}", daemon=True).start()
    return process.pid


def survives_logout() -> tuple[bool, str]:
    """Whether what we start lives on after this user logs out, and a sentence that says why."""
    if not _kills_at_logout():
        return True, "This machine leaves processes alone when their user logs out."
    if _scope_of_its_own():
        return True, "This machine ends processes at logout; a run gets a systemd scope of its own and stays."
    return False, (
        "This machine ends all processes of a user at logout (KillUserProcesses=yes in logind), the run too. "
        "`loginctl enable-linger` lets it live on."
    )


def _scope_of_its_own() -> list[str]:
    """The command that moves a process out of the login's cgroup, where that is needed and works."""
    if not _kills_at_logout():
        return []
    # Without lingering the user's manager, and every scope in it, ends with the last login.
    lingers = _said(["loginctl", "show-user", str(os.getuid()), "--property=Linger"]) == "Linger=yes"
    scope = ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--"]
    return scope if lingers and _said([*scope, "true"]) is not None else []


def _kills_at_logout() -> bool:
    if not _SYSTEMD.is_dir():
        return False
    login1 = ["org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"]
    return _said(["busctl", "--system", "get-property", *login1, "KillUserProcesses"]) == "b true"


def _said(argv: list[str]) -> str | None:
    """What a short command printed, None when it failed or is not there."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
