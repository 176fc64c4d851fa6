"""The process of the inference host: a private socket on one side, the worker on the other.

The loop here only moves frames; it never computes and never waits for a client. A client that sends garbage, halves
of frames, or does not read what it asked for, is told so or dropped; nobody else notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path

import psutil

from engine.contract import host, settings
from engine.contract.errors import MoltingError
from engine.contract.host_client import Place, version
from engine.contract.locks import FileLock

from .work import Job, Worker, device_bytes, stopped

HELLO_SECONDS = 5.0  # in which a client must say who it is
FRAME_SECONDS = 5.0  # in which a frame that has begun must be complete
CLIENTS = 32
WAITING = 64  # requests of one client
SEND_LIMIT = 8 << 20  # bytes that may wait for a client that does not read
LOG_LIMIT = 16 << 20
LETS_GO = 10.0  # seconds that a request at work may need to notice that it was stopped


class Connection:
    """One client. `jobs` are its requests that wait or are at work, by id."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.name = ""
        self.jobs: dict[str, Job] = {}

    def send(self, reply: host.Reply | host.Bye) -> None:
        """From the loop's thread. A client that lets too much pile up is dropped."""
        transport = self.writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > SEND_LIMIT:
            transport.abort()
            return
        self.writer.write(host.encode(reply))

    def post(self, reply: host.Reply) -> None:
        """From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever would read this
            self.server.loop.call_soon_threadsafe(self.send, reply)

    async def serve(self) -> None:
        """From the first frame to the last."""
        try:
            if await self._welcome():
                while (line := await self._frame(None)) is not None:
                    self._hear(line)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.LimitOverrunError:
            self._refuse(f"A frame is larger than {host.REQUEST_LIMIT:,} bytes.")
        except (TimeoutError, asyncio.TimeoutError):
            self._refuse("A frame took too long to arrive.")
        except (ValueError, RecursionError) as error:
            self._refuse(f"This is no frame that the inference host understands: {str(error)[:200]}.")
        finally:
            for job in list(self.jobs.values()):
                self.server.cancel(self, job)
            with contextlib.suppress(Exception):
                self.writer.close()

    async def _frame(self, patience: float | None) -> bytes | None:
        """The next line; None at the end. Waits for its beginning for `patience`, for the rest a short while."""
        first = await asyncio.wait_for(self.reader.read(1), patience)
        if not first:
            return None
        rest = b"" if first == b"\n" else await asyncio.wait_for(self.reader.readuntil(b"\n"), FRAME_SECONDS)
        return first + rest

    async def _welcome(self) -> bool:
        line = await self._frame(HELLO_SECONDS)
        if line is None:
            return False
        hello = host.decode_request(line)
        if not isinstance(hello, host.Hello):
            self._refuse("The first frame must be hello.")
            return False
        if hello.protocol != host.PROTOCOL:
            age = "newer" if hello.protocol > host.PROTOCOL else "older"
            self._refuse(
                f"The inference host speaks version {host.PROTOCOL}; this client is {age} and speaks {hello.protocol}.",
                "`molting host stop` ends it; the next question starts one of the right version.",
            )
            return False
        self.name = "".join(c for c in hello.name if c.isprintable())[:40]
        self.send(
            host.Welcome(protocol=host.PROTOCOL, version=version(), pid=os.getpid(), device=self.server.place.device)
        )
        return True

    def _refuse(self, message: str, remedy: str = "") -> None:
        self.send(host.Failure(id="", message=message, remedy=remedy, code=2))

    def _hear(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            request = host.decode_request(line)
        except (ValueError, RecursionError) as error:
            named = _id_of(line)
            if not named:
                raise
            why = f"This request is not understood: {str(error)[:200]}."
            self.send(host.Failure(id=named, message=why, remedy="Is the client of the same version?", code=2))
            return
        if not isinstance(request, host.Hello):
            self.server.hear(self, request)


def _id_of(line: bytes) -> str:
    """The id of a frame that is not understood otherwise; empty where it has none."""
    import msgspec

    class Named(msgspec.Struct):
        id: host.Id

    try:
        return msgspec.json.decode(line, type=Named).id
    except (ValueError, RecursionError):
        return ""


class Server:
    """All connections, the worker, and when to end."""

    def __init__(self, place: Place, idle_seconds: float, verbs: dict[str, tuple[str, str, type]]) -> None:
        self.place, self.idle_seconds = place, idle_seconds
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.began = time.monotonic()
        self.ending = asyncio.Event()
        self.why = ""
        self.worker = Worker(place.log, verbs, self._finished)

    async def run(self) -> None:
        """Serve until told to end, or idle for long enough, or the socket is no longer ours."""
        self.place.path.unlink(missing_ok=True)  # of a host that was killed; its lock is ours now
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(self.place.path))
        self.place.path.chmod(0o600)
        mark = self.place.path.stat().st_ino
        serving = await asyncio.start_unix_server(self._accept, sock=listening, limit=host.REQUEST_LIMIT)
        for sig in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(sig, self.end, "It was told to end.")
        while not self.ending.is_set():
            with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(self.ending.wait(), min(1.0, self.idle_seconds / 4))
            self._look(mark)
        serving.close()
        self._unlink(mark)
        for connection in list(self.connections):
            for job in connection.jobs.values():
                job.stop.set()
        patience = time.monotonic() + LETS_GO
        while self.worker.current is not None and time.monotonic() < patience:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.05)  # what the worker has just ended goes out before
        for connection in list(self.connections):
            connection.send(host.Bye(why=f"The inference host has ended: {self.why}"))
        await asyncio.sleep(0.05)

    @property
    def busy(self) -> str:
        """What is at work or waits, in words; empty when idle. A request counts from the moment it was heard, also in
        the one between the line and the worker."""
        waits = any(connection.jobs for connection in self.connections)
        return self.worker.busy or ("a question that waits" if waits else "")

    def end(self, why: str) -> None:
        self.why = self.why or why
        self.ending.set()

    def _look(self, mark: int) -> None:
        idle = time.monotonic() - self.worker.last_work
        if not self.busy and idle > self.idle_seconds:
            self.end(f"nobody asked anything for {idle / 60:.0f} minutes.")
        if _inode(self.place.path) != mark:
            self.end("its socket was removed, so nobody could reach it.")
        with contextlib.suppress(OSError):
            if self.place.log.stat().st_size > LOG_LIMIT:
                os.truncate(self.place.log, 0)

    def _unlink(self, mark: int) -> None:
        if _inode(self.place.path) == mark:
            self.place.path.unlink(missing_ok=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, reader, writer)
        if _peer_uid(writer) not in (None, os.getuid()):
            writer.close()
            return
        if len(self.connections) >= CLIENTS:
            connection.send(host.Failure(id="", message=f"The inference host has {CLIENTS} clients already.", code=3))
            writer.close()
            return
        self.connections.add(connection)
        try:
            await connection.serve()
        finally:
            self.connections.discard(connection)

    def hear(self, connection: Connection, request: host.Request) -> None:
        """One understood request of a welcomed client."""
        if isinstance(request, host.Cancel):
            job = connection.jobs.get(request.target)
            if job is not None:
                self.cancel(connection, job)
            connection.send(host.Ok(id=request.id))
        elif isinstance(request, host.Status):
            connection.send(self._state(request.id))
        elif isinstance(request, host.Shutdown):
            self._shutdown(connection, request)
        elif isinstance(request, host.Free) and self.busy:
            connection.send(host.Freed(id=request.id, busy=self.busy))
        elif isinstance(request, (host.Open, host.Chat, host.Call, host.Free)):
            self._enqueue(connection, request)

    def _enqueue(self, connection: Connection, request: host.Open | host.Chat | host.Call | host.Free) -> None:
        if request.id in connection.jobs:
            connection.send(host.Failure(id=request.id, message="A request of this id is still at work.", code=2))
            return
        if len(connection.jobs) >= WAITING:
            message = f"{WAITING} requests of this client wait already."
            connection.send(host.Failure(id=request.id, message=message, remedy="Wait for some of them."))
            return
        if self.ending.is_set():
            connection.send(host.Failure(id=request.id, message=f"The inference host ends: {self.why}"))
            return
        job = Job(request, connection.post, connection.name)
        connection.jobs[request.id] = job
        ahead = self.worker.turns.waiting() + (self.worker.current is not None)
        if ahead:
            connection.send(host.Progress(id=request.id, phase="waiting", done=ahead, unit="requests"))
        self.worker.turns.add(connection, job)

    def cancel(self, connection: Connection, job: Job) -> None:
        job.stop.set()
        if self.worker.turns.remove(connection, job):
            connection.jobs.pop(job.request.id, None)
            connection.send(stopped(job.request.id))

    def _shutdown(self, connection: Connection, request: host.Shutdown) -> None:
        if request.if_idle and self.busy:
            connection.send(host.Failure(id=request.id, message=f"The inference host is at work: {self.busy}.", code=3))
            return
        connection.send(host.Ok(id=request.id))
        self.end("it was told to end.")

    def _finished(self, job: Job) -> None:
        """From the worker's thread."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._forget, job)

    def _forget(self, job: Job) -> None:
        for connection in self.connections:
            if connection.jobs.get(job.request.id) is job:
                del connection.jobs[job.request.id]
        on_gpu = isinstance(job.request, host.Free) and device_bytes() is not None
        if on_gpu and isinstance(job.request, host.Free) and not self.busy:
            self.end(f"memory was given back: {job.request.why or 'it was asked to'}.")

    def _state(self, id: str) -> host.State:
        now = time.monotonic()
        return host.State(
            id=id,
            pid=os.getpid(),
            version=version(),
            device=self.place.device,
            models=self.worker.resident,
            resident_bytes=psutil.Process().memory_info().rss,
            device_bytes=device_bytes() or 0,
            working=self.busy,
            waiting=self.worker.turns.waiting(),
            clients=len(self.connections),
            up_seconds=now - self.began,
            idle_seconds=0.0 if self.busy else now - self.worker.last_work,
            exits_after=self.idle_seconds,
            log=str(self.place.log),
        )


def _inode(path: Path) -> int:
    try:
        return path.lstat().st_ino
    except OSError:
        return 0


def _peer_uid(writer: asyncio.StreamWriter) -> int | None:
    """Who is at the other end; None where the system does not tell, then the folder's permissions must do."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    peer = writer.get_extra_info("socket")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return int(uid)


def main(device: str, verbs: dict[str, tuple[str, str, type]]) -> int:
    """The host of `device`; a second one leaves at once. `verbs` are those that it answers."""
    try:
        place = Place(device)
        lock = FileLock(place.lock)
        if not lock.acquire():
            return 0
        idle = _idle_seconds()
    except MoltingError as error:
        print(f"{time.strftime('%F %T')} {error}", file=sys.stderr)
        return error.code
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def serve() -> None:
        await Server(place, idle, verbs).run()

    asyncio.run(serve())
    sys.stderr.flush()
    os._exit(0)  # the worker's thread may be deep in a computation that nobody waits for


def _idle_seconds() -> float:
    try:
        return settings.load().host.idle_minutes * 60
    except MoltingError as error:  # what is wrong with the settings is said where they are the subject
        print(f"{time.strftime('%F %T')} {error} The default is used.", file=sys.stderr)
        return settings.Host().idle_minutes * 60
