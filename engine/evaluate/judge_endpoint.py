"""An OpenAI-compatible endpoint, asked for one chat completion at a time. May be slow, broken or somebody else's."""

from __future__ import annotations

import http.client
import ipaddress
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from engine.contract.errors import MoltingError
from engine.contract.safe import redact, safe

TRIES = 3
WAITS = (1.0, 4.0)  # seconds before the second try and the third
_LONGEST_WAIT = 60.0  # that an endpoint may ask for
_LIMIT = 4 << 20  # bytes of a reply
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_IN_SETTINGS = "Set base_url in the section [judge] of config.toml."
_GOES_ON = "What is judged already is kept; `molting judge` goes on from there."


class _Message(msgspec.Struct):
    content: str


class _Choice(msgspec.Struct):
    message: _Message


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class _StayHere(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class _Refused(Exception):
    """One try failed. `again`: the next may not; `wait`: seconds that the endpoint asks for."""

    def __init__(self, why: str, *, again: bool = True, wait: float = 0.0) -> None:
        super().__init__(why)
        self.again, self.wait = again, wait


class Endpoint:
    """`ask` returns the text of one reply; after three tries it gives up in a sentence."""

    def __init__(self, base_url: str, model: str, key: str, timeout: float, note: Callable[[str], None]) -> None:
        """`timeout` in seconds for a whole reply; `note` is told of every try that failed."""
        self._url, self._model, self._key = f"{base_url.rstrip('/')}/chat/completions", model, key.strip()
        self._timeout, self._note = timeout, note
        self._greedy = True
        try:
            self._name, local = urlsplit(base_url).netloc.rpartition("@")[2], _is_local(base_url)
        except ValueError as error:
            raise MoltingError(
                f"{safe(base_url, False)} is no address: {error}.", remedy=_IN_SETTINGS, code=2
            ) from None
        own = [urllib.request.ProxyHandler({})] if local else []
        self._opener = urllib.request.build_opener(_StayHere, *own)

    def ask(self, messages: list[dict[str, str]]) -> str:
        """The reply to a chat. MoltingError (code 3) when the endpoint refuses, or stays silent or broken."""
        for turn in range(TRIES):
            try:
                return self._once(messages)
            except _Refused as refused:
                said = f"The judge at {self._name} {self._harmless(str(refused))}"
                if not refused.again or turn == TRIES - 1:
                    tried = f" {TRIES} times" if refused.again else ""
                    raise MoltingError(f"{said}{tried}.", remedy=_GOES_ON, code=3) from None
                wait = max(WAITS[turn], refused.wait)
                self._note(f"{said}; asking again in {wait:g} s.")
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _once(self, messages: list[dict[str, str]]) -> str:
        try:
            raw = self._post(
                {"model": self._model, "messages": messages} | ({"temperature": 0} if self._greedy else {})
            )
        except urllib.error.HTTPError as error:
            with error:
                told = error.read(2000).decode("utf-8", "replace")
            if error.code == 400 and self._greedy and "temperature" in told:
                self._greedy = False  # some models take only their own
                return self._once(messages)
            wait = _seconds(error.headers.get("Retry-After", ""))
            raise _Refused(f"answered {error.code}: {told[:300]}", again=error.code in _AGAIN, wait=wait) from None
        except TimeoutError:
            raise _Refused(f"did not answer within {self._timeout:g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = getattr(error, "reason", None) or error
            if isinstance(why, TimeoutError):
                raise _Refused(f"did not answer within {self._timeout:g} s") from None
            raise _Refused(f"cannot be asked ({type(why).__name__}: {why})", again=isinstance(why, OSError)) from None
        try:
            return msgspec.json.decode(raw, type=_Completion).choices[0].message.content
        except (ValueError, IndexError, RecursionError):
            start = raw[:100].decode("utf-8", "replace")
            raise _Refused(f"answered something else than a chat completion ({start!r})") from None

    def _post(self, body: dict[str, Any]) -> bytes:
        """The body of the reply, all of it within the timeout."""
        head = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "molting"}
        head |= {"Authorization": f"Bearer {self._key}"} if self._key else {}
        request = urllib.request.Request(self._url, json.dumps(body).encode(), head, method="POST")
        until = time.monotonic() + self._timeout
        parts, size = [], 0
        with self._opener.open(request, timeout=self._timeout) as response:
            while part := response.read1(1 << 16):
                parts.append(part)
                size += len(part)
                if size > _LIMIT:
                    raise _Refused(f"sends more than {_LIMIT >> 20} MiB", again=False)
                if time.monotonic() > until:
                    raise TimeoutError
        return b"".join(parts)

    def _harmless(self, said: str) -> str:
        hidden = said.replace(self._key, "[hidden]") if self._key else said
        return safe(" ".join(redact(hidden).split()), keep_newlines=False)


def _is_local(url: str) -> bool:
    """Whether no proxy should be asked for it."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _seconds(said: str) -> float:
    return min(float(said), _LONGEST_WAIT) if said.isascii() and said.isdigit() else 0.0
