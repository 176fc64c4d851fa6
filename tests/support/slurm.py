"""A real Slurm on this machine: munged, slurmctld and slurmd with ports and folders of their own."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # where Debian keeps the daemons
_CONF = """\
ClusterName=molting
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
CryptoType=crypto/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
SlurmctldPort={ctld}
SlurmdPort={slurmd}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=60
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=molt1 NodeAddr=127.0.0.1 NodeHostname={host} CPUs=4 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=molt1 Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=molt1 MaxTime=INFINITE State=UP PriorityTier=10
"""


def missing() -> str:
    """Why there can be no Slurm here; empty where there can."""
    absent = [name for name in NEEDED if not shutil.which(name, path=_PATH)]
    return f"no {', '.join(absent)} here (Debian: slurm-wlm, munge)" if absent else ""


class OneMachine:
    """The three daemons, and the environment in which Slurm's commands find them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.conf = root / "slurm.conf"
        self.env = {"SLURM_CONF": str(self.conf), "PATH": _PATH}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        for folder in ("munge", "state", "spool"):
            (root / folder).mkdir(mode=0o755, parents=True)
        (root / "munge" / "key").touch(0o600)
        (root / "munge" / "key").write_bytes(secrets.token_bytes(128))
        ports = dict(zip(("ctld", "slurmd"), _free_ports(2), strict=True))
        host = socket.gethostname().split(".")[0]
        self.conf.write_text(_CONF.format(root=root, host=host, user=getpass.getuser(), **ports))

    def up(self) -> None:
        """Start everything; returns when a job could run."""
        self.start_munge()
        self.start_controller()
        self._start("slurmd", "-D", "-N", "molt1", "-f", str(self.conf))
        self._wait(lambda: "idle" in self.say("sinfo", "-h", "-o", "%t"), "node")

    def down(self) -> None:
        self.say("scancel", f"--user={getpass.getuser()}")
        for name in ("slurmd", "slurmctld", "munged"):
            self.stop(name)

    def start_munge(self) -> None:
        place = self.root / "munge"
        told = [f"--{kind}-file={place / kind}" for kind in ("key", "pid", "log", "seed")]
        self._start("munged", "--foreground", "--force", f"--socket={place / 'socket'}", *told)
        self._wait((place / "socket").exists, "munged")

    def start_controller(self) -> None:
        self._start("slurmctld", "-D", "-f", str(self.conf))
        self._wait(lambda: "UP" in self.say("scontrol", "ping"), "slurmctld")

    def stop(self, name: str, sig: int = signal.SIGTERM) -> None:
        """End one daemon, of "munged", "slurmctld" and "slurmd"."""
        daemon = self._daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(sig)
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(10)
        daemon.kill()
        daemon.wait()

    def say(self, *argv: str) -> str:
        """What one of Slurm's commands prints, errors included."""
        done = subprocess.run(argv, env=os.environ | self.env, capture_output=True, text=True, timeout=30)
        return done.stdout + done.stderr

    def _start(self, *argv: str) -> None:
        with (self.root / f"{argv[0]}.out").open("ab") as out:
            path = shutil.which(argv[0], path=_PATH) or argv[0]
            self._daemons[argv[0]] = subprocess.Popen(
                [path, *argv[1:]], env=os.environ | self.env, stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )

    def _wait(self, done: object, what: str) -> None:
        deadline = time.monotonic() + 30
        while not done():  # type: ignore[operator]
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} did not come up; see {self.root}")
            time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
