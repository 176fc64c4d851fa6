"""The states of a run: which are stored, which follow from the rest.

    queued -> starting -> training -> finished
                          training -> stopping -> interrupted
    starting | training | stopping -> failed(reason)

A new attempt takes an ended run back to `queued`. Never stored, always derived: `lost` (a live state whose
owner is dead) and whether the run is resumable.
"""

from __future__ import annotations

from typing import Literal, Union

import msgspec

from .errors import Reason

State = Literal["queued", "starting", "training", "stopping", "finished", "interrupted", "failed"]
Shown = Literal["queued", "starting", "training", "stopping", "finished", "interrupted", "failed", "lost"]

LIVE: frozenset[str] = frozenset({"queued", "starting", "training", "stopping"})
ENDED: frozenset[str] = frozenset({"finished", "interrupted", "failed", "lost"})
NEXT: dict[str, frozenset[str]] = {
    "": frozenset({"queued"}),
    "queued": frozenset({"queued", "starting", "interrupted", "failed"}),
    "starting": frozenset({"training", "stopping", "finished", "interrupted", "failed", "queued"}),
    "training": frozenset({"stopping", "finished", "interrupted", "failed", "queued"}),
    "stopping": frozenset({"finished", "interrupted", "failed", "queued"}),
    "interrupted": frozenset({"queued", "finished"}),
    "failed": frozenset({"queued", "finished"}),
    "finished": frozenset(),
}


class Evidence(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What stands behind a failure, as far as it is known."""

    message: str = ""
    remedy: str = ""
    exit_code: int | None = None
    signal: str = ""
    traceback: str = ""  # the last lines
    host_free: int | None = None  # bytes
    device_free: int | None = None  # bytes
    disk_free: int | None = None  # bytes
    step: int | None = None


class Transition(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line of `lifecycle.jsonl`."""

    state: State
    attempt: int
    t: float
    v: int = 1
    reason: Union[Reason, Literal[""]] = ""
    why: str = ""
    evidence: Evidence | None = None


_decoder = msgspec.json.Decoder(Transition)


def encode(transition: Transition) -> bytes:
    """One line with its newline."""
    return msgspec.json.encode(transition) + b"\n"


def decode(line: bytes) -> Transition:
    """Raises ValueError for damage."""
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def allowed(before: str, after: str) -> bool:
    """Whether a run in state `before` ("" for none) may pass to `after`."""
    return after in NEXT.get(before, frozenset())


def shown(stored: str, *, owner_alive: bool | None) -> Shown:
    """The state that people see. `owner_alive` None means that it cannot be known from this host."""
    state = stored or "queued"
    if state in {"starting", "training", "stopping"} and owner_alive is False:
        return "lost"
    return state  # type: ignore[return-value]
