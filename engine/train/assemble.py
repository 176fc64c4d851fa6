"""Puts a trainer together from a frozen spec: model, tokenizer, rows, adapter, evaluation, samples."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from transformers import PreTrainedTokenizerFast, set_seed

from engine.contract import events, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec, steps_per_epoch
from engine.data.conversation import Turn
from engine.data.encode import Encoder
from engine.data.of_spec import encoder_for
from engine.infer import ability
from engine.infer.generate import generate
from engine.infer.loss import answer_loss
from engine.infer.session import load_options
from engine.models import fetch
from engine.models.device import choose_device, choose_precision
from engine.models.fingerprint import fingerprint
from engine.models.load import LoadedModel, load_base
from engine.models.quiet import quiet_libraries

from . import batch, freeze, gate, memory, plan
from .control import Control
from .copies import Copies
from .learn import Rows, open_rows
from .ranks import Ranks
from .recorder import Recorder
from .trainer import PersonaTrainer

VERSIONS = ("molting", "torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "tokenizers")


def trainer(
    run: RunDir, recorder: Recorder, control: Control, *, token: str, ranks: Ranks | None = None
) -> PersonaTrainer:
    """Everything up to the first step, each part as a phase. MoltingError for what cannot be put together."""
    ranks = ranks or Ranks()
    models = Path(os.environ["MOLTING_MODELS"])
    spec = summary.load_spec(run)
    recorder.phase("fetching")
    with ranks.after_first():
        folder = _fetch(spec, models, token, recorder)
    recorder.phase("encoding")
    freeze.require_same_rows(run, spec)
    encoder = encoder_for(spec, folder)
    rows = open_rows(spec, encoder)
    recorder.emit(rows.funnel())
    device = choose_device(load_options(spec).device)
    worst = memory.worst_of_steps(rows.of_step) if rows.count else memory.worst_of([])
    if not ranks.several or device != "cpu":  # processes on one CPU share its memory, and begin together
        total, free_now = gate.room(device, ranks)
        need = gate.least(folder, spec, worst, device, rows.count, free_now(), ranks.world)
        gate.wait(ranks.told(need), total, free_now, recorder, devices=ranks.world)
    recorder.phase("loading")
    runtime, free = memory.before_loading(), _free(device, ranks)
    spec = _split(spec, folder, rows, device, free, ranks, recorder)
    options = load_options(spec)
    if spec.training.shard:  # no device can hold it: each process takes its part from the host
        precision = choose_precision(device, options.precision)
        options = msgspec.structs.replace(options, device="cpu", precision=precision)
    with ranks.after_first() if spec.method.kind == "qlora" else contextlib.nullcontext():  # it leaves a cache behind
        loaded = load_base(folder, options, _progress(recorder), cache=models / ".quantized")
    for sentence in loaded.warnings:
        recorder.warn("model", sentence)
    spec = plan.resolve(spec, rows=rows.count, parameters=loaded.model.num_parameters(), precision=loaded.precision)
    spec = _laid_out(spec, loaded, rows, recorder)
    set_seed(spec.training.seed)
    foreseen_by = memory.foresee(folder, spec, worst, device, free=free, runtime=runtime, world=ranks.world)
    spec, foreseen = ranks.told(foreseen_by)
    model = _learner(spec, loaded, checkpointing=foreseen.forecast.checkpointing)
    copies = Copies()
    rows = replace(rows, of_step=copies.noting(rows.of_step, steps_per_epoch(rows.count, spec)))
    if spec.training.shard:
        from . import shard

        shard.split(model, ranks.world, torch.device(device))
    made = PersonaTrainer(
        run=run,
        spec=spec,
        base=folder,
        model=model,
        tokenizer=_tokenizer(encoder),
        rows=rows,
        device=device,
        recorder=recorder,
        control=control,
        evaluate_rows=_evaluation(spec, rows, encoder, recorder, ranks) if rows.heldout else None,
        sample=_sampling(spec, encoder, recorder, copies),
        abilities=_abilities(spec, encoder, model, recorder),
        ranks=ranks,
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


def _split(spec: Spec, folder: Path, rows: Rows, device: str, free: int, ranks: Ranks, recorder: Recorder) -> Spec:
    """Whether the model is split over the processes, decided: where one device cannot hold it, or as the spec says."""
    wanted = spec.training.shard
    if not ranks.several or wanted is False:
        return memory.with_training(spec, shard=False)
    if wanted == "auto":
        worst = memory.worst_of_steps(rows.of_step) if rows.count else memory.worst_of([])
        kind: Literal["cpu", "cuda"] = "cpu" if device == "cpu" else "cuda"
        forecaster = memory.Forecaster(folder, worst, device=kind, counting=False, world=ranks.world)
        numbers, precision = forecaster.sizes.numbers, spec.model.precision
        settled = plan.resolve(spec, rows=rows.count, parameters=numbers, precision=precision)
        wanted = ranks.told(forecaster.settled(settled, free)[0].training.shard is True)
    if wanted:
        from . import shard

        shard.require_adapter(spec)
        recorder.log(f"The model is split over {ranks.world} processes: each holds a part of every layer.")
    return memory.with_training(spec, shard=wanted)


def _free(device: str, ranks: Ranks) -> int:
    """Bytes that each process may fill: of the GPU that has least, or its part of the host."""
    if device == "cpu":
        return memory.free(device) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return -int(ranks.most(-memory.free(device), device))


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


def _evaluation(
    spec: Spec, rows: Rows, encoder: Encoder, recorder: Recorder, ranks: Ranks
) -> Callable[[Any], float | None]:
    """Each process takes its part of the rows; where the model is split, all of them compute the same."""
    ours = rows.heldout if spec.training.shard else rows.heldout[ranks.rank :: ranks.world]

    def evaluate(model: Any) -> float | None:
        loss, learned = answer_loss(model, ours, pad_id=encoder.stop_ids[0])
        recorder.beat()
        if not ranks.several:
            return loss
        total, counted = ranks.total((loss or 0.0) * learned, learned, device=model.device)
        return total / counted if counted else None

    return evaluate


def _sampling(spec: Spec, encoder: Encoder, recorder: Recorder, copies: Copies) -> Callable[[Any, int], None] | None:
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
            said = events.Sample(step=step, question=question, answer=text, tokens=len(answer.ids), stop=stop)
            said.copied = copies.share(answer.ids)
            recorder.emit(said)

    return sample


def _abilities(spec: Spec, encoder: Encoder, model: Any, recorder: Recorder) -> Callable[[Any, int], None] | None:
    """What is not trained, measured against the model as it is now, before its first step."""
    if not spec.evaluation.ability_probes:
        return None
    watched = ability.Abilities(model, encoder, ability.load(Path(spec.evaluation.ability_probes)))
    return lambda trained, step: recorder.emit(watched.measure(trained, step))


def start_event(made: PersonaTrainer, step: int) -> events.Start:
    """What the attempt is about to do."""
    spec, model = made.spec, made.model
    training = spec.training
    return events.Start(
        step=step,
        steps=int(training.max_steps),
        device="cpu" if made.args.device.type == "cpu" else str(made.args.device),
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
            "processes": made.ranks.world,
            "gpus": os.environ.get("MOLTING_GPUS", ""),
            "batch_tokens": made.progress.batch_tokens,
            "compiled": int(made.compiled),
            "warmup_steps": plan.warmup_steps(int(training.max_steps), training.warmup),
            **(made.foreseen.plan() if made.foreseen else {}),
        },
        versions={name: version(name) for name in VERSIONS},
    )
