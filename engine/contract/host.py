"""What is said to the inference host: typed JSON frames, one a line, over a private unix socket.

A client begins with `Hello`; the host answers `Welcome`, or `Failure` and closes. Then the client sends requests,
each with an `id` of its own choice, unique among those it waits for. Every reply carries the id of its request;
each request ends with exactly one reply of those in `LAST`. Requests of one client may overlap; the host works on
one at a time and takes the clients in turn. Who closes the connection cancels what it asked for.

    Open    Progress* Note*                                            Opened | Failure
    Chat    Progress* Note* Began (Delta | First | VoiceDone)*         Done | Failure
    Call    Progress* Note*                                            Result | Failure
    Status  State          Free  Freed          Cancel, Shutdown  Ok

A Chat needs no Open before it and names everything it needs, so after a crash of the host the same request can be
sent to the next one. Texts are a model's own words: hostile, to be made harmless where they are shown.
"""

from __future__ import annotations

from typing import Annotated, Literal, Union

import msgspec
from msgspec import Meta

from .calls import Failure as CallFailure
from .spec import Generation

PROTOCOL = 1
REQUEST_LIMIT = 1 << 20  # bytes of a frame to the host, its newline included
REPLY_LIMIT = 64 << 20  # bytes of a frame from it

Id = Annotated[str, Meta(min_length=1, max_length=64)]
Mode = Literal["batched", "two-pass"]


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Source(msgspec.Struct, kw_only=True, frozen=True):
    """Whose weights answer.

    base      the base model of the run, without anything learned
    adapter   what the run learned: its final weights, or those of its checkpoint at step `checkpoint`
    merged    the same, merged into a 16-bit copy of the base: a second model in memory

    `run` is a run directory; empty means that of the request. Another run's voice keeps its own chat template, and
    shares the base in memory when it has the same.
    """

    kind: Literal["base", "adapter", "merged"]
    checkpoint: int | None = None
    run: str = ""


class Voice(msgspec.Struct, kw_only=True, frozen=True):
    """Who answers what: `messages` end with a user's; `system` None is the system prompt of the voice's run.

    An empty `system` means none; a system message in `messages` wins over both.
    """

    source: Source
    messages: Annotated[list[Message], Meta(min_length=1, max_length=1000)]
    system: str | None = None


# ---- from the client


class Hello(msgspec.Struct, kw_only=True, tag_field="k", tag="hello"):
    """`version` is `version()` of the client: a host of other code is replaced, see `engine.contract.host_client`."""

    protocol: int
    version: str = ""
    name: str = ""  # as others see who uses the host: "chat", "ask"


class Open(msgspec.Struct, kw_only=True, tag_field="k", tag="open"):
    """Load what these voices need and say what it is. `models` is the folder of models."""

    id: Id
    run: str
    models: str
    voices: Annotated[list[Source], Meta(min_length=1, max_length=8)]


class Chat(msgspec.Struct, kw_only=True, tag_field="k", tag="chat"):
    """One answer from each voice, streamed. `options` None are the run's own; their seed is that of the batch.

    `goes_on`: another question is likely to follow, so that what it will begin with is worth computing ahead.
    """

    id: Id
    run: str
    models: str
    voices: Annotated[list[Voice], Meta(min_length=1, max_length=8)]
    options: Generation | None = None
    goes_on: bool = False


class Call(msgspec.Struct, kw_only=True, tag_field="k", tag="call"):
    """A verb of `python -I -m engine` that needs a model, with its own request; see `engine.contract.calls`."""

    id: Id
    verb: str
    request: msgspec.Raw


class Cancel(msgspec.Struct, kw_only=True, tag_field="k", tag="cancel"):
    """Stop request `target` of this client at the next token. A Chat then ends with Done, its voices `stopped`;
    all others with a Failure whose `stopped` is true. No request of that id: nothing happens."""

    id: Id
    target: Id


class Status(msgspec.Struct, kw_only=True, tag_field="k", tag="status"):
    id: Id


class Free(msgspec.Struct, kw_only=True, tag_field="k", tag="free"):
    """Give the memory of all models back, unless one is at work. `why` completes "Memory was given back: "."""

    id: Id
    why: str = ""


class Shutdown(msgspec.Struct, kw_only=True, tag_field="k", tag="shutdown"):
    """End the host. What is at work is stopped first; with `if_idle` a busy host stays and answers Failure."""

    id: Id
    if_idle: bool = False


Request = Union[Hello, Open, Chat, Call, Cancel, Status, Free, Shutdown]


# ---- from the host


class Welcome(msgspec.Struct, kw_only=True, tag_field="k", tag="welcome"):
    protocol: int
    version: str
    pid: int
    device: str  # a GPU's UUID, or "cpu"


class Progress(msgspec.Struct, kw_only=True, tag_field="k", tag="progress"):
    """`done` of `total` (0: unknown) in `unit`. In the phase "waiting", `done` requests come first."""

    id: str
    phase: str
    done: float = 0.0
    total: float = 0.0
    unit: str = ""


class Note(msgspec.Struct, kw_only=True, tag_field="k", tag="note"):
    """One sentence worth showing on the way."""

    id: str
    text: str


