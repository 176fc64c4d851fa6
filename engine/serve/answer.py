"""One answer from the inference host, as it comes: ended by a stop text, or by whoever asked going away."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.contract import host
from engine.contract.errors import MoltingError
from engine.contract.host_client import Client


class ClientLeft(Exception):
    """Whoever asked has closed the connection."""


@dataclass(frozen=True)
class Piece:
    """More text, and how it stands: `finish` is set in the last one."""

    text: str
    prompt_tokens: int
    tokens: int
    finish: str = ""


class Cut:
    """Passes text on up to the first of some texts, holding back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        self._held += text
        places = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if places:
            self.found = True
            return self._held[: min(places)]
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        out, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return out

    def rest(self) -> str:
        """What was held back, when nothing more comes."""
        return self._held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


def pieces(
    client: Client, request: host.Chat, stops: Sequence[str], peer: socket.socket, finish: dict[str, str]
) -> Iterator[Piece]:
    """The answer of the one voice of `request`; the first piece comes, empty, when the model begins.

    `finish` names the ways to stop. Leaving early, or ClientLeft, leaves the generation to be cancelled by closing
    `client`. Raises Gone when the host ends, MoltingError where it refuses.
    """
    cut, prompt, tokens, stop = Cut(stops), 0, 0, ""
    replies = client.replies(request, lambda: wait(client, peer))
    for reply in replies:
        if isinstance(reply, host.Began):
            prompt = reply.prompt_tokens[0]
            yield Piece("", prompt, 0)
        elif isinstance(reply, host.Delta):
            tokens = reply.tokens
            text = cut.push(reply.text)
            if cut.found:
                yield Piece(text, prompt, tokens, finish["end"])
                return
            if text:
                yield Piece(text, prompt, tokens)
        elif isinstance(reply, host.VoiceDone):
            tokens, stop = reply.tokens, reply.stop
        elif isinstance(reply, host.Failure):
            raise MoltingError(reply.message, remedy=reply.remedy, code=reply.code)
    yield Piece(cut.rest(), prompt, tokens, finish[stop or "stopped"])


def wait(client: Client, peer: socket.socket) -> None:
    """Wait for the host's next words. Raises ClientLeft when whoever asked goes first."""
    watched: list[Client | socket.socket] = [client, peer]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if peer in ready:
            if not _peek(peer):
                raise ClientLeft
            watched = [client]  # it has sent its next request already
        if client in ready:
            return


def _peek(peer: socket.socket) -> bytes:
    try:
        return peer.recv(1, socket.MSG_PEEK)
    except OSError:
        return b""
