"""A model hub on 127.0.0.1: the few addresses that a download asks for, ranges, gates and cut connections."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LARGE = 10_000


class StandInHub:
    """Serves `repos`: {"org/name": folder} at one commit. Knobs and counters are plain attributes."""

    def __init__(self, repos: dict[str, Path], commit: str = "a" * 40) -> None:
        self.repos, self.commit = repos, commit
        self.gated: set[str] = set()
        self.cut_after: dict[str, int] = {}  # file name: the connection breaks after so many bytes, once
        self.slow: dict[str, float] = {}  # file name: seconds to wait per 64 KiB
        self.corrupt: set[str] = set()
        self.requests: list[tuple[str, str, str]] = []  # method, path, Range header
        self.sent: dict[str, int] = {}  # bytes of file bodies
        self.tokens: set[str] = set()
        self.url = ""

    def files(self, repo: str) -> list[dict[str, Any]]:
        listed = []
        for path in sorted(self.repos[repo].iterdir()):
            content = path.read_bytes()
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry: dict[str, Any] = {"type": "file", "path": path.name, "size": len(content), "oid": blob}
            if len(content) > LARGE:
                sha = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": sha, "size": len(content), "pointerSize": 130}
            listed.append(entry)
        return listed


@contextmanager
def serving(hub: StandInHub) -> Iterator[StandInHub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: StandInHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        if token := self.headers.get("Authorization"):
            self.hub.tokens.add(token)
        info = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/([^/]+))?", path)
        tree = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/tree/([^/]+)/?", path)
        file = re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/([^/]+)", path)
        found = info or tree or file
        if found is None or found[1] not in self.hub.repos:
            return self.refuse(404, "RepoNotFound")
        if (found[2] or "main") not in ("main", self.hub.commit):
            return self.refuse(404, "RevisionNotFound")
        if info:
            return self.send({"id": found[1], "modelId": found[1], "sha": self.hub.commit, "siblings": []})
        if found[1] in self.hub.gated and not self.headers.get("Authorization"):
            return self.refuse(401, "GatedRepo")
        if tree:
            return self.send(self.hub.files(found[1]))
        return self.send_file(self.hub.repos[found[1]] / found[3], body)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def send_file(self, path: Path, body: bool) -> None:
        if not path.is_file():
            return self.refuse(404, "EntryNotFound")
        content = path.read_bytes()
        if path.name in self.hub.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.end_headers()
        if body:
            self.send_body(path.name, content[start:])
        return None

    def send_body(self, name: str, content: bytes) -> None:
        cut = self.hub.cut_after.pop(name, None)
        for offset in range(0, len(content[:cut]), 1 << 16):
            piece = content[:cut][offset : offset + (1 << 16)]
            try:
                self.wfile.write(piece)
            except OSError:  # the client was killed
                return
            self.hub.sent[name] = self.hub.sent.get(name, 0) + len(piece)
            time.sleep(self.hub.slow.get(name, 0))
        if cut is not None:
            self.wfile.flush()
            self.connection.shutdown(2)
            self.close_connection = True
