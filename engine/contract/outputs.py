"""Requests and results of what leaves a run, or comes from elsewhere: packed, exported, imported, merged, served."""

from __future__ import annotations

from typing import Literal

import msgspec


class PackRequest(msgspec.Struct, kw_only=True):
    """Verb `pack`: a run as one file. `rows` takes its training rows along."""

    run: str
    models: str
    file: str
    rows: bool = False


class Packed(msgspec.Struct, kw_only=True):
    """`size` in bytes; `left_out` says in sentences what stayed here, and why."""

    path: str
    run: str
    size: int
    files: int
    left_out: list[str] = []


Tracker = Literal["tensorboard", "trackio", "wandb"]


class ExportRequest(msgspec.Struct, kw_only=True):
    """Verb `export`: the curves of a run for a tracker, into the folder `dir`."""

    run: str
    to: Tracker
    dir: str


class Exported(msgspec.Struct, kw_only=True):
    """`path` is what the tracker opens."""

    run: str
    to: Tracker
    path: str
    steps: int
    evals: int


class TrainerStateRequest(msgspec.Struct, kw_only=True):
    """Verb `import-history`: a run of what a `trainer_state.json` of transformers recorded."""

    file: str
    name: str
    runs: str


class ImportedHistory(msgspec.Struct, kw_only=True):
    """`left_out` counts the entries of its log that tell of no step."""

    run: str
    path: str
    name: str
    steps: int
    evals: int
    left_out: int
    problems: list[str] = []


class UnpackRequest(msgspec.Struct, kw_only=True):
    """Verb `unpack`: an archive becomes a run in `runs`."""

    file: str
    runs: str


class Unpacked(msgspec.Struct, kw_only=True):
    run: str
    path: str
    name: str
    files: int
    weights: bool  # whether trained weights came with it


class MergeRequest(msgspec.Struct, kw_only=True):
    """Verb `merge`: base and adapter of a run as one 16-bit model in the new folder `to`."""

    run: str
    models: str
    to: str
    checkpoint: int | None = None
    gguf: bool = False


class MergeProof(msgspec.Struct, kw_only=True):
    """What was written against the adapter on its base, over the probe questions. KL in nats, a mean over positions.

    `agreement`: share of positions with the same most likely token. `effect`: KL of the adapter from its base.
    """

    passed: bool
    sentence: str
    kl: float
    agreement: float
    effect: float
    identical: int  # of `probes` greedy answers
    probes: int
    positions: int


class Merged(msgspec.Struct, kw_only=True):
    """`size` in bytes; `gguf` the name of that file in the folder, empty where there is none, which a note explains."""

    run: str
    path: str
    size: int
    files: int
    precision: Literal["bf16", "fp16"]
    gguf: str
    proof: MergeProof
    seconds: float
    notes: list[str] = []


class ServeRequest(msgspec.Struct, kw_only=True):
    """Verb `serve`. `port` 0 takes a free one; Progress of the phase "serving" tells which, in `done`."""

    run: str
    models: str
    port: int
    key: str


class Served(msgspec.Struct, kw_only=True):
    """Result of `serve`, when it has ended."""

    url: str
    models: list[str]
