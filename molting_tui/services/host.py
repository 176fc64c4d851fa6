"""The inference host, for the app: one connection, many questions at once, found again by itself when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Optional, Union

from engine.contract import calls, host
from engine.contract.errors import MoltingError
from engine.contract.host_client import Gone, version

from . import engine

Asked = Union[host.Open, host.Chat, host.Call, host.Status, host.Free]
_Heard = Union[host.Reply, Gone]


class HostLink:
    """Talks to the host from one event loop. Connects when first needed, and anew after the host has gone."""

    def __init__(self, name: str = "chat") -> None:
        self.name = name
        self.welcome: Optional[host.Welcome] = None
        self._writer: Optional[asyncio.StreamWriter] = None
        self._reading: Optional[asyncio.Task[None]] = None
        self._waiting: dict[str, asyncio.Queue[_Heard]] = {}
        self._connecting = asyncio.Lock()
        self._numbers = itertools.count(1)

    def new_id(self) -> str:
        """An id for the next request."""
        return str(next(self._numbers))

    async def connect(self) -> host.Welcome:
        """Make sure that a host lives and has welcomed us. MoltingError where none can be started."""
        async with self._connecting:
            if self._writer is None or self.welcome is None or self._reading is None or self._reading.done():
                await self._open()
        assert self.welcome
        return self.welcome

    async def ask(
        self, request: host.Open | host.Chat | host.Call | host.Status | host.Free
    ) -> AsyncIterator[host.Reply]:
        """All replies to a request, the last one included; a Failure is a reply too.

        Leaving early cancels the request. Raises Gone when the host ends in the middle: ask the same again, and
        another host is started.
        """
        await self.connect()
        replies: asyncio.Queue[_Heard] = asyncio.Queue()
        self._waiting[request.id] = replies
        ended = False
        try:
            await self._send(request)
            while not ended:
                reply = await replies.get()
                ended = isinstance(reply, (*host.LAST, Gone))
                if isinstance(reply, Gone):
                    raise reply
                yield reply
        finally:
            self._waiting.pop(request.id, None)
            if not ended:
                with contextlib.suppress(MoltingError):
                    await self._send(host.Cancel(id=self.new_id(), target=request.id))

    async def cancel(self, id: str) -> None:
        """Stop a request at its next token; its replies then end as `engine.contract.host.Cancel` says."""
        with contextlib.suppress(MoltingError):
            await self._send(host.Cancel(id=self.new_id(), target=id))

    async def close(self) -> None:
        """Let go of the host, which lives on for whoever comes next."""
        if self._writer is not None:
            self._writer.close()
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        self._writer = self._reading = self.welcome = None

    async def _open(self) -> None:
        place = await asyncio.to_thread(engine.call, "host-start", calls.HostRequest(), calls.HostPlace)
        try:
            reader, self._writer = await asyncio.open_unix_connection(place.path, limit=host.REPLY_LIMIT)
            await self._send(host.Hello(protocol=host.PROTOCOL, version=version(), name=self.name))
            reply = host.decode_reply(await asyncio.wait_for(reader.readuntil(b"\n"), 5.0))
        except (OSError, EOFError, asyncio.TimeoutError, ValueError):
            raise Gone(f"No inference host answers at {place.path}.", remedy="Try again.") from None
        if not isinstance(reply, host.Welcome):
            self._writer.close()
            said = reply.message if isinstance(reply, host.Failure) else "It did not say who it is."
            raise MoltingError(f"The inference host does not take this client. {said}", remedy="`molting host stop`")
        self.welcome = reply
        self._reading = asyncio.create_task(self._read(reader))

    async def _send(self, frame: host.Request) -> None:
        encoded = host.encode(frame)
        if len(encoded) > host.REQUEST_LIMIT:
            raise MoltingError("This is too long to be asked.", remedy="Shorten the conversation.", code=2)
        if self._writer is None or self._writer.is_closing():
            raise Gone("The inference host is gone.")
        try:
            self._writer.write(encoded)
            await self._writer.drain()
        except OSError:
            raise Gone("The inference host is gone.") from None

    async def _read(self, reader: asyncio.StreamReader) -> None:
        why = "The inference host ended before it answered."
        try:
            while True:
                reply = host.decode_reply(await reader.readuntil(b"\n"))
                if isinstance(reply, host.Bye):
                    why = reply.why
                    break
                if (waiting := self._waiting.get(getattr(reply, "id", ""))) is not None:
                    waiting.put_nowait(reply)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass
        finally:
            if self._writer is not None:
                self._writer.close()
            for waiting in self._waiting.values():
                waiting.put_nowait(Gone(why, remedy="Ask again: another one is started."))
