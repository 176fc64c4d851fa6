"""Several processes for one run: torchrun's agent, which starts them, watches them and says which one failed first.

It runs between the supervisor and the processes of an attempt, one on each node. Its exit status is that of the
attempt; `death.json` then holds the word of the process that failed first, not of those that only lost it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import psutil

from engine.contract import processes
from engine.contract.errors import MoltingError
from engine.contract.rundir import AttemptDir, RunDir
from engine.contract.safe import redact

from . import death
from .status import FAILED, FINISHED, INTERRUPTED

HAND_ON = 1.0  # seconds
SEALING = 60  # seconds that the others may take to end when one has ended
AT_ONCE = 20.0  # seconds: a process that ends by a signal later than this after the first was ended by the agent


class Ended(msgspec.Struct, frozen=True):
    """How process `rank` ended; `status` is negative for a signal, `t` in Unix seconds, `tail` what it wrote last."""

    rank: int
    status: int
    t: float
    tail: str = ""


class Node(msgspec.Struct, frozen=True):
    """What this machine has to do with a run: `count` machines meet at `meet` ("" for one alone)."""

    count: int = 1
    meet: str = ""
    address: str = ""  # of this machine, where its name does not say it
    first: bool | None = None  # whether the others come to this one; None: torchrun finds out by names


def main(path: str, number: str, here: str) -> int:
    """Run `here` processes of attempt `number` on this machine; returns the exit status of the attempt."""
    os.umask(0o077)
    attempt = RunDir(Path(path)).attempt(int(number))
    processes.die_with_parent(signal.SIGTERM)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_hand_on, args=(stop,), daemon=True).start()
    for ignored in (signal.SIGHUP, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    ended = _run(attempt, int(here), node_of(os.environ))
    status, word = conclude(ended, words(attempt), stopped=stop.is_set())
    known = death.read(attempt.death)  # what another machine has found out
    if word is not None and (known is None or death.lost_another(known)):
        with contextlib.suppress(OSError):
            death.write(attempt.death, word)
    return status


def _hand_on(stop: threading.Event) -> None:
    """Tell the processes to stop, again and again: one may only be starting when the order comes."""
    stop.wait()
    while True:
        for process in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)
        time.sleep(HAND_ON)


def node_of(env: Mapping[str, str]) -> Node:
    """From MOLTING_NODES, MOLTING_MEET (host:port) and MOLTING_ADDRESS; one machine without them.

    MoltingError (code 2) where that cannot be.
    """
    nodes = env.get("MOLTING_NODES") or "1"
    meet, address = env.get("MOLTING_MEET", ""), env.get("MOLTING_ADDRESS", "")
    if not (nodes.isascii() and nodes.isdecimal() and int(nodes[:9]) > 0):
        message = f"MOLTING_NODES is {nodes[:40]!r}; expected how many machines train the run together."
        raise MoltingError(message, remedy="Leave it out where one does.", code=2)
    if int(nodes) > 1 and not meet:
        message = f"MOLTING_NODES is {nodes}, and MOLTING_MEET does not say where they meet."
        raise MoltingError(message, remedy="Set MOLTING_MEET=HOST:PORT on each of them.", code=2)
    first = None
    if meet and address:
        first = meet.rpartition(":")[0] == address
    elif meet and "SLURM_NODEID" in env:
        first = env["SLURM_NODEID"] == "0"
    return Node(int(nodes), meet, address, first)


def _run(attempt: AttemptDir, here: int, node: Node) -> list[Ended]:
    """Start the processes and wait for them; those that did not end well, in the order in which they were found."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // here)))
    if node.count == 1:
        for link in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(link, "lo")  # they never leave this machine, whatever its name resolves to
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logs = attempt.path / "ranks" / (node.address or socket.gethostname())
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = LaunchConfig(
        min_nodes=node.count,
        max_nodes=node.count,
        nproc_per_node=here,
        run_id=f"{attempt.path.parent.parent.name}-{attempt.number}" if node.meet else uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint=node.meet or "127.0.0.1:0",
        rdzv_configs={} if node.first is None else {"is_host": node.first},
        local_addr=node.address or (None if node.meet else "127.0.0.1"),
        max_restarts=0,  # another attempt is the supervisor's to start
        logs_specs=DefaultLogsSpecs(log_dir=str(logs), tee=Std.ALL),
        log_line_prefix_template="[rank ${rank}] ",
        signals_to_handle="SIGQUIT",  # a stop is handed on, not carried out: the processes save first
        shutdown_timeout=SEALING,
    )
    argv = ["-I", "-m", "engine", "trainer", str(attempt.path.parent.parent), str(attempt.number)]
    try:
        elastic_launch(config, sys.executable)(*argv)
    except ChildFailedError as failed:
        found = failed.failures.items()
        return [Ended(rank, each.exitcode, each.timestamp, _tail(logs, each.local_rank)) for rank, each in found]
    except Exception as error:  # the machines did not find each other, or lost each other
        said = death.of_exception(error)
        said.evidence.message = f"The processes on {socket.gethostname()} could not be run: {said.evidence.message}"
        death.write(word_file(attempt, -1), said)
        return [Ended(-1, FAILED, 0.0)]
    return []


