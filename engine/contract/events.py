"""What a trainer says, one JSON line each: `{"k":"metric","v":1,"seq":7,"t":1763.2,…}`.

Losses are mean nats per learned token; a value that is not finite is written as null (JSON has no NaN).
Times `t` are Unix seconds; `seconds` are durations; sizes are bytes. Unknown kinds and fields are ignored.
"""

from __future__ import annotations

from typing import Literal, Union, get_args

import msgspec

VERSION = 1


class Event(msgspec.Struct, kw_only=True, tag_field="k"):
    """What every event has: `seq` counts from 0 within one attempt."""

    seq: int = 0
    t: float = 0.0
    v: int = VERSION


class Start(Event, tag="start"):
    """The attempt knows its plan: it continues at `step` (0: from the base) towards `steps`."""

    step: int
    steps: int
    device: str
    precision: str
    path: str  # "padded", "packed" …: how rows are laid out in a batch
    trainable: int  # parameters
    parameters: int
    tokens: int = 0  # real tokens already learned from, up to `step`
    plan: dict[str, Union[str, int, float]] = {}
    versions: dict[str, str] = {}


class Funnel(Event, tag="funnel"):
    """What became of the rows: read = sum(dropped) + heldout + trained."""

    read: int
    heldout: int
    trained: int
    dropped: dict[str, int] = {}
    truncated: int = 0
    tokens: int = 0
    learned: int = 0
    format: str = ""
    stream: bool = False  # counts are then those read so far


class Stream(Event, tag="stream"):
    """How many records the training file has; an estimate from its bytes until all were counted."""

    records: int
    exact: bool


class Phase(Event, tag="phase"):
    """Where the attempt is. `done` of `total` in `unit`; a new name ends the phase before."""

    name: str
    done: float = 0.0
    total: float = 0.0
    unit: str = ""
    eta: float | None = None  # seconds left of this phase, from this attempt's own rate


class Metric(Event, tag="metric"):
    """One optimizer step."""

    step: int
    loss: float | None
    grad_norm: float | None
    lr: float
    tokens: int  # real tokens since the run began, over all attempts
    learned: int  # learned tokens of this step
    rows: int
    seconds: float
    epoch: float
    presented: int = 0  # tokens of the rows of this step
    computed: int = 0  # tokens that passed through the model for them: fewer where shared, more where padded


class Eval(Event, tag="eval"):
    """Answer loss over the held-out rows. `train`: that of the steps since the last evaluation."""

    step: int
    loss: float | None
    rows: int
    seconds: float
    best: bool = False
    train: float | None = None


class Ability(Event, tag="ability"):
    """How the model in training does at what it is not trained in, beside the model it began as.

    `loss`: mean nats per token of the expected answers, None where none are given; `base`: the same before training.
    `kl`: mean KL divergence of the first token of an answer from the base's, in nats, over all `prompts`.
    """

    step: int
    prompts: int
    loss: float | None = None
    base: float | None = None
    kl: float | None = None


class Sample(Event, tag="sample"):
    """The model in training answers a probe question, greedily."""

    step: int
    question: str
    answer: str
    tokens: int
    stop: str  # "end" or "cap"
    copied: float | None = None  # share of the answer's tokens that stand in a learned row in the same company


class Checkpoint(Event, tag="checkpoint"):
    """A checkpoint was sealed."""

    step: int
    path: str  # relative to the run
    size: int
    seconds: float
    best: bool = False


class Memory(Event, tag="memory"):
    """Bytes of the run: of the host for all its processes, and of the fullest device where there is one."""

    host: int
    host_peak: int
    disk_free: int
    device: int | None = None
    device_peak: int | None = None
    device_reserved: int | None = None


class Log(Event, tag="log"):
    message: str


class Warn(Event, tag="warn"):
    """Something a person should know; `id` is stable."""

    id: str
    message: str
    remedy: str = ""
    step: int = 0


class Control(Event, tag="control"):
    """A control file was obeyed."""

    command: Literal["stop", "save-now"]
    step: int


class End(Event, tag="end"):
    """The attempt ends by its own will. `mean_loss` is over the attempt's steps, `last_loss` the last."""

    step: int
    outcome: Literal["finished", "interrupted"]
    mean_loss: float | None = None
    last_loss: float | None = None
    eval_loss: float | None = None
    why: str = ""


AnyEvent = Union[
    Start, Funnel, Stream, Phase, Metric, Eval, Ability, Sample, Checkpoint, Memory, Log, Warn, Control, End
]


class _Head(msgspec.Struct):
    k: str
    v: int = VERSION


class NewerVersion(Exception):
    """The log was written by a newer Molting whose records this one cannot read."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyEvent)
_head = msgspec.json.Decoder(_Head)
_KINDS = {kind.__struct_config__.tag for kind in get_args(AnyEvent)}


def encode(event: Event) -> bytes:
    """One line with its newline."""
    return _encoder.encode(event) + b"\n"


def decode(line: bytes) -> AnyEvent | None:
    """The event of one line; None for a kind this version does not know.

    Raises ValueError for damage and NewerVersion for a greater major version.
    """
    try:
        event = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _require_unknown(line, error)
        return None
    if event.v > VERSION:
        raise NewerVersion(f"event version {event.v}, this is version {VERSION}")
    return event


def _require_unknown(line: bytes, error: Exception) -> None:
    """Raises unless the line is sound but of a kind that came later."""
    try:
        head = _head.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError(str(error)) from None
    if head.v > VERSION:
        raise NewerVersion(f"event version {head.v}, this is version {VERSION}")
    if head.k in _KINDS:
        raise ValueError(str(error))
