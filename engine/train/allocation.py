"""The supervisor of a run on a node that Slurm gave it: the same, but that Slurm may want the node back."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from engine.contract import slurm, summary
from engine.contract.errors import MoltingError
from engine.contract.lifecycle import State
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec

from .status import INTERRUPTED
from .supervisor import Supervisor, Watched

_TAIL = 16 << 10  # bytes of the output that are looked at
# What slurmd writes into the output of a job that it ends, in the words of `slurm.ENDS`.
_DUE_TO = {
    "TIME LIMIT": slurm.ENDS["TIMEOUT"],
    "PREEMPTION": slurm.ENDS["PREEMPTED"],
    "NODE FAILURE": slurm.ENDS["NODE_FAIL"],
    "CANCEL": slurm.ENDS["CANCELLED"],
}
_FIELD = re.compile(r"(\w+)=(\S*)")


def job_of(env: Mapping[str, str]) -> str:
    """The job that this process belongs to, as people name it: "42", "42_3"; empty outside of Slurm."""
    if env.get("SLURM_ARRAY_JOB_ID") and env.get("SLURM_ARRAY_TASK_ID"):
        return f"{env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"
    return env.get("SLURM_JOB_ID", "")


class _Granted:
    """The line for a device where there is none: Slurm has given us what we run on."""

    def acquire(self, **_: object) -> bool:
        return True

    def release(self) -> None:
        pass


class AllocatedSupervisor(Supervisor):
    """Saves when Slurm's signal says that the time is nearly up, and goes back into the queue where that is asked."""

    def __init__(self, run: RunDir, spec: Spec, models: Path, wanted: int = 0) -> None:
        super().__init__(run, spec, models, wanted)
        self.job = job_of(os.environ)
        self.node = os.environ.get("SLURMD_NODENAME", os.uname().nodename)
        self.time_is_up = False
        slurm.record(run, self.job)
        signal.signal(signal.SIGUSR1, self._near_the_limit)

    def _near_the_limit(self, *_: object) -> None:
        self.time_is_up = self.control.signalled = True

    def _queue(self) -> _Granted:  # type: ignore[override]
        return _Granted()

    def _command(self) -> list[str]:
        """On several nodes torchrun's agent runs on each, started by srun; they meet on the first, which is ours."""
        nodes = self.spec.launcher.nodes
        if nodes == 1:
            return super()._command()
        port = 29_000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 3_000  # two jobs may share a node
        os.environ["MOLTING_NODES"] = str(nodes)
        os.environ["MOLTING_MEET"] = f"{os.environ.get('SLURM_LAUNCH_NODE_IPADDR') or socket.gethostname()}:{port}"
        cpus = os.environ.get("SLURM_CPUS_PER_TASK", "")
        srun = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=0"]
        srun += [f"--cpus-per-task={cpus}"] if cpus else []
        agent = ["-I", "-m", "engine", "torchrun", str(self.run.path), str(self.attempt), str(self._team.processes)]
        return [*srun, sys.executable, *agent]

    def _ask_to_stop(self, watched: Watched) -> None:
        """srun answers SIGTERM by killing everything, so there the agents are told one by one."""
        if self.spec.launcher.nodes == 1:
            super()._ask_to_stop(watched)
            return
        try:
            slurm.command(["scancel", "--signal=TERM", f"{os.environ.get('SLURM_JOB_ID', self.job)}.0"])
        except MoltingError as error:
            self._log(str(error))

    def pass_to(self, state: State, **known: object) -> None:
        """Say of what Slurm ended why it did."""
        if state == "queued" and not known.get("why"):
            known["why"] = f"Slurm job {self.job} began on {self.node}."
        asked = self.control.asked()  # the orders are cleared when the end is recorded
        if state == "interrupted" and not asked and (why := self._why()):
            known["why"] = " ".join(filter(None, [why, str(known.get("why", ""))]))
        super().pass_to(state, **known)
        if state == "interrupted" and not asked:
            self._go_on()

    def supervise(self) -> int:
        """As ever; but a run that saved and left has not failed, whatever becomes of its job."""
        self._before = summary.newest_checkpoint(self.run)
        status = super().supervise()
        return 0 if status == INTERRUPTED else status

    def _why(self) -> str:
        self._seen = self._look_at_job()
        on = f"job {self.job} on {self.node}"
        if self.time_is_up:
            return f"The time limit of {on} came near."
        if self._starts_again():
            return f"Slurm {'preempted' if self._due_to() == 'PREEMPTION' else 'took the node from'} {on}."
        state = self._seen.get("JobState", "")
        word = _DUE_TO.get(self._due_to(), "") if state == "COMPLETING" else slurm.ENDS.get(state, "")
        return f"Slurm {on} {word}." if word else ""

    def _due_to(self) -> str:
        """The word that Slurm's daemon left in the job's output; of what was requeued, `scontrol` has forgotten it."""
        number = os.environ.get("SLURM_JOB_ID", self.job)
        try:
            with Path(self._seen.get("StdOut", "/dev/null")).open("rb") as output:
                output.seek(max(0, output.seek(0, os.SEEK_END) - _TAIL))
                said = output.read().decode("utf-8", "replace")
        except OSError:
            return ""
        found = re.findall(rf"\*\*\* JOB {number} ON \S+ CANCELLED AT \S+(?: DUE TO ([A-Z ]+))?", said)
        return (found[-1].strip() or "CANCEL") if found else ""

    def _starts_again(self) -> bool:
        """Whether Slurm itself has put the job back in its queue."""
        restarts = self._seen.get("Restarts", "")
        return restarts.isdecimal() and int(restarts) > int(os.environ.get("SLURM_RESTART_COUNT") or 0)

    def _look_at_job(self) -> dict[str, str]:
        try:
            said = slurm.command(["scontrol", "--oneliner", "show", "job", self.job])
        except MoltingError as error:
            self._log(str(error))
            return {}
        return dict(_FIELD.findall(said))

    def _go_on(self) -> None:
        """Back into the queue: Slurm does it when it took the node, we when the time was up."""
        if self._starts_again():
            super().pass_to("queued", why=f"Slurm starts job {self.job} again.")
        elif self.time_is_up and self.spec.launcher.requeue:
            if summary.newest_checkpoint(self.run) == self._before:
                self._log("Not requeued: no checkpoint was sealed in the time that the job had.")
                return
            with contextlib.suppress(ValueError):  # requeueing ends what the job still runs: us
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            try:
                slurm.command(["scontrol", "requeue", self.job])
            except MoltingError as error:
                self._log(f"It could not be requeued. {error}")
                return
            super().pass_to("queued", why=f"Put back into Slurm's queue as job {self.job}.")

    def _log(self, sentence: str) -> None:
        print(f"{time.strftime('%F %T')} {sentence}", file=sys.stderr, flush=True)
