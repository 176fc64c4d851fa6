"""The spec of a run: what a person writes in three lines, and what is frozen, resolved, into the run.

Every key carries its own description; `docs/spec.md` and the file that `molting init` writes come from here.
"auto" and 0 mean "choose well for this model, data and device"; freezing replaces them by what was chosen.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

import msgspec
from msgspec import Meta

Auto = Literal["auto"]
Count = Annotated[int, Meta(ge=0, le=10**9)]
Positive = Annotated[int, Meta(ge=1, le=10**9)]
Ratio = Annotated[float, Meta(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Meta(ge=0.0, le=1e6)]


class _Section(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    pass


class Rope(_Section, frozen=True):
    """Context extension, applied to the configuration before the model is built."""

    type: Annotated[
        Literal["none", "linear", "dynamic", "yarn"],
        Meta(description="none; linear: all distances shrink; dynamic: only in long texts; yarn: only far ones"),
    ] = "none"
    factor: Annotated[
        float, Meta(ge=1.0, le=64.0, description="window = factor x the model's own; 1 changes nothing")
    ] = 1.0


class Model(_Section, frozen=True):
    """Which model is taught."""

    base: Annotated[str, Meta(min_length=1, description='"demo", a model folder, a GGUF file, or a hub id')]
    revision: Annotated[str, Meta(description="hub revision; frozen to the commit that was used")] = ""
    fingerprint: Annotated[str, Meta(description="written when frozen: the hash that resume and prove check")] = ""
    precision: Annotated[
        Literal["auto", "bf16", "fp16", "fp32"],
        Meta(description="auto: bf16 where the device has it, else fp16 on a GPU and fp32 on a CPU"),
    ] = "auto"
    chat_template: Annotated[
        str,
        Meta(description='empty: the model\'s own; else a name such as "zephyr", a .jinja file, or the template'),
    ] = ""
    rope: Annotated[Rope, Meta(description="context extension")] = Rope()


class Data(_Section, frozen=True):
    """What it is taught with."""

    train: Annotated[str, Meta(min_length=1, description="json, jsonl, csv, parquet or txt file of rows")]
    heldout: Annotated[str, Meta(description="file of rows that are never trained on; empty: take a share")] = ""
    heldout_fraction: Annotated[
        float, Meta(ge=0.0, le=0.9, description="share taken from train when there is no held-out file")
    ] = 0.1
    format: Annotated[
        Literal["auto", "messages", "sharegpt", "alpaca", "prompt_completion", "title_content", "text"],
        Meta(description="auto looks at the first rows and says what it saw"),
    ] = "auto"
    fields: Annotated[
        dict[str, str], Meta(description='names of the columns where they differ, as { title = "headline" }')
    ] = {}
    title_template: Annotated[str, Meta(description="prompt for title/content rows; {title} is replaced")] = ""
    system: Annotated[str, Meta(description="system prompt given to every row that has none")] = ""
    system_file: Annotated[str, Meta(description="the same, read from a file")] = ""
    max_length: Annotated[
        int, Meta(ge=16, le=1_048_576, description="tokens a row may have; longer rows lose their oldest turns")
    ] = 1024
    stream: Annotated[
        Union[bool, Auto],
        Meta(description="read while training instead of before it; auto: for files over 64 MiB"),
    ] = "auto"
    shuffle_buffer: Annotated[int, Meta(ge=1, le=1_000_000, description="rows held for shuffling when streaming")] = (
        2000
    )
    sha256: Annotated[str, Meta(description="written when frozen: hash of the training file")] = ""
    date: Annotated[
        str,
        Meta(
            pattern=r"^(\d{4}-\d{2}-\d{2})?$",
            description="written when frozen: the day that chat templates which name one are told",
        ),
    ] = ""


class Method(_Section, frozen=True):
    """How the weights change."""

    kind: Annotated[
        Literal["lora", "qlora", "full"],
        Meta(description="lora; qlora: the base in 4 bits (NF4); full: every weight, for small models"),
    ] = "lora"
    rank: Annotated[int, Meta(ge=1, le=1024, description="LoRA rank")] = 16
    alpha: Annotated[Union[Auto, Annotated[float, Meta(gt=0.0, le=4096.0)]], Meta(description="auto: 2 x rank")] = (
        "auto"
    )
    dropout: Annotated[float, Meta(ge=0.0, le=0.9, description="LoRA dropout")] = 0.0
    target_modules: Annotated[
        Union[Literal["all-linear"], Annotated[list[str], Meta(min_length=1)]],
        Meta(description='"all-linear", or a list such as ["q_proj", "v_proj"]'),
    ] = "all-linear"
    rslora: Annotated[bool, Meta(description="scale by alpha / sqrt(rank)")] = False
    dora: Annotated[bool, Meta(description="weight-decomposed LoRA; slower, two-pass answers")] = False
    double_quant: Annotated[bool, Meta(description="qlora: quantise the quantisation constants too")] = True


class Training(_Section, frozen=True):
    """How long and how fast."""

    epochs: Annotated[
        float, Meta(gt=0.0, le=10_000.0, description="times each row is seen; max_steps wins when given")
    ] = 5.0
    max_steps: Annotated[Count, Meta(description="optimizer steps; 0: from epochs")] = 0
    batch: Annotated[int, Meta(ge=1, le=4096, description="rows that pass through together where they are padded")] = 4
    accumulation: Annotated[
        int, Meta(ge=1, le=4096, description="batches per optimizer step; rows per step = batch x this")
    ] = 1
    learning_rate: Annotated[
        Union[Auto, Annotated[float, Meta(gt=0.0, le=1.0)]],
        Meta(description="peak; auto fits the method and the size of the model"),
    ] = "auto"
    schedule: Annotated[
        Literal["cosine", "linear", "constant"], Meta(description="how the rate falls after the warm-up")
    ] = "cosine"
    warmup: Annotated[Ratio, Meta(description="share of the steps over which the rate rises")] = 0.05
    weight_decay: Annotated[Ratio, Meta(description="AdamW weight decay")] = 0.0
    max_grad_norm: Annotated[NonNegative, Meta(description="gradients are clipped to this norm; 0: never")] = 1.0
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1, description="order of rows, initial weights, dropout")] = 42
    gradient_checkpointing: Annotated[
        Union[bool, Auto], Meta(description="less memory, a third slower; auto: only where memory is short")
    ] = "auto"
    packing: Annotated[
        Union[bool, Auto],
        Meta(description="shared beginnings are computed once, no padding; auto: where the result is the same"),
    ] = "auto"
    batch_tokens: Annotated[
        Union[Auto, Annotated[int, Meta(ge=16, le=1_048_576)]],
        Meta(description="tokens that pass through together where rows are packed; auto: what memory allows"),
    ] = "auto"
    compile: Annotated[
        Union[bool, Auto], Meta(description="compile the model's layers; auto: where the run is long enough to gain")
    ] = "auto"
    shard: Annotated[
        Union[bool, Auto],
        Meta(description="split the model itself over the devices; auto: where one of them cannot hold it"),
    ] = "auto"
    save_every: Annotated[
        Union[Auto, Positive], Meta(description="optimizer steps between sealed checkpoints; auto: about ten a run")
    ] = "auto"
    keep: Annotated[int, Meta(ge=1, le=1000, description="newest checkpoints kept, besides the best")] = 2
    early_stopping: Annotated[
        int, Meta(ge=0, le=1000, description="stop after this many evaluations without a better one; 0: never")
    ] = 0
    keep_best: Annotated[
        bool, Meta(description="end with the weights of the best evaluation instead of the last step")
    ] = False
    hang_minutes: Annotated[
        float, Meta(gt=0.0, le=10_000.0, description="a trainer silent for this long is ended as hung")
    ] = 30.0


class Evaluation(_Section, frozen=True):
    """What is watched while it trains."""

    probes: Annotated[str, Meta(description="file of questions, one a line, asked during and after training")] = ""
    every: Annotated[
        Union[Auto, Positive], Meta(description="steps between held-out evaluations; auto: about five a run")
    ] = "auto"
    sample_every: Annotated[
        Union[Auto, Count], Meta(description="steps between samples; auto: about four a run; 0: never")
    ] = "auto"
    sample_count: Annotated[int, Meta(ge=0, le=100, description="probe questions answered each time")] = 2
    ability_probes: Annotated[
        str,
        Meta(description="file of prompts, with or without an expected answer, for what is not trained and must stay"),
    ] = ""


class Generation(_Section, frozen=True):
    """How answers are generated, in samples, ask and prove."""

    max_new_tokens: Annotated[int, Meta(ge=1, le=32_768, description="cap of an answer")] = 80
    temperature: Annotated[float, Meta(ge=0.0, le=5.0, description="0: greedy")] = 0.0
    top_p: Annotated[float, Meta(gt=0.0, le=1.0, description="nucleus")] = 1.0
    top_k: Annotated[int, Meta(ge=0, le=1_000_000, description="0: off")] = 0
    repetition_penalty: Annotated[float, Meta(ge=0.5, le=5.0, description="1: off")] = 1.0
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1, description="for sampling")] = 0


class Sweep(_Section, frozen=True):
    """Several runs of one spec, each with other values: `molting sweep`."""

    grid: Annotated[
        dict[str, Any], Meta(description='values to try, as { "method.rank" = [8, 16] }; a run for each combination')
    ] = {}
    runs: Annotated[
        list[dict[str, Any]], Meta(description='single runs to try, as [{ "method.rank" = 8 }]; each with all of grid')
    ] = []
    stop_worse: Annotated[bool, Meta(description="end a run early that is clearly worse than another of the sweep")] = (
        False
    )
    id: Annotated[str, Meta(max_length=200, description="written when frozen: the sweep that this run belongs to")] = ""
    changes: Annotated[dict[str, Any], Meta(description="written when frozen: what this run has of its own")] = {}
    comparable: Annotated[
        bool, Meta(description="written when frozen: whether its runs' held-out losses measure the same")
    ] = True


class Launcher(_Section, frozen=True):
    """Where it runs: on this machine, or as a job of a Slurm cluster whose nodes see the same folders."""

    kind: Annotated[
        Literal["local", "slurm"], Meta(description="local: this machine, now; slurm: when and where Slurm decides")
    ] = "local"
    partition: Annotated[str, Meta(max_length=200, description="empty: the cluster's default")] = ""
    time: Annotated[str, Meta(max_length=20, description='limit, as "90" (minutes), "8:00:00", "2-12:00:00"')] = ""
    gres: Annotated[str, Meta(max_length=200, description='devices of each node, as "gpu:1" or "gpu:a100:2"')] = ""
    nodes: Annotated[int, Meta(ge=1, le=1024, description="machines that train it together")] = 1
    requeue: Annotated[bool, Meta(description="back into the queue when the time is up or the node was taken away")] = (
        True
    )
    save_before: Annotated[
        int, Meta(ge=10, le=65_535, description="seconds before the time limit at which it saves and leaves")
    ] = 120
    extra: Annotated[
        list[Annotated[str, Meta(max_length=600)]],
        Meta(max_length=50, description='other options of sbatch, as ["--account=lab", "--mem=32G"]'),
    ] = []


class Spec(_Section, frozen=True):
    """One training run."""

    model: Model
    data: Data
    name: Annotated[str, Meta(max_length=200, description="shown everywhere; empty: the spec's folder")] = ""
    parent: Annotated[str, Meta(description="the run that this one continues the work of")] = ""
    devices: Annotated[
        Union[
            Auto,
            Annotated[int, Meta(ge=1, le=1024)],
            Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(min_length=1, max_length=1024)],
        ],
        Meta(description="GPUs of this machine that train it together: auto: one; or how many; or their UUIDs"),
    ] = "auto"
    method: Method = Method()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    generation: Generation = Generation()
    sweep: Sweep = Sweep()
    launcher: Launcher = Launcher()

    @property
    def rows_per_step(self) -> int:
        """Rows that one optimizer step learns from."""
        return self.training.batch * self.training.accumulation


def steps_per_epoch(rows: int, spec: Spec) -> int:
    """Optimizer steps in which every one of `rows` rows is seen once (the last may be smaller)."""
    return -(-rows // spec.rows_per_step)


def total_steps(rows: int, spec: Spec) -> int:
    """Optimizer steps of the whole run over `rows` training rows."""
    if spec.training.max_steps:
        return spec.training.max_steps
    return max(1, round(steps_per_epoch(rows, spec) * spec.training.epochs))
