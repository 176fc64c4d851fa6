"""Puts a trainer together from a frozen spec: model, tokenizer, rows, adapter, evaluation, samples."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import PreTrainedTokenizerFast, set_seed

from engine.contract import events, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec
from engine.data.conversation import Turn
from engine.data.encode import Encoder
from engine.data.of_spec import encoder_for
from engine.infer.generate import generate
from engine.infer.loss import answer_loss
from engine.infer.session import load_options
from engine.models import fetch
from engine.models.device import choose_device
from engine.models.fingerprint import fingerprint
from engine.models.load import LoadedModel, load_base
from engine.models.quiet import quiet_libraries

from . import batch, freeze, memory, plan
from .control import Control
from .learn import Rows, open_rows
from .recorder import Recorder
from .trainer import PersonaTrainer

VERSIONS = ("molting", "torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "tokenizers")


def trainer(run: RunDir, recorder: Recorder, control: Control, *, token: str) -> PersonaTrainer:
    """Everything up to the first step, each part as a phase. MoltingError for what cannot be put together."""
    models = Path(os.environ["MOLTING_MODELS"])
    spec = summary.load_spec(run)
    recorder.phase("fetching")
    folder = _fetch(spec, models, token, recorder)
    recorder.phase("encoding")
    freeze.require_same_rows(run, spec)
    encoder = encoder_for(spec, folder)
    rows = open_rows(spec, encoder)
    recorder.emit(rows.funnel())
    recorder.phase("loading")
    device = choose_device(load_options(spec).device)
    runtime, free = memory.before_loading(), memory.free(device)
    loaded = load_base(folder, load_options(spec), _progress(recorder), cache=models / ".quantized")
    for sentence in loaded.warnings:
        recorder.warn("model", sentence)
    spec = plan.resolve(spec, rows=rows.count, parameters=loaded.model.num_parameters(), precision=loaded.precision)
    spec = _laid_out(spec, loaded, rows, recorder)
    set_seed(spec.training.seed)
    worst = memory.worst_of_steps(rows.of_step) if rows.count else memory.worst_of([])
    spec, foreseen = memory.foresee(folder, spec, worst, device, free=free, runtime=runtime)
    model = _learner(spec, loaded, checkpointing=foreseen.forecast.checkpointing)
    made = PersonaTrainer(
        run=run,
        spec=spec,
        base=folder,
        model=model,
        tokenizer=_tokenizer(encoder),
        rows=rows,
        device=loaded.device,
        recorder=recorder,
        control=control,
        evaluate_rows=_evaluation(rows, encoder, recorder) if rows.heldout else None,
        sample=_sampling(spec, encoder, recorder),
    )
    made.foreseen = foreseen
    return made


def _laid_out(spec: Spec, loaded: LoadedModel, rows: Rows, recorder: Recorder) -> Spec:
    """Packing decided: wherever it is exact for this model and these rows, unless the spec forbids it."""
    if not spec.training.packing:
        return spec
    why_not = batch.unpackable(loaded.model.config, rows.longest)
    if why_not:
        said = recorder.warn if spec.training.packing is True else lambda _, sentence: recorder.log(sentence)
        said("not-packed", f"Rows are padded instead of packed, because {why_not}.")
    return memory.with_training(spec, packing=not why_not)


def _fetch(spec: Spec, models: Path, token: str, recorder: Recorder) -> Path:
    progress = _progress(recorder)
    reference = fetch.resolve(
        spec.model.base, revision=spec.model.revision, models_dir=models, token=token or None, progress=progress
    )
    if reference.note:
        recorder.warn("model", reference.note)
    folder = fetch.fetch(reference, models_dir=models, token=token or None, progress=progress)
    if spec.model.fingerprint and fingerprint(folder) != spec.model.fingerprint:
        recorder.warn("base-changed", f"The model in {folder} is not the one that this run was made for.")
    return folder


def _progress(recorder: Recorder) -> Callable[..., None]:
    def progress(phase: str, done: float | None = None, total: float | None = None) -> None:
        recorder.progress(done or 0.0, total)

    return progress


def _learner(spec: Spec, loaded: LoadedModel, *, checkpointing: bool) -> Any:
    """The model with what is to be trained in it."""
    model, method = loaded.model, spec.method
    model.config.use_cache = False
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    if method.kind == "full":
        return model.float()  # small steps are lost in 16-bit weights; the forward still runs in `precision`
    quiet_libraries()
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=method.rank,
        lora_alpha=float(method.alpha),
        lora_dropout=method.dropout,
        target_modules=method.target_modules,
        use_rslora=method.rslora,
        use_dora=method.dora,
        task_type="CAUSAL_LM",
    )
    model.requires_grad_(False)
    try:
        return get_peft_model(model, config)
    except ValueError as error:  # PEFT's word for names that match nothing, or something that cannot be adapted
        raise MoltingError(
            f"method.target_modules does not fit this model: {str(error).splitlines()[0][:300]}",
            remedy='Set method.target_modules = "all-linear".',
            reason="bad_model",
        ) from error


def _tokenizer(encoder: Encoder) -> PreTrainedTokenizerFast:
    """The trainer's library asks for one; rows come encoded, so it only has to know which token pads."""
    end = encoder.tokenizer.id_to_token(encoder.stop_ids[0])
    return PreTrainedTokenizerFast(tokenizer_object=encoder.tokenizer, eos_token=end, pad_token=end)


