"""The checks before a run, on the very rows that it would train on: gathers what they need to know."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
import psutil

from engine.contract import calls, durable, events
from engine.contract.spec import Spec, steps_per_epoch
from engine.data.conversation import BadRow
from engine.data.convert import Mapping, to_conversation
from engine.data.detect import looks_like_questions
from engine.data.encode import EncodedRow, Encoder
from engine.data.of_spec import encoder_for, options
from engine.data.prepare import SAMPLES, prepare
from engine.data.read import open_records
from engine.data.stream import RowStream
from engine.models import fetch
from engine.models.device import choose_precision
from engine.models.fingerprint import fingerprint
from engine.models.inspect import require_sound, weight_files
from engine.models.safetensors_header import read_header
from engine.train import device, freeze, learn, plan

from .essentials import Case, findings

QUESTIONS_READ = 20_000  # rows whose questions are compared with probes and held-out rows
STREAM_ROWS_READ = 500  # rows of a stream that are looked at


@dataclass(frozen=True)
class Checked:
    """`resolved` is the spec with what could be decided before the run; all of it where the model is here."""

    findings: list[calls.Finding]
    plan: calls.Plan | None
    resolved: Spec
    mapping: str = ""


def preflight(request: calls.PreflightRequest, tell: object) -> calls.Preflight:
    """The verb: findings and plan of a spec file, without starting anything."""
    checked = check(freeze.open_spec(Path(request.spec)), Path(request.models))
    return calls.Preflight(findings=checked.findings, plan=checked.plan, mapping=checked.mapping)


def check(opened: freeze.Opened, models: Path) -> Checked:
    """Look at everything but the running model. MoltingError where there is no telling at all."""
    reference = fetch.resolve(opened.spec.model.base, revision=opened.spec.model.revision, models_dir=models)
    pinned = msgspec.structs.replace(opened.spec.model, revision=reference.revision)
    spec = msgspec.structs.replace(opened.spec, model=pinned)
    folder = fetch.local(reference, models_dir=models)
    if folder is None:
        return Checked([_not_here(reference.location)], None, spec)
    require_sound(folder)
    pinned = msgspec.structs.replace(pinned, fingerprint=fingerprint(folder))
    spec = msgspec.structs.replace(spec, model=pinned)
    encoder, gpu = encoder_for(spec, folder), device.first_gpu()
    rows, heldout, funnel, mapping = _rows(spec, encoder)
    count = 0 if spec.data.stream else len(rows)
    spec = plan.resolve(spec, rows=count, parameters=_parameters(folder), precision=_precision(spec, gpu))
    case = Case(
        spec=spec,
        rows=rows,
        heldout=heldout,
        funnel=funnel,
        plan=_plan(spec, rows, len(heldout)),
        questions=_questions(Path(spec.data.train), mapping),
        heldout_questions=_questions(Path(spec.data.heldout), mapping) if spec.data.heldout else [],
        probes=freeze.probes(spec),
        stop_ids=frozenset(encoder.stop_ids),
        injected_system=encoder.shape.default_system if encoder.shape else "",
        only_questions=_only_questions(Path(spec.data.train), mapping),
        placeholders=_placeholders(Path(spec.data.train)),
        weights=_weights(folder, spec),
        memory_free=gpu.free if gpu else psutil.virtual_memory().available,
        disk_free=durable.free_bytes(models if models.exists() else opened.file.parent),
    )
    return Checked(findings(case), case.plan, spec, mapping.describe())


def _not_here(location: str) -> calls.Finding:
    return calls.Finding(
        id="model-not-here",
        severity="note",
        message=f"{location} is not on this machine yet: the run downloads it first, then checks its rows.",
    )


def _rows(spec: Spec, encoder: Encoder) -> tuple[list[EncodedRow], list[EncodedRow], events.Funnel, Mapping]:
    """Rows to train on, held-out rows, funnel; of a stream the first ones."""
    if spec.data.stream:
        stream = RowStream(options(spec), encoder)
        first, heldout = list(islice(stream, STREAM_ROWS_READ)), stream.heldout(limit=STREAM_ROWS_READ)
        return first, heldout, learn.event(stream.funnel, stream.mapping.format, stream=True), stream.mapping
    prepared = prepare(options(spec), encoder)
    return prepared.train, prepared.heldout, learn.event(prepared.funnel, prepared.mapping.format), prepared.mapping


def _questions(path: Path, mapping: Mapping) -> list[str]:
    """What users ask, turn by turn, in the first rows of a file."""
    asked: list[str] = []
    for record in islice(open_records(path), QUESTIONS_READ):
        try:
            turns = to_conversation(record.value, mapping).turns
        except BadRow:
            continue
        asked += [turn.content for turn in turns if turn.role == "user"]
    return asked


def _only_questions(path: Path, mapping: Mapping) -> bool:
    return looks_like_questions([record.value for record in islice(open_records(path), SAMPLES)], mapping)


def _placeholders(path: Path) -> int:
    """Rows that `molting init` wrote and nobody replaced."""
    return sum("Replace this row" in str(record.value) for record in islice(open_records(path), SAMPLES))


def _plan(spec: Spec, rows: list[EncodedRow], heldout: int) -> calls.Plan:
    steps, streamed = int(spec.training.max_steps), bool(spec.data.stream)
    tokens = sum(len(row.input_ids) for row in rows)
    return calls.Plan(
        rows=0 if streamed else len(rows),
        heldout=heldout,
        rows_per_step=spec.rows_per_step,
        steps=steps,
        seen=0.0 if streamed else steps / max(1, steps_per_epoch(len(rows), spec)),
        warmup_steps=plan.warmup_steps(steps, spec.training.warmup),
        learning_rate=float(spec.training.learning_rate),
        tokens_per_row=tokens / max(1, len(rows)),
        learned_share=sum(row.n_learned for row in rows) / max(1, tokens),
    )


def _parameters(folder: Path) -> int:
    return sum(tensor.numbers for name in weight_files(folder) for tensor in read_header(folder / name).values())


def _weights(folder: Path, spec: Spec) -> int:
    """Bytes of the weights as they are loaded, without what training adds."""
    size = {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0}[spec.model.precision]
    each = {"lora": size, "qlora": 0.7, "full": 16.0}[spec.method.kind]  # full: fp32 weights, gradients, two moments
    return int(_parameters(folder) * each)


def _precision(spec: Spec, gpu: device.Gpu | None) -> str:
    """As the loader will choose it."""
    if spec.model.precision == "auto" and gpu:
        return "bf16" if gpu.capability >= 8 else "fp16"
    return choose_precision("cpu", spec.model.precision)
