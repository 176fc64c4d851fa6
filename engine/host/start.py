"""Finds the host of this machine's device, or starts it; and passes the engine's verbs on to it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable

import msgspec

from engine.contract import calls, environment, host, processes
from engine.contract.errors import MoltingError
from engine.contract.host_client import STOP, Client, Gone, Place, end, silent, version
from engine.contract.locks import FileLock
from engine.contract.safe import safe
from engine.train.device import CPU, claim_name

TRIES = 3  # hosts that may end at once before it is told; one may, which found another just ending
STARTS = 60.0  # seconds in which a new host listens; it does so before it imports anything heavy
ENDS = 10.0  # seconds in which an idle one agrees to end
LOG_KEPT = 1 << 20  # bytes of an earlier host's log that are not cut off

Tell = Callable[[calls.Line], None]


def place(request: calls.HostRequest, tell: Tell) -> calls.HostPlace:
    """Verb `host-start`: where the host listens, started when there is none."""
    with connect("start") as client:
        return calls.HostPlace(path=str(client.path), pid=client.welcome.pid, device=client.welcome.device)


def connect(name: str) -> Client:
    """A connection to the host, which is started when there is none and replaced when it runs older code.

    Raises MoltingError where it cannot be started, or is of another version and at work.
    """
    where = Place(claim_name())
    deadline = time.monotonic() + STARTS
    pid = begun = 0
    while True:
        with contextlib.suppress(Gone):
            client = Client(where.path, name)
            if client.welcome.version == version():
                return client
            _replace(client)
        if time.monotonic() > deadline:
            raise silent(where.path) or MoltingError("The inference host did not start.", remedy=f"See {where.log}.")
        if not pid or processes.of(pid) is None:
            if FileLock(where.lock).holder_pid() is None:  # else one that another client started
                if begun == TRIES:
                    raise _ends_at_once(where)
                begun += 1
            pid = _spawn(where)
        time.sleep(0.02)


def _ends_at_once(where: Place) -> MoltingError:
    said = []
    with contextlib.suppress(OSError), where.log.open("rb") as log:
        log.seek(max(0, where.log.stat().st_size - 4096))
        said = log.read().decode(errors="replace").split("\n")
    last = next((f" It said last: {safe(line[:300], False)}" for line in reversed(said) if line.strip()), "")
    return MoltingError(f"The inference host ends as soon as it starts.{last}", remedy=f"Its log is {where.log}.")


def _spawn(where: Place) -> int:
    """Start a host. Of two at once one gets the lock, the other leaves."""
    env = environment.clean_env(os.environ)
    if where.device != CPU:
        env["CUDA_VISIBLE_DEVICES"] = where.device
    with contextlib.suppress(OSError):
        if where.log.stat().st_size > LOG_KEPT:
            where.log.unlink()
    argv = [sys.executable, "-I", "-m", "engine", "host", where.device]
    return processes.spawn_detached(argv, stdout=where.log, env=env, cwd=where.path.parent)


def _replace(client: Client) -> None:
    """End a host of older code, unless it is at work. One that hangs is left to `molting host stop`."""
    client.close()
    with contextlib.suppress(Gone):
        with Client(client.path, "replace", patience=ENDS) as asking:
            try:
                asking.ask(host.Shutdown(id="old", if_idle=True))
            except Gone:
                raise
            except MoltingError as error:
                raise MoltingError(f"The inference host runs older code. {error.message}", remedy=STOP) from None
        end(client.path)


def relay(verb: str, request: msgspec.Raw, tell: Tell) -> calls.Result | calls.Failure:
    """Let the host do a verb. When it dies in the middle it is started again and asked once more."""
    try:
        return _relay(verb, request, tell)
    except Gone as gone:
        tell(calls.Note(text=f"{gone.message} It is started again, and asked once more."))
    try:
        return _relay(verb, request, tell)
    except Gone as gone:
        raise MoltingError(f"The inference host ended twice while it worked on {verb}.", remedy=gone.remedy) from None


def _relay(verb: str, request: msgspec.Raw, tell: Tell) -> calls.Result | calls.Failure:
    with connect(verb) as client:
        for reply in client.replies(host.Call(id="1", verb=verb, request=request)):
            if isinstance(reply, host.Progress):
                tell(calls.Progress(phase=reply.phase, done=reply.done, total=reply.total, unit=reply.unit))
            elif isinstance(reply, host.Note):
                tell(calls.Note(text=reply.text))
            elif isinstance(reply, host.Result):
                return calls.Result(value=reply.value)
            elif isinstance(reply, host.Failure):
                return reply.plain()
    raise Gone("The inference host closed the connection.", remedy=STOP)