def _evaluation(rows: Rows, encoder: Encoder, recorder: Recorder) -> Callable[[Any], float | None]:
    def evaluate(model: Any) -> float | None:
        loss, _ = answer_loss(model, rows.heldout, pad_id=encoder.stop_ids[0])
        recorder.beat()
        return loss

    return evaluate


def _sampling(spec: Spec, encoder: Encoder, recorder: Recorder) -> Callable[[Any, int], None] | None:
    """Greedy answers to the first probe questions, as the model stands."""
    questions = freeze.probes(spec)[: spec.evaluation.sample_count]
    if not questions:
        return None
    greedy = msgspec.structs.replace(spec.generation, temperature=0.0)
    prompts = [encoder.prompt_ids([Turn("user", question)]) for question in questions]

    def sample(model: Any, step: int) -> None:
        answers = generate(
            model,
            prompts,
            stop_ids=encoder.stop_ids,
            pad_id=encoder.stop_ids[0],
            options=greedy,
            on_token=lambda row, token: recorder.beat(),
        )
        for question, answer in zip(questions, answers, strict=True):
            ids = answer.ids[:-1] if answer.stop == "end" else answer.ids
            text = encoder.tokenizer.decode(ids, skip_special_tokens=False).strip()
            stop = "end" if answer.stop == "end" else "cap"
            recorder.emit(events.Sample(step=step, question=question, answer=text, tokens=len(answer.ids), stop=stop))

    return sample


def start_event(made: PersonaTrainer, step: int) -> events.Start:
    """What the attempt is about to do."""
    spec, model = made.spec, made.model
    training = spec.training
    return events.Start(
        step=step,
        steps=int(training.max_steps),
        device=str(made.args.device),
        precision=spec.model.precision,
        path="packed" if made.packed else "padded",
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        parameters=model.num_parameters() if hasattr(model, "num_parameters") else 0,
        tokens=made.progress.tokens,
        plan={
            "rows": made.rows.count,
            "rows_per_step": spec.rows_per_step,
            "learning_rate": float(training.learning_rate),
            "threads": torch.get_num_threads(),
            "batch_tokens": made.progress.batch_tokens,
            "compiled": int(made.compiled),
            "warmup_steps": plan.warmup_steps(int(training.max_steps), training.warmup),
            **(made.foreseen.plan() if made.foreseen else {}),
        },
        versions={name: version(name) for name in VERSIONS},
    )
