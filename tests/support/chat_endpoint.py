"""A stand-in for an OpenAI-compatible endpoint: a real HTTP server on loopback that says what a script tells it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Said = dict[str, Any]  # the request's body
Reply = str | tuple[int, bytes, dict[str, str]]  # a completion's text, or status, body and headers


class Stand:
    """`url` is its base; `asked` are the bodies it was sent, `heads` their headers."""

    def __init__(self, reply: Callable[[Said], Reply]) -> None:
        self.reply = reply
        self.asked: list[Said] = []
        self.heads: list[dict[str, str]] = []
        self.url = ""


def completion(text: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


@contextmanager
def standing(reply: Callable[[Said], Reply]) -> Iterator[Stand]:
    """Serve `reply` until the end of the block."""
    stand = Stand(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stand.asked.append(body)
            stand.heads.append(dict(self.headers) | {"path": self.path})
            said = stand.reply(body)
            status, raw, more = (200, completion(said), {}) if isinstance(said, str) else said
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(raw))} | more).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(0.01))
    thread.start()
    stand.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield stand
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def slow(seconds: float) -> Reply:
    """Nothing for so long, then nothing of use."""
    time.sleep(seconds)
    return 200, b"late", {}
