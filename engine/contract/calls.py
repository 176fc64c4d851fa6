"""How the app and the command line call the engine: one request on stdin, JSON lines on stdout.

`python -I -m engine VERB` reads one line holding the verb's request and answers with any number of Progress and
Note lines, then exactly one Result or Failure.
"""

from __future__ import annotations

from typing import Any, Literal, Union

import msgspec


class Progress(msgspec.Struct, kw_only=True, tag_field="k", tag="progress"):
    """`done` of `total` (0: unknown) in `unit`; a new phase ends the one before."""

    phase: str
    done: float = 0.0
    total: float = 0.0
    unit: str = ""


class Note(msgspec.Struct, kw_only=True, tag_field="k", tag="note"):
    """One sentence worth showing on the way."""

    text: str


class Result(msgspec.Struct, kw_only=True, tag_field="k", tag="result"):
    value: msgspec.Raw


class Failure(msgspec.Struct, kw_only=True, tag_field="k", tag="failure"):
    """Why there is no result; `log` names the file with the traceback, where there is one."""

    message: str
    remedy: str = ""
    code: int = 3
    log: str = ""


class Change(msgspec.Struct, kw_only=True):
    """A key of the spec, as `training.epochs`, and the TOML value that it should have."""

    key: str
    value: Any


class Finding(msgspec.Struct, kw_only=True):
    """Something a check found. `id` is stable; `rows` counts the training file's rows from 1.

    `fix` is what would mend it where that is mechanical: changes to the spec, shown before they are made.
    """

    id: str
    severity: Literal["error", "warning", "note"]
    message: str
    evidence: str = ""
    why: str = ""
    remedy: str = ""
    rows: list[int] = []
    fix: list[Change] = []


class Found(msgspec.Struct, kw_only=True, tag_field="k", tag="found"):
    """A finding as soon as it is found; the result holds all of them again."""

    finding: Finding


Line = Union[Progress, Note, Found, Result, Failure]


class Plan(msgspec.Struct, kw_only=True):
    """What a run will do, as far as it is known before it starts."""

    rows: int
    heldout: int
    rows_per_step: int
    steps: int
    seen: float  # times each row is seen
    warmup_steps: int
    learning_rate: float
    tokens_per_row: float
    learned_share: float  # of all tokens
    batch: int = 0
    accumulation: int = 0
    first_rate: float = 0.0  # of the first step, and of the last
    last_rate: float = 0.0
    capped: bool = False  # the steps were given, not counted from epochs
    seconds: float | None = None  # told from runs made on this machine; None where none was like it
    seconds_from: str = ""  # which, in words


class CreateRequest(msgspec.Struct, kw_only=True):
    """Verb `create`: freeze a spec into a new run and start its supervisor."""

    spec: str
    runs: str
    models: str
    start: bool = True


class RunRequest(msgspec.Struct, kw_only=True):
    """Verbs `resume` and `prove`: a run directory."""

    run: str
    models: str
    devices: int = 0  # resume: with so many instead of what the spec says; 0: as it says


class StopJobRequest(msgspec.Struct, kw_only=True):
    """Verb `stop-job`: a run that was sent to Slurm; `now`: without saving."""

    run: str
    now: bool = False


class Started(msgspec.Struct, kw_only=True):
    """Result of `create` and `resume`."""

    run: str
    path: str
    state: str


class SweepRequest(msgspec.Struct, kw_only=True):
    """Verb `sweep`: a run for every point of a spec's sweep; with `start` false only the plan."""

    spec: str
    runs: str
    models: str
    start: bool = True


class SweepRun(msgspec.Struct, kw_only=True):
    """One run of a sweep: what it has of its own. `run` is empty where it was only planned; `seconds` a forecast."""

    name: str
    changes: dict[str, Any]
    steps: int = 0
    seconds: float | None = None
    run: str = ""


class Sweeping(msgspec.Struct, kw_only=True):
    """Result of `sweep`. `sweep` is empty where it was only planned; `seconds` is of all runs, one after the other."""

    sweep: str
    runs: list[SweepRun]
    seconds: float | None = None
    comparable: bool = True  # whether the held-out losses measure the same


class PreflightRequest(msgspec.Struct, kw_only=True):
    """Verb `preflight`: what will go wrong, without starting anything."""

    spec: str
    models: str


