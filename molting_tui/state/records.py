"""The things a live run keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from .series import Table

MarkerKind = Literal["checkpoint", "eval", "sample", "warn", "attempt", "rewind"]


@dataclass
class Marker:
    """Something that happened once: its place on each axis, and a sentence."""

    kind: MarkerKind
    attempt: int
    step: int
    tokens: int
    time: float  # seconds since the run began
    text: str  # safe to show
    rewound: bool = False


@dataclass
class Answer:
    """What the model in training answered at a step."""

    step: int
    attempt: int
    text: str  # safe to show
    tokens: int
    stop: str
    t: float
    rewound: bool = False


@dataclass
class Warned:
    """A warning, which may have come several times."""

    id: str
    message: str
    remedy: str
    step: int
    times: int = 1


class Rewound(NamedTuple):
    """Steps and evaluations of an earlier attempt that a later one did again."""

    attempt: int
    steps: Table
    evals: Table | None


class Best(NamedTuple):
    """The lowest held-out loss."""

    step: int
    loss: float


@dataclass
class Metrics:
    """Consecutive metric events of one attempt as columns, for the sake of long histories."""

    step: list[int] = field(default_factory=list)
    loss: list[float | None] = field(default_factory=list)
    grad_norm: list[float | None] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    t: list[float] = field(default_factory=list)
    epoch: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    presented: int = 0  # tokens of the rows of all these steps
    computed: int = 0  # tokens that passed through the model for them
