"""The checks before a run, on the very rows that it would train on: the verb, and what it needs to know."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import msgspec

from engine.contract import calls, durable, sweeps
from engine.contract.errors import MoltingError
from engine.contract.severity import worst_first
from engine.contract.spec import Spec, steps_per_epoch
from engine.data.of_spec import encoder_from
from engine.data.read import open_records
from engine.data.rows import EncodedRow
from engine.data.tokenizer import load_tokenizer
from engine.models import fetch
from engine.models.device import choose_precision
from engine.models.files import read_json_object
from engine.models.fingerprint import fingerprint
from engine.models.inspect import OF_WEIGHTS, inspect_folder, raise_errors, weight_files
from engine.models.safetensors_header import read_header
from engine.train import batch, calibration, device, duration, freeze, learn, plan
from engine.train.memory import with_training

from . import all as checks
from . import cluster, environment, gather, memory
from .case import Case

Tell = Callable[[calls.Line], None]
FIELDS_READ = 50  # rows of a file that fits no format, looked at for empty answers
_ANSWERS = ("output", "completion", "response", "answer", "assistant", "resposta", "content")


@dataclass(frozen=True)
class Checked:
    """`resolved` is the spec with what could be decided before the run; all of it where the model is here."""

    findings: list[calls.Finding]
    plan: calls.Plan | None
    resolved: Spec
    mapping: str = ""


def preflight(request: calls.PreflightRequest, tell: Tell) -> calls.Preflight:
    """The verb: findings and plan of a spec file, without starting anything. Findings are told as they are found."""
    opened = freeze.open_spec(Path(request.spec))
    if swept := sweeps.points(opened.spec.sweep):
        tell(calls.Note(text=f"Looked at as one run; `molting sweep SPEC --plan` looks at all {len(swept)} of them."))
    checked = check(opened, Path(request.models), tell)
    return calls.Preflight(findings=checked.findings, plan=checked.plan, mapping=checked.mapping)


def _silent(line: calls.Line) -> None:
    """For those who wait for the whole."""


def check(opened: freeze.Opened, models: Path, tell: Tell = _silent) -> Checked:
    """Look at everything but the running model. MoltingError where there is no telling at all."""
    reference = fetch.resolve(opened.spec.model.base, revision=opened.spec.model.revision, models_dir=models)
    pinned = msgspec.structs.replace(opened.spec.model, revision=reference.revision)
    spec = msgspec.structs.replace(opened.spec, model=pinned)
    folder = fetch.local(reference, models_dir=models)
    if folder is None:
        return Checked([*cluster.check(spec, models), _not_here(reference.location)], None, spec)
    lacking = _without_weights(folder)
    pinned = msgspec.structs.replace(pinned, fingerprint="" if lacking else fingerprint(folder))
    spec = msgspec.structs.replace(spec, model=pinned)
    tell(calls.Progress(phase="reading rows"))
    files = load_tokenizer(folder)
    try:
        encoder = encoder_from(spec, files)
        rows = gather.rows(spec, encoder)
    except MoltingError as error:
        if error.reason != "bad_data" or not (empty := _unanswered(Path(spec.data.train))):
            raise
        finding = _no_answers(error, empty)
        tell(calls.Found(finding=finding))
        return Checked([finding], None, spec)
    gpu, parameters = device.first_gpu(), _roughly(folder) if lacking else _parameters(folder)
    capped = spec.training.max_steps > 0
    count = 0 if spec.data.stream else len(rows.rows)
    if count or spec.data.stream:
        spec = plan.resolve(spec, rows=count, parameters=parameters, precision=_precision(spec, gpu))
    texts = rows.examples[: gather.TEXTS]
    packed = _packed(spec, folder, max((len(row.input_ids) for row in rows.rows), default=0))
    expected = _duration(spec, rows.rows, gpu, parameters, packed) if rows.rows else None
    case = Case(
        spec=spec,
        plan=_plan(spec, rows, capped, expected) if rows.rows else None,
        funnel=learn.event(rows.funnel, rows.mapping.format, stream=bool(spec.data.stream)),
        rows=rows.rows[: gather.TEXTS],
        kept=rows.kept[: gather.TEXTS],
        examples=texts,
        heldout=rows.heldout,
        heldout_examples=rows.heldout_examples,
        dropped=rows.dropped,
        too_long=rows.too_long,
        tokens=gather.tokens(files, encoder),
        facts=gather.facts(opened.file.parent, Path(spec.data.train).parent),
        judged=gather.judged(spec, opened.file.parent),
        asked=gather.questions(spec),
        modules=frozenset() if lacking else gather.modules(folder),
        window=gather.window(folder),
        unstretchable=gather.unstretchable(folder),
        parameters=parameters,
        packed=packed,
        placeholders=gather.placeholders(texts),
        sampled=rows.sampled or (len(texts) if len(texts) < len(rows.rows) else 0),
        estimated_rows=rows.estimated_rows,
        weights=_weights(parameters, spec),
        disk_free=durable.free_bytes(models if models.exists() else opened.file.parent),
    )
    here = spec.launcher.kind == "local"  # what a cluster's nodes are like is not known here
    there = _of_this_machine(spec, folder, rows) if not lacking and here else cluster.check(spec, models)
    tell(calls.Progress(phase="checking"))
    found = []
    for finding in chain(lacking, checks.find(case), there):
        tell(calls.Found(finding=finding))
        found.append(finding)
    return Checked(worst_first(found), case.plan, spec, rows.mapping.describe())


def _without_weights(folder: Path) -> list[calls.Finding]:
    """What is wrong with the weights, as errors beside which rows can still be looked at.

    Raises MoltingError (bad_model) for any other fault of a model folder.
    """
    found = [finding for finding in inspect_folder(folder) if finding.severity == "error"]
    if any(finding.id not in OF_WEIGHTS for finding in found):
        raise_errors(found)
    return found


def _of_this_machine(spec: Spec, folder: Path, rows: gather.Gathered) -> Iterator[calls.Finding]:
    """What depends on the machine, not on the rows: after all else, for some of it takes seconds."""
    if rows.rows:
        yield from memory.check(spec, folder, () if spec.data.stream else rows.rows)
    yield from environment.check(spec)


def _not_here(location: str) -> calls.Finding:
    return calls.Finding(
        id="model-not-here",
        severity="note",
        message=f"{location} is not on this machine yet: the run downloads it first, then checks its rows.",
    )


def _unanswered(train: Path) -> list[int]:
    """Rows whose field for the answer is empty, where nearly all are such."""
    records = list(islice(open_records(train), FIELDS_READ))
    objects = [(record.index + 1, record.value) for record in records if isinstance(record.value, dict)]
    empty = [number for number, row in objects if any(name in row and row[name] in ("", None) for name in _ANSWERS)]
    return empty if len(empty) >= 0.8 * max(1, len(records)) else []


def _no_answers(error: MoltingError, rows: list[int]) -> calls.Finding:
    return calls.Finding(
        id="answers-empty",
        severity="error",
        message="The answers of these rows are empty: there is nothing to learn.",
        evidence=error.message,
        why="A question without its answer teaches nothing.",
        remedy="Write the answers.",
        rows=rows,
    )


def _duration(
    spec: Spec, rows: Sequence[EncodedRow], gpu: device.Gpu | None, parameters: int, packed: bool
) -> duration.Expected | None:
    """How long the run will take, where runs of this machine tell it."""
    like = calibration.Run(
        device=gpu.name if gpu else "cpu",
        method=spec.method.kind,
        forecast=0,
        measured=0,
        model=spec.model.fingerprint,
        parameters=parameters,
        settings=duration.settings(spec, checkpointing=spec.training.gradient_checkpointing is True),
    )
    tokens = duration.tokens_a_step(rows, with_training(spec, packing=packed))
    return duration.expected(calibration.load(), like, steps=int(spec.training.max_steps), tokens_a_step=tokens)


def _plan(spec: Spec, rows: gather.Gathered, capped: bool, expected: duration.Expected | None) -> calls.Plan:
    training, streamed = spec.training, bool(spec.data.stream)
    steps = int(training.max_steps)
    warmup = plan.warmup_steps(steps, training.warmup)
    rate = float(training.learning_rate)
    tokens = sum(len(row.input_ids) for row in rows.rows)
    return calls.Plan(
        rows=0 if streamed else len(rows.rows),
        heldout=len(rows.heldout),
        rows_per_step=spec.rows_per_step,
        steps=steps,
        seen=0.0 if streamed else steps / max(1, steps_per_epoch(len(rows.rows), spec)),
        warmup_steps=warmup,
        learning_rate=rate,
        tokens_per_row=tokens / max(1, len(rows.rows)),
        learned_share=sum(row.n_learned for row in rows.rows) / max(1, tokens),
        batch=training.batch,
        accumulation=training.accumulation,
        first_rate=rate * plan.rate_share(0, steps, warmup, training.schedule),
        last_rate=rate * plan.rate_share(steps - 1, steps, warmup, training.schedule),
        capped=capped,
        seconds=expected.seconds if expected else None,
        seconds_from=expected.known_from if expected else "",
    )


def _packed(spec: Spec, folder: Path, longest: int) -> bool:
    """Whether the rows of a batch lie in one sequence, as the trainer will decide it."""
    if spec.training.packing is False:
        return False
    config = read_json_object(folder / "config.json", 16 << 20)
    return not batch.unpackable(_Config(config), longest)


class _Config:
    """A config.json with its keys as attributes, as transformers has them."""

    def __init__(self, values: dict[str, object]) -> None:
        self.__dict__.update(values)


def _parameters(folder: Path) -> int:
    return sum(tensor.numbers for name in weight_files(folder) for tensor in read_header(folder / name).values())


def _roughly(folder: Path) -> int:
    """Parameters of a Llama-like model by its configuration, where there are no weights to count; 0 for none."""
    config = read_json_object(folder / "config.json", 16 << 20)
    names = ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")
    width, layers, inner, vocab = (config.get(name) for name in names)
    if not all(isinstance(each, int) for each in (width, layers, inner, vocab)):
        return 0
    return int(layers * (4 * width * width + 3 * width * inner) + vocab * width)  # type: ignore[operator]


def _weights(parameters: int, spec: Spec) -> int:
    """Bytes of the weights as they are loaded, without what training adds."""
    precision = spec.model.precision if spec.model.precision != "auto" else "bf16"
    size = {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0}[precision]
    each = {"lora": size, "qlora": 0.7, "full": 16.0}[spec.method.kind]  # full: fp32 weights, gradients, two moments
    return int(parameters * each)


def _precision(spec: Spec, gpu: device.Gpu | None) -> str:
    """As the loader will choose it; on a node that Slurm chooses, only there."""
    if spec.launcher.kind == "slurm":
        return spec.model.precision
    if spec.model.precision == "auto" and gpu:
        return "bf16" if gpu.capability >= 8 else "fp16"
    return choose_precision("cpu", spec.model.precision)