class Opened(msgspec.Struct, kw_only=True, tag_field="k", tag="opened"):
    """What was loaded. `system`, `generation` and `chat_template` are those that the run was trained with."""

    id: str
    run: str  # its id
    base: str
    system: str
    generation: Generation
    chat_template: str  # its source; empty where the model takes plain text
    window: int  # tokens that prompt and answer may have together
    device: str  # as torch names it
    precision: Literal["bf16", "fp16", "fp32"]
    quantization: Literal["none", "nf4", "int8"]
    mode: Mode
    why: str  # a sentence where the voices cannot share one batch
    weight_bytes: int
    seconds: float  # that loading took; about 0 when all was warm
    warnings: list[str]


class Began(msgspec.Struct, kw_only=True, tag_field="k", tag="began"):
    """The first token is being computed. In "two-pass" the voices answer one after the other; `why` says why."""

    id: str
    mode: Mode
    why: str
    prompt_tokens: list[int]  # of each voice
    options: Generation


class Delta(msgspec.Struct, kw_only=True, tag_field="k", tag="delta"):
    """More of voice number `voice`: whole characters, in order. `text` may be empty, when a character is not whole
    yet; the end token is among `ids` and never in a text. `tokens` counts all so far."""

    id: str
    voice: int
    text: str
    ids: list[int]
    tokens: int


class First(msgspec.Struct, kw_only=True, tag_field="k", tag="first"):
    """KL(first voice || each voice) in nats of the first token's distribution, before sampling settings.

    None where it would compare nothing: the two were given different prompts.
    """

    id: str
    kl: list[float | None]


class VoiceDone(msgspec.Struct, kw_only=True, tag_field="k", tag="voice-done"):
    """One voice has ended. `text` is the whole answer: exactly its Deltas, joined.

    `stop`: "end" its end token, "cap" the cap or the model's window, "stopped" cancelled. `tokens` counts the end
    token too. `to_first` and `seconds` count from the moment the host began to compute this voice's answer.
    """

    id: str
    voice: int
    text: str
    stop: Literal["end", "cap", "stopped"]
    tokens: int
    to_first: float
    seconds: float

    @property
    def per_second(self) -> float:
        """Tokens a second after the first one; 0 where there is only one."""
        rest = self.seconds - self.to_first
        return (self.tokens - 1) / rest if self.tokens > 1 and rest > 0 else 0.0


class Done(msgspec.Struct, kw_only=True, tag_field="k", tag="done"):
    """A Chat has ended. `first_difference`: index of the first token in which each voice differs from the first
    voice, None where they are identical. That an answer is identical does not prove that an adapter is idle."""

    id: str
    mode: Mode
    seconds: float
    first_difference: list[int | None]
    kl: list[float | None]
    stopped: bool = False


class Result(msgspec.Struct, kw_only=True, tag_field="k", tag="result"):
    id: str
    value: msgspec.Raw


class Failure(msgspec.Struct, kw_only=True, tag_field="k", tag="failure"):
    """Why there is no result. `id` is empty where a frame could not be understood; then the host closes."""

    id: str
    message: str
    remedy: str = ""
    code: int = 3
    log: str = ""
    stopped: bool = False  # by Cancel, so there is nothing to complain about

    def plain(self) -> CallFailure:
        return CallFailure(message=self.message, remedy=self.remedy, code=self.code, log=self.log)


class InMemory(msgspec.Struct, kw_only=True):
    """One base model that is warm, and the adapters on it."""

    name: str
    bytes: int
    precision: str
    quantization: str
    adapters: list[str]
    idle_seconds: float


class State(msgspec.Struct, kw_only=True, tag_field="k", tag="state"):
    """How the host stands. `working` names what is at work and for whom, empty when idle."""

    id: str
    pid: int
    version: str
    device: str
    models: list[InMemory]
    resident_bytes: int  # of the process, in host memory
    device_bytes: int  # reserved on the GPU; 0 on a CPU
    working: str
    waiting: int
    clients: int
    up_seconds: float
    idle_seconds: float
    exits_after: float  # idle seconds after which it ends
    log: str


class Freed(msgspec.Struct, kw_only=True, tag_field="k", tag="freed"):
    """Memory was given back, or `busy` says who works. `exits`: the host ends too, for a GPU's last bytes are its
    process's own; whoever needs it starts another."""

    id: str
    bytes: int = 0
    busy: str = ""
    exits: bool = False


class Ok(msgspec.Struct, kw_only=True, tag_field="k", tag="ok"):
    id: str


class Bye(msgspec.Struct, kw_only=True, tag_field="k", tag="bye"):
    """The host ends; the sentence says why. What was waiting got a Failure before."""

    why: str


Reply = Union[
    Welcome, Progress, Note, Opened, Began, Delta, First, VoiceDone, Done, Result, Failure, State, Freed, Ok, Bye
]
LAST = (Opened, Done, Result, Failure, State, Freed, Ok)

_requests = msgspec.json.Decoder(Request)
_replies = msgspec.json.Decoder(Reply)


def encode(frame: Request | Reply) -> bytes:
    """One line, newline included."""
    return msgspec.json.encode(frame) + b"\n"


def decode_request(line: bytes) -> Request:
    """Raises ValueError (msgspec.DecodeError) or RecursionError for anything else."""
    return _requests.decode(line)


def decode_reply(line: bytes) -> Reply:
    """Raises ValueError (msgspec.DecodeError) or RecursionError for anything else."""
    return _replies.decode(line)
