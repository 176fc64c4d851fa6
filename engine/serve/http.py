"""The HTTP side: on 127.0.0.1 only, for who has the key, one request a thread.

The standard library's server does it: two routes for one user need no web framework, and what must be right here
(who may ask, how much may be sent, who went away) would have to be written on top of one as well.
"""

from __future__ import annotations

import contextlib
import hmac
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from engine.contract import host
from engine.contract.errors import MoltingError
from engine.contract.host_client import Client, Gone
from engine.contract.spec import Generation

from . import shapes
from .answer import ClientLeft, Piece, pieces
from .shapes import ApiError, Asked, Completion

BODY_LIMIT = 768 << 10  # bytes of a request: with what is added, less than a frame of the host may have
READ_SECONDS = 30.0  # in which a request must have arrived
WRITE_SECONDS = 30.0  # that a client may let us wait before it takes more
DRAIN_SECONDS = 2.0
CONNECTIONS = 32
WAITING = 16  # answers asked for and not yet given; the host works on one
LOOPBACK = "127.0.0.1"


class Endpoint(ThreadingHTTPServer):
    """Serves one run. `port` 0 takes a free one; `server_port` tells which. `connect` finds or starts the host.

    `own`: how the run answers where a request does not say; set before `serve_forever`.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, port: int, key: str, run: str, models: str, connect: Callable[[], Client], owner: str) -> None:
        self.key, self.run, self.models, self.own = key.encode(), run, models, Generation()
        self.connect, self.owner, self.created = connect, owner, int(time.time())
        self.slots = threading.BoundedSemaphore(WAITING)
        self._connections = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__((LOOPBACK, port), Handler)

    def server_bind(self) -> None:
        """Without the name server that HTTPServer asks for our own name."""
        socket_server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    @property
    def hosts(self) -> set[str]:
        """What a request may give as Host: a page whose name was made to point here would give its own."""
        names = {f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost")}
        return names | ({LOOPBACK, "localhost"} if self.server_port == 80 else set())

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self._connections.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that vanished is no event."""


def socket_server_bind(server: Endpoint) -> None:
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.socket.bind(server.server_address)
    server.server_address = server.socket.getsockname()


class _NotBegun(Gone):
    """The host ended before the client was sent anything, so that it can be asked again."""