def word_file(attempt: AttemptDir, rank: int) -> Path:
    """Where process `rank` says why it gave up."""
    return attempt.path / f"death-{rank}.json"


def words(attempt: AttemptDir) -> dict[int, tuple[float, death.Death]]:
    """What the processes said before they ended, and when."""
    found: dict[int, tuple[float, death.Death]] = {}
    for path in attempt.path.glob("death-*.json"):
        said = death.read(path)
        if said is not None:
            found[int(path.stem.removeprefix("death-"))] = (path.stat().st_mtime, said)
    return found


def first_word(attempt: AttemptDir) -> death.Death | None:
    """What the first process said that gave up, where the agent did not live to tell."""
    said = [word for _, word in sorted(words(attempt).items(), key=lambda word: word[1][0])]
    return said[0][1] if said else None


def conclude(
    ended: Iterable[Ended], words: Mapping[int, tuple[float, death.Death]], *, stopped: bool
) -> tuple[int, death.Death | None]:
    """The exit status of the attempt, and the word of the process that failed first.

    A process that was lost by the others makes them fail too: what they say of it counts only where nothing else is
    known. Pure.
    """
    ended = list(ended)
    if not ended:
        return FINISHED, None
    own = sorted((t, rank, said) for rank, (t, said) in words.items() if not death.lost_another(said))
    first = min(each.t for each in ended)
    if own:
        _, rank, said = own[0]
        alone = sum(other.evidence.message == said.evidence.message for _, _, other in own) == 1
        return FAILED, _named(said, rank) if alone and rank >= 0 else said
    if stopped and any(each.status in (INTERRUPTED, -signal.SIGTERM) for each in ended):  # before it could listen
        return INTERRUPTED, None
    for each in ended:
        if each.t - first < AT_ONCE and (each.status < 0 or (each.status != INTERRUPTED and each.rank not in words)):
            return FAILED, _without_a_word(each)
    if all(each.status == INTERRUPTED for each in ended):
        return INTERRUPTED, None
    return FAILED, min(words.items(), key=lambda word: word[1][0])[1][1] if words else None


def _without_a_word(ended: Ended) -> death.Death:
    said = death.of_exit(ended.status, said=None, starved=False)
    said.evidence.traceback = ended.tail
    return _named(said, ended.rank)


def _tail(logs: Path, local_rank: int) -> str:
    """The last lines that a process wrote to its own log."""
    log = next(logs.glob(f"*/attempt_0/{local_rank}/stderr.log"), None)
    if log is None:
        return ""
    text = log.read_bytes()[-(1 << 16) :].decode("utf-8", "replace")
    return redact("\n".join(text.splitlines()[-death.TRACEBACK_LINES :]))


def _named(said: death.Death, rank: int) -> death.Death:
    said.evidence.message = f"Process {rank}: {said.evidence.message}"
    return said


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
