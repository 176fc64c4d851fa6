"""Where the host of a device is, and a client that blocks: for commands, supervisors and tests."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from . import host
from .environment import local_dir
from .errors import MoltingError
from .locks import FileLock
from .processes import of, send_signal

PATH_LIMIT = 107  # bytes that the kernel takes for the path of a unix socket
ANSWERS = 5.0  # seconds in which a host that lives says Welcome
FREES = 20.0  # seconds in which it gives its memory back; a run does not wait for one that hangs


class Gone(MoltingError):
    """The host closed the connection, was killed, or is not there."""


class Place:
    """The files of one device's host: `path` (socket), `lock` held for its life, `log`."""

    def __init__(self, device: str) -> None:
        # Not XDG_RUNTIME_DIR: a supervisor started from another login, or by cron, must find the same host.
        stem = "host-" + re.sub(r"[^A-Za-z0-9-]", "_", device)[:20]
        self.device = device
        self.path = local_dir() / f"{stem}.sock"
        self.lock = self.path.with_suffix(".lock")
        self.log = self.path.with_suffix(".log")
        if len(os.fsencode(self.path)) > PATH_LIMIT:
            raise MoltingError(
                f"{self.path} is too long for a socket: {PATH_LIMIT} bytes at most.",
                remedy="Let MOLTING_RUNTIME_DIR name a shorter folder, or unset it.",
            )


def places() -> list[Path]:
    """Sockets of hosts of this user that live or died without removing theirs."""
    return sorted(local_dir().glob("host-*.sock"))


@functools.cache
def version() -> str:
    """Of Molting and of its code as it lies on disk, so that a host of older code is not talked to by newer."""
    from importlib.metadata import version as installed

    code = Path(__file__).resolve().parent.parent
    newest = max((entry.stat().st_mtime_ns for entry in code.glob("*/*.py")), default=0)
    return f"{installed('molting')}+{newest:x}"


class Client:
    """A connection to a host. Use as a context manager, or `close` it; closing cancels what was asked."""

    def __init__(self, path: Path, name: str = "", patience: float | None = None) -> None:
        """Connect and be welcomed. Raises Gone where no host answers, MoltingError where it refuses us.

        A host that then says nothing for `patience` seconds counts as gone; None waits for as long as it takes.
        """
        self.path = path
        self._rest = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | getattr(socket, "SOCK_CLOEXEC", 0))
        self._socket.settimeout(ANSWERS)
        try:
            self._socket.connect(str(path))
            self.send(host.Hello(protocol=host.PROTOCOL, version=version(), name=name))
            reply = self.receive()
        except OSError as error:
            self.close()
            raise Gone(f"No inference host answers at {path}: {error.strerror or 'it is silent'}.") from None
        except BaseException:
            self.close()
            raise
        if not isinstance(reply, host.Welcome):
            self.close()
            raise _refused(reply)
        self.welcome = reply
        self._socket.settimeout(patience)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, request: host.Request) -> None:
        """Raises Gone where the host has closed, MoltingError (code 2) for what is too large for a frame."""
        frame = host.encode(request)
        if len(frame) > host.REQUEST_LIMIT:
            raise MoltingError(
                f"The request is too large: {len(frame):,} bytes, of {host.REQUEST_LIMIT:,} that the host takes.",
                remedy="Ask less at once.",
                code=2,
            )
        try:
            self._socket.sendall(frame)
        except (BrokenPipeError, ConnectionResetError):
            raise self._gone() from None

    def receive(self, wait: Callable[[], None] = lambda: None) -> host.Reply:
        """The next reply. Raises Gone when there will be none. `wait` is called before each read that may block."""
        while b"\n" not in self._rest:
            wait()
            try:
                piece = self._socket.recv(1 << 16)
            except (ConnectionResetError, TimeoutError):
                piece = b""
            if not piece or len(self._rest) > host.REPLY_LIMIT:
                raise self._gone()
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            return host.decode_reply(line)
        except (ValueError, RecursionError):
            raise MoltingError("The inference host said something else than agreed.", remedy=STOP) from None

    def replies(self, request: host.Request, wait: Callable[[], None] = lambda: None) -> Iterator[host.Reply]:
        """Send a request and pass on all its replies, the last one included. Raises Gone when the host ends.

        `wait` as in `receive`: it may raise, to leave for another reason than a reply.
        """
        self.send(request)
        wanted = getattr(request, "id", "")
        while True:
            reply = self.receive(wait)
            if isinstance(reply, host.Bye):
                raise Gone(reply.why)
            if getattr(reply, "id", "") in (wanted, ""):
                yield reply
                if isinstance(reply, host.LAST):
                    return

    def ask(self, request: host.Request) -> host.Reply:
        """The last reply to a request; a Failure is raised as MoltingError."""
        *_, last = self.replies(request)
        if isinstance(last, host.Failure):
            raise MoltingError(last.message, remedy=last.remedy, code=last.code)
        return last

    def _gone(self) -> Gone:
        return Gone(
            "The inference host ended before it answered.", remedy=f"Its log is {self.path.with_suffix('.log')}."
        )


STOP = "`molting host stop` ends it; the next question starts another."


def _refused(reply: host.Reply) -> MoltingError:
    if isinstance(reply, host.Failure):
        return MoltingError(reply.message, remedy=reply.remedy or STOP)
    if isinstance(reply, host.Bye):
        return Gone(reply.why)
    return MoltingError("What answers there is no inference host of Molting.", remedy=STOP)


def ask_to_free(device: str, why: str, patience: float = 0.0) -> host.Freed | None:
    """Ask the host of a device to give its memory back; None where there is none.

    A host at work is asked again for up to `patience` seconds; then its answer says who is busy.
    """
    deadline = time.monotonic() + patience
    path = Place(device).path
    while True:
        try:
            with Client(path, "supervisor", patience=FREES) as client:
                freed = client.ask(host.Free(id="free", why=why))
        except Gone:
            return None
        assert isinstance(freed, host.Freed)
        if not freed.busy or time.monotonic() >= deadline:
            return freed
        time.sleep(0.5)


def silent(path: Path) -> MoltingError | None:
    """What to say of a host that lives but did not answer at its socket `path`; None where none lives."""
    pid = FileLock(path.with_suffix(".lock")).holder_pid()
    if pid is None:
        return None
    return MoltingError(
        f"The inference host (process {pid}) does not answer: it just starts, or it hangs.",
        remedy=f"Ask again; `molting host stop` ends one that hangs. Its log is {path.with_suffix('.log')}.",
    )


def end(path: Path, patience: float = 15.0) -> bool:
    """End the host whose socket is `path`: asked first, then by signals. False where none lives."""
    import signal

    lock = FileLock(path.with_suffix(".lock"))
    pid = lock.holder_pid()
    identity = of(pid) if pid else None
    if identity is None:
        path.unlink(missing_ok=True)  # what a killed one left behind
        return False
    with contextlib.suppress(MoltingError), Client(path, "stop") as client:
        client.ask(host.Shutdown(id="end"))
    for sig, seconds in ((0, patience), (signal.SIGTERM, patience), (signal.SIGKILL, patience)):
        if sig:
            send_signal(identity, sig)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if of(identity.pid) != identity:
                return True
            time.sleep(0.02)
    raise MoltingError(f"The inference host (process {identity.pid}) cannot be ended.")