class Handler(BaseHTTPRequestHandler):
    """One connection; every refusal is OpenAI's error object."""

    server: Endpoint
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "molting", ""
    timeout = WRITE_SECONDS

    def handle_one_request(self) -> None:
        """As the library does it, but a request that does not arrive in time ends the connection."""
        self.streaming = False
        self._late = threading.Timer(READ_SECONDS, self._hang_up)
        self._late.daemon = True
        self._late.start()
        try:
            super().handle_one_request()
        except (OSError, ClientLeft):
            self.close_connection = True
        finally:
            self._late.cancel()

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, route: Callable[[bytes], None]) -> None:
        try:
            self._admit()
            body = self._body()
            self._late.cancel()
            route(body)
        except ApiError as error:
            self._refuse(error)
        except MoltingError as error:
            self._refuse(ApiError(400 if error.code == 2 else 503, str(error)))
        except (OSError, ClientLeft):
            raise
        except Exception as error:
            self._refuse(ApiError(500, f"The server failed: {type(error).__name__}."))
            raise

    def _admit(self) -> None:
        """Who may ask: the right Host first, then the key."""
        given = self.headers.get_all("Host") or []
        if len(given) != 1 or given[0].strip().lower() not in self.server.hosts:
            raise ApiError(421, "This server answers only to its own address.", code="wrong_host")
        scheme, _, key = (self.headers.get("Authorization") or "").partition(" ")
        same = hmac.compare_digest(key.strip().encode("utf-8", "replace"), self.server.key)
        if scheme.lower() != "bearer" or not same:
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding"):
            raise ApiError(411, "Send a Content-Length.")
        length = self.headers.get_all("Content-Length") or ["0"]
        if len(set(length)) != 1 or not length[0].isascii() or not length[0].isdigit():
            raise ApiError(400, "The Content-Length is not a number.")
        if len(length[0]) > 12 or int(length[0]) > BODY_LIMIT:
            raise ApiError(413, f"The request is larger than {BODY_LIMIT:,} bytes.")
        return self.rfile.read(int(length[0]))

    def _get(self, body: bytes) -> None:
        listed = shapes.models(self.server.created, self.server.owner)
        path = self._path()
        if path == "/v1/models":
            return self._send(200, {"object": "list", "data": listed})
        one = next((model for model in listed if path == f"/v1/models/{model['id']}"), None)
        if one is None:
            raise ApiError(404, f"There is nothing at {path[:200]}.", code="not_found")
        return self._send(200, one)

    def _post(self, body: bytes) -> None:
        if self._path() != "/v1/chat/completions":
            raise ApiError(404, f"There is nothing at {self._path()[:200]}.", code="not_found")
        asked = shapes.read(body)
        if not self.server.slots.acquire(blocking=False):
            raise ApiError(429, f"{WAITING} answers are waited for already.", code="busy")
        try:
            self._complete(asked)
        finally:
            self.server.slots.release()

    def _path(self) -> str:
        return self.path.partition("?")[0].rstrip("/")

    def _complete(self, asked: Asked) -> None:
        """One answer. A host that ends before the first word is started anew, once."""
        voice = host.Voice(source=asked.source, messages=asked.turns())
        request = host.Chat(
            id="1",
            run=self.server.run,
            models=self.server.models,
            voices=[voice],
            options=asked.over(self.server.own),
        )
        give = self._stream if asked.stream else self._whole
        try:
            with contextlib.suppress(_NotBegun):
                return self._ask(request, asked, give)
            return self._ask(request, asked, give)
        except Gone as gone:
            raise ApiError(503, f"{gone.message} Ask again.", code="host_gone") from None

    def _ask(self, request: host.Chat, asked: Asked, give: Callable[[Asked, Iterator[Piece]], None]) -> None:
        try:
            with self.server.connect() as client:
                give(asked, pieces(client, request, asked.stops, self.connection, shapes.FINISH))
        except Gone as gone:
            raise gone if self.streaming else _NotBegun(gone.message) from None

    def _whole(self, asked: Asked, found: Iterator[Piece]) -> None:
        text, last = "", Piece("", 0, 0, "stop")
        for last in found:
            text += last.text
        used = shapes.usage(last.prompt_tokens, last.tokens)
        self._send(200, Completion(asked.model, self._now()).whole(text, last.finish, used))

    def _stream(self, asked: Asked, found: Iterator[Piece]) -> None:
        """Server-sent events. Nothing is sent before the model begins, so that a refusal still has its status."""
        completion = Completion(asked.model, self._now())
        last = next(found)
        self._begin_stream()
        self._event(completion.chunk({"role": "assistant", "content": ""}))
        for last in found:
            if last.text:
                self._event(completion.chunk({"content": last.text}))
        self._event(completion.chunk({}, last.finish))
        if asked.stream_options and asked.stream_options.include_usage:
            self._event(completion.last(shapes.usage(last.prompt_tokens, last.tokens)))
        self.wfile.write(b"data: [DONE]\n\n")

    def _begin_stream(self) -> None:
        self.streaming = self.close_connection = True  # the end of the connection is the end of the events
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()

    def _event(self, value: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + msgspec.json.encode(value) + b"\n\n")

    def _refuse(self, error: ApiError) -> None:
        if self.streaming:
            self._event(error.body)
            return
        # What is left of the request is not read, so nothing can follow it.
        self.close_connection = True
        self._send(error.status, error.body)
        self._drain()

    def _drain(self) -> None:
        """Take what still comes for a moment: closing over unread bytes would tear the answer from the client."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1.0)
            deadline = time.monotonic() + DRAIN_SECONDS
            while time.monotonic() < deadline and self.connection.recv(1 << 16):
                pass

    def _send(self, status: int, value: dict[str, Any]) -> None:
        content = msgspec.json.encode(value)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses by itself (a method, a malformed line), in the same shape."""
        self.close_connection = True
        self.request_version = self.protocol_version  # to an unknown one the library would send no status line
        self.command = getattr(self, "command", "") or ""
        self._send(code, ApiError(code, f"{message or 'This request is not understood'}."[:300]).body)
        self._drain()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests hold what people write: nothing of them is kept."""

    @staticmethod
    def _now() -> int:
        return int(time.time())
