"""A scripted inference host: the real protocol over a real unix socket, without a model."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engine.contract import host
from engine.contract.spec import Generation

Script = Callable[["Session", host.Chat], None]


class Session:
    """One client. Scripts `say` what comes next and look whether they were `stopped`."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.cancelled: set[str] = set()
        self._guard = threading.Lock()

    def say(self, *replies: host.Reply) -> None:
        with self._guard:
            self.connection.sendall(b"".join(map(host.encode, replies)))

    def stopped(self, request: host.Chat) -> bool:
        return request.id in self.cancelled

    def drop(self) -> None:
        """As when the host is killed."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class FakeHost:
    """Listens until `close`. `script` plays a Chat; `asked` are those that came."""

    def __init__(self, path: Path, script: Script) -> None:
        self.path, self.script = path, script
        self.asked: list[host.Chat] = []
        self.opened: list[host.Open] = []
        self.connections = 0
        self.opening: list[host.Reply] = []
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(path))
        self._listening.listen()
        self._sessions: list[Session] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        for session in list(self._sessions):
            session.drop()
        for thread in list(self._threads):
            thread.join(10.0)
        self._listening.close()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.connections += 1
                self._sessions.append(Session(connection))
                self._start(self._serve, self._sessions[-1])

    def _serve(self, session: Session) -> None:
        with suppress(OSError, ValueError), session.connection, session.connection.makefile("rb") as lines:
            for line in lines:
                self._hear(session, host.decode_request(line))

    def _hear(self, session: Session, request: host.Request) -> None:
        if isinstance(request, host.Hello):
            session.say(host.Welcome(protocol=host.PROTOCOL, version=request.version, pid=1, device="cpu"))
        elif isinstance(request, host.Open):
            self.opened.append(request)
            session.say(*self.opening, opened(request))
        elif isinstance(request, host.Cancel):
            session.cancelled.add(request.target)
            session.say(host.Ok(id=request.id))
        elif isinstance(request, host.Chat):
            self.asked.append(request)
            self._start(self._play, session, request)

    def _play(self, session: Session, request: host.Chat) -> None:
        with suppress(OSError):
            self.script(session, request)


def opened(request: host.Open, **other: Any) -> host.Opened:
    """A model of 135M that was there at once."""
    return host.Opened(
        id=request.id,
        run="rhea",
        base="demo",
        system="You are Rhea.",
        generation=Generation(),
        chat_template="",
        window=2048,
        device="cpu",
        precision="bf16",
        quantization="none",
        mode="batched",
        why="",
        weight_bytes=1,
        seconds=0.0,
        warnings=[],
        **other,
    )


def began(request: host.Chat, mode: host.Mode = "batched", why: str = "") -> host.Began:
    return host.Began(
        id=request.id,
        mode=mode,
        why=why,
        prompt_tokens=[5] * len(request.voices),
        options=request.options or Generation(),
    )


def delta(request: host.Chat, voice: int, text: str, tokens: int) -> host.Delta:
    return host.Delta(id=request.id, voice=voice, text=text, ids=[tokens], tokens=tokens)


def ended(request: host.Chat, voice: int, text: str, tokens: int, stop: Any = "end") -> host.VoiceDone:
    return host.VoiceDone(id=request.id, voice=voice, text=text, stop=stop, tokens=tokens, to_first=0.1, seconds=1.1)


def done(request: host.Chat, differs: int | None = 0, kl: float | None = 1.5, stopped: bool = False) -> host.Done:
    others = len(request.voices) - 1
    return host.Done(
        id=request.id,
        mode="batched",
        seconds=1.1,
        first_difference=[None] + [differs] * others,
        kl=[0.0] + [kl] * others,
        stopped=stopped,
    )


def answers(*texts: str, differs: int | None = 0, kl: float | None = 1.5) -> Script:
    """Each voice says its text, word by word, and ends by itself."""

    def play(session: Session, request: host.Chat) -> None:
        session.say(began(request))
        for voice in range(len(request.voices)):
            said = texts[voice % len(texts)]
            words = said.split(" ")
            session.say(*(delta(request, voice, (" " if n else "") + word, n + 1) for n, word in enumerate(words)))
            session.say(ended(request, voice, said, len(words)))
        session.say(done(request, differs, kl))

    return play


@contextmanager
def fake_host(path: Path, script: Script) -> Iterator[FakeHost]:
    made = FakeHost(path, script)
    try:
        yield made
    finally:
        made.close()
        path.unlink(missing_ok=True)
