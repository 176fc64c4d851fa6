"""A real sshd on loopback, with keys, a home and a port of its own, and an ssh that knows it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.command import ROOT


def _without_molting(path: str) -> str:
    """Of an activated environment nothing is on another machine."""
    return ":".join(place for place in path.split(":") if not Path(place, "molting").exists())


SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
SSH = shutil.which("ssh")
WHY_NOT = "" if SSHD and SSH else "there is no sshd here; apt-get install openssh-server brings one"


class Box:
    """The other machine: `home` is its home, `name` what ssh calls it. Runs of its own lie in `home`/runs."""

    def __init__(self, folder: Path, name: str = "box") -> None:
        self.folder, self.name = folder, name
        self.home = folder / f"home-{name}"
        self.runs = self.home / "runs"
        (self.home / ".local/bin").mkdir(parents=True)
        self.molting = self.home / ".local/bin/molting"
        self.install()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        if not (folder / "key").exists():
            for key in ("key", "host-key"):
                subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
        self._config = folder / f"sshd-{name}.conf"
        (self.home / "config.toml").touch()
        env = {
            "HOME": self.home,
            "PATH": _without_molting(os.environ["PATH"]),
            "MOLTING_RUNTIME_DIR": folder / f"rt-{name}",
            "MOLTING_RUNS": self.runs,
            "MOLTING_CONFIG": self.home / "config.toml",
            "CUDA_VISIBLE_DEVICES": "none",
            "OMP_NUM_THREADS": 1,
        }
        settings = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": folder / "host-key",
            "AuthorizedKeysFile": folder / "key.pub",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "yes",
            "MaxSessions": 20,
            "PrintMotd": "no",
            "SetEnv": " ".join(f'{key}="{value}"' for key, value in env.items()),
        }
        self._config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))

    def install(self) -> None:
        """Put `molting` where a login finds it."""
        self.molting.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m molting_tui "$@"\n')
        self.molting.chmod(0o755)

    def start(self) -> None:
        """Switch the machine on."""
        assert SSHD
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it locks itself in
        log = (self.folder / f"sshd-{self.name}.log").open("ab")
        self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(self._config)], stdout=log, stderr=log)
        log.close()
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return
            time.sleep(0.02)
        raise AssertionError((self.folder / f"sshd-{self.name}.log").read_text())

    def stop(self) -> None:
        """Switch it off: nobody answers, and all connections are cut. What runs there goes on."""
        if self._process is not None:
            self.cut()
            self._process.kill()
            self._process.wait()
            self._process = None

    def cut(self) -> int:
        """Cut all connections by killing the sshd of each; how many."""
        assert self._process
        children = psutil.Process(self._process.pid).children()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                for each in [*(below for below in child.children() if "sshd" in below.name()), child]:
                    os.kill(each.pid, signal.SIGKILL)
        return len(children)


@contextmanager
def ssh_world(folder: Path, *names: str) -> Iterator[tuple[dict[str, str], list[Box]]]:
    """(environment of this side, machines that are switched on). Everything ends with the block."""
    boxes = [Box(folder, name) for name in names]
    (folder / "bin").mkdir()
    config = folder / "ssh_config"
    lines = ["StrictHostKeyChecking no", "UserKnownHostsFile /dev/null", f"IdentityFile {folder}/key"]
    for box in boxes:
        lines += [f"Host {box.name}", "  HostName 127.0.0.1", f"  Port {box.port}"]
    config.write_text("\n".join(lines) + "\n")
    ssh = folder / "bin/ssh"  # ssh reads the configuration of the password file's home, whatever HOME says
    ssh.write_text(f'#!/bin/sh\nexec {SSH} -F "{config}" "$@"\n')
    ssh.chmod(0o755)
    (folder / "config.toml").touch()
    env = {
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "HOME": str(folder),
        "MOLTING_RUNTIME_DIR": str(folder / "rt"),
        "MOLTING_RUNS": str(folder / "runs"),
        "MOLTING_CONFIG": str(folder / "config.toml"),
        "XDG_STATE_HOME": str(folder / "state"),
        "PYTHONPATH": str(ROOT),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
    }
    try:
        for box in boxes:
            box.start()
        yield env, boxes
    finally:
        for box in boxes:
            subprocess.run(
                [ssh, "-oControlPath=" + str(folder / "rt/ssh/%C"), "-Oexit", box.name], env=env, capture_output=True
            )
            box.stop()
