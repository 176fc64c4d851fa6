"""The verb `needle`: is a fact found again that stands somewhere in a long text?"""

from __future__ import annotations

import msgspec


class NeedleRequest(msgspec.Struct, kw_only=True):
    """`times`: lengths as multiples of the trained window; `depths`: places of the fact, 0 the beginning, 1 the end."""

    run: str
    models: str
    times: tuple[int, ...] = (1, 2, 4)
    depths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)


class Planted(msgspec.Struct, kw_only=True):
    """One question: whether base and adapter answered with the fact, and what they said."""

    depth: float
    tokens: int  # of the prompt
    base: bool
    adapter: bool
    base_answer: str
    adapter_answer: str


class Length(msgspec.Struct, kw_only=True):
    """All depths at one length. `problem`: why nothing was asked."""

    times: int
    tokens: int
    planted: list[Planted] = []
    problem: str = ""


class Needle(msgspec.Struct, kw_only=True):
    """Result of `needle`. `trained`: tokens a row of the run may have; `window`: what the model takes, 0 unknown."""

    trained: int
    window: int
    rope: str
    lengths: list[Length]
    warnings: list[str] = []