class Preflight(msgspec.Struct, kw_only=True):
    findings: list[Finding]
    plan: Plan | None = None
    mapping: str = ""  # how the rows are read, in words


class DemoModelRequest(msgspec.Struct, kw_only=True):
    """Verb `demo-model`: fetch and convert the embedded model once."""

    models: str


class DemoModel(msgspec.Struct, kw_only=True):
    path: str


class HostRequest(msgspec.Struct, kw_only=True):
    """Verb `host-start`: find the inference host of this machine's device, or start it."""


class HostPlace(msgspec.Struct, kw_only=True):
    """Where the inference host listens; `device` is a GPU's UUID or "cpu". See `engine.contract.host`."""

    path: str
    pid: int
    device: str


class AskRequest(msgspec.Struct, kw_only=True):
    """Verb `ask`. Generation values that are None are those of the run's spec."""

    run: str
    models: str
    questions: list[str]
    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None


class Answer(msgspec.Struct, kw_only=True):
    """`stop` is "end" (end token) or "cap"; `tokens` counts the end token too."""

    text: str
    tokens: int
    stop: Literal["end", "cap"]


class Pair(msgspec.Struct, kw_only=True):
    """Both voices on one question; `first_difference` is a token index, None when identical."""

    question: str
    base: Answer
    adapter: Answer
    first_difference: int | None = None


class Asked(msgspec.Struct, kw_only=True):
    answers: list[Pair]
    seconds: float = 0.0
    mode: Literal["batched", "two-pass"] = "batched"


class Losses(msgspec.Struct, kw_only=True):
    """Mean nats per learned token of the held-out rows; None where there are none."""

    base: float | None
    adapter: float | None


class Proof(msgspec.Struct, kw_only=True):
    """Result of `prove`. `kl` is the mean over positions of KL(base || adapter), in nats; `weights` the hash of what
    was measured, as `sheets.weights_hash` makes it."""

    verdict: Literal["effective", "too_weak", "not_applied"]
    sentence: str
    kl: float
    flip_rate: float  # share of positions whose most likely token changed
    nonzero_b: int
    total_b: int
    heldout_loss: Losses
    heldout_rows: int
    probes: int
    positions: int
    missing_keys: int = 0
    unexpected_keys: int = 0
    active: bool = True
    first_difference: list[int | None] = []  # per probe question, greedy answers
    answers: list[Pair] = []
    warnings: list[str] = []
    weights: str = ""


class WhyRequest(msgspec.Struct, kw_only=True):
    """Verb `why`: find out why a run seems to have changed nothing. `against`: the run it was compared with.

    The others say how the model is really asked; those that are None are as in the run's spec.
    """

    run: str
    models: str
    against: str = ""
    system: str | None = None
    chat_template: str | None = None
    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None


class Step(msgspec.Struct, kw_only=True):
    """One question of an investigation. `evidence` holds the numbers that answer it."""

    id: str
    question: str
    outcome: Literal["passed", "failed", "unknown", "skipped"]
    evidence: str = ""


Cause = Literal[
    "effective",
    "not_trained",
    "not_applied",
    "too_weak",
    "not_generalising",
    "masked",
    "misdirected",
    "wrong_base",
    "damaged",
    "same_model",
]


class Investigation(msgspec.Struct, kw_only=True):
    """Result of `why`: the most likely cause, the sentence with its number, what to do next, and how it was found."""

    cause: Cause
    sentence: str
    remedy: str
    steps: list[Step]
    findings: list[Finding] = []
    warnings: list[str] = []


class ModelCheckRequest(msgspec.Struct, kw_only=True):
    """Verb `model-check`: a model (folder, GGUF file, hub id, `org/name@revision`) or an adapter's folder.

    `base` names the base of an adapter where its own word for it is not to be taken.
    """

    model: str
    models: str
    base: str = ""


class ModelCheck(msgspec.Struct, kw_only=True):
    """`about` is what it is, in one line; `path` where it lies."""

    findings: list[Finding]
    path: str
    kind: Literal["model", "adapter"]
    about: str = ""


def decode_line(line: bytes) -> Line:
    """Raises msgspec.DecodeError for anything else."""
    return msgspec.json.decode(line, type=Line)


def encode_line(line: Line) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def result(value: Any) -> Result:
    return Result(value=msgspec.Raw(msgspec.json.encode(value)))
