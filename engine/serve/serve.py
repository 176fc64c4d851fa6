"""The verb `serve`: open the run in the inference host, then answer HTTP until told to end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from engine.contract import calls, host, outputs
from engine.contract.errors import MoltingError
from engine.contract.host_client import Client, version
from engine.contract.rundir import RunDir
from engine.host import start

from .http import LOOPBACK, Endpoint
from .shapes import MODELS

LEAST_KEY = 16  # characters; a shorter one could be guessed by who shares the machine

Tell = Callable[[calls.Line], None]


def serve(request: outputs.ServeRequest, tell: Tell) -> outputs.Served:
    """Serve a run until SIGTERM, SIGINT, or the end of the process that asked.

    Raises MoltingError where the run cannot be opened or the port is taken; code 2 for a key that is none.
    """
    key = request.key
    if len(key) < LEAST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise MoltingError(
            f"This API key is not usable: {LEAST_KEY} characters at least, ASCII, without spaces.",
            remedy="Leave --api-key-env out, and one is made.",
            code=2,
        )
    endpoint = _listen(request, key)  # first: a port that is taken is known at once, a model takes its time
    try:
        opened = _open(request, tell)
    except BaseException:
        endpoint.server_close()
        raise
    endpoint.own = opened.generation
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    threading.Thread(target=endpoint.serve_forever, name="http", daemon=True).start()
    url = f"http://{LOOPBACK}:{endpoint.server_port}/v1"
    for warning in opened.warnings:
        tell(calls.Note(text=warning))
    # One line that programs can wait for; `done` is the port.
    tell(calls.Progress(phase="serving", done=endpoint.server_port, unit="port"))
    parent = os.getppid()
    while not done.wait(0.5) and os.getppid() == parent:
        pass
    endpoint.server_close()
    return outputs.Served(url=url, models=list(MODELS))


def _connect() -> Client:
    """A host of the code that lies on disk now: a server outlives an update, and must not end the new host for it."""
    version.cache_clear()
    return start.connect("serve")


def _open(request: outputs.ServeRequest, tell: Tell) -> host.Opened:
    """Load both voices first, so that what is wrong is said before anybody asks."""
    wanted = host.Open(
        id="open",
        run=request.run,
        models=request.models,
        voices=[host.Source(kind="base"), host.Source(kind="adapter")],
    )
    with _connect() as client:
        for reply in client.replies(wanted):
            if isinstance(reply, host.Progress):
                tell(calls.Progress(phase=reply.phase, done=reply.done, total=reply.total, unit=reply.unit))
            elif isinstance(reply, host.Note):
                tell(calls.Note(text=reply.text))
            elif isinstance(reply, host.Failure):
                raise MoltingError(reply.message, remedy=reply.remedy, code=reply.code)
            elif isinstance(reply, host.Opened):
                return reply
    raise MoltingError("The inference host closed the connection.", remedy="Try again.")


def _listen(request: outputs.ServeRequest, key: str) -> Endpoint:
    try:
        return Endpoint(
            request.port,
            key,
            request.run,
            request.models,
            connect=_connect,
            owner=RunDir(Path(request.run)).id,
        )
    except (OSError, OverflowError) as error:
        raise MoltingError(
            f"Port {request.port} of {LOOPBACK} cannot be used: {getattr(error, 'strerror', '') or error}.",
            remedy="Take another one, or `--port 0` for any that is free.",
        ) from None
