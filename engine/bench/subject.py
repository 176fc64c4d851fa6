"""Who is asked: a model as it comes, or what a run learned, with the template and the settings that belong to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engine.contract import calls, summary
from engine.contract.bench import BenchRequest, Candidate, Prompt
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Generation
from engine.data.conversation import BadRow, Turn
from engine.data.encode import Encoder
from engine.data.of_spec import encoder_for
from engine.data.template import ChatTemplate
from engine.data.tokenizer import load_tokenizer
from engine.infer import fit
from engine.infer.generate import Generated, generate
from engine.infer.session import base_folder, load_options, trained_weights
from engine.infer.voices import batches
from engine.models import fetch
from engine.models.adapters import attach_adapter
from engine.models.build import LoadOptions, build
from engine.models.device import choose_device, choose_precision
from engine.models.inspect import require_sound
from engine.models.load import LoadedModel, load_base

Tell = Callable[[calls.Line], None]


@dataclass(frozen=True)
class Subject:
    """A loaded candidate. `prompts` are token ids, ready to be answered; `notes` are worth showing beside it."""

    loaded: LoadedModel
    model: Any
    encoder: Encoder
    prompts: list[list[int]]
    notes: list[str]

    def answer(
        self, prompts: list[list[int]], options: Generation, advance: Callable[[int], None] = lambda done: None
    ) -> list[Generated]:
        """The answers, as many at a time as memory is meant for; `advance` hears how many there are."""
        made: dict[int, Generated] = {}
        for batch in batches([len(prompt) + options.max_new_tokens for prompt in prompts]):
            some = [prompts[index] for index in batch]
            stops = self.encoder.stop_ids
            answers = generate(self.model, some, stop_ids=stops, pad_id=stops[0], options=options)
            made |= zip(batch, answers, strict=True)
            advance(len(made))
        return [made[index] for index in range(len(prompts))]

    def text(self, made: Generated) -> str:
        """Special tokens in the middle stay visible: an answer that holds them is not a clean one."""
        ids = made.ids[:-1] if made.stop == "end" else made.ids
        return self.encoder.tokenizer.decode(ids, skip_special_tokens=False).strip()


def open_subject(request: BenchRequest, tell: Tell) -> Subject:
    """Load the candidate. What is cheap to know is said first: no template, no weights, no room."""
    opened = _of_run if request.candidate.run else _of_model
    return opened(request, tell)


def _of_model(request: BenchRequest, tell: Tell) -> Subject:
    models = Path(request.models)
    progress = _progress(tell)
    reference = fetch.resolve(request.candidate.model, models_dir=models, progress=progress)
    folder = fetch.fetch(reference, models_dir=models, progress=progress)
    require_sound(folder)
    encoder = _encoder(folder)
    prompts = _prompts(encoder, request.prompts)
    options = _chosen(LoadOptions(), request.candidate)
    fit.make_room(folder, options, "a bench starts")
    loaded = load_base(folder, options, progress, cache=models / ".quantized")
    notes = [reference.note] if reference.note else []
    return Subject(loaded, loaded.model, encoder, prompts, [*notes, *loaded.warnings])


def _of_run(request: BenchRequest, tell: Tell) -> Subject:
    run, models = RunDir(Path(request.candidate.run)), Path(request.models)
    spec = summary.load_spec(run)
    learned, warnings = trained_weights(run)
    folder, notes = base_folder(spec, models, tell)
    encoder = encoder_for(spec, folder)
    prompts = _prompts(encoder, request.prompts)
    options = _chosen(load_options(spec), request.candidate)
    fit.make_room(folder, options, "a bench starts")
    if spec.method.kind == "full":
        loaded = _whole(learned, options, tell)
        model = loaded.model
    else:
        loaded = load_base(folder, options, _progress(tell), cache=models / ".quantized")
        model, _ = attach_adapter(loaded.model, learned)
    return Subject(loaded, model, encoder, prompts, [*notes, *warnings, *loaded.warnings])


def _whole(learned: Path, options: LoadOptions, tell: Tell) -> LoadedModel:
    """A fully fine-tuned model. Not by `load_base`: our weights have no tokenizer, and their seal was checked."""
    tell(calls.Progress(phase="loading the trained model"))
    device = choose_device(options.device)
    precision = choose_precision(device, options.precision)
    began = time.monotonic()
    model, quantization = build(learned, options, device, precision)
    return LoadedModel(
        model=model,
        precision=precision,
        quantization=quantization,
        device=device,
        seconds=time.monotonic() - began,
        peak_bytes=0,
        final_bytes=0,
        reserved_bytes=0,
        weight_bytes=model.get_memory_footprint(),
        warnings=[],
    )


def _encoder(folder: Path) -> Encoder:
    files = load_tokenizer(folder)
    if not files.chat_template:
        raise MoltingError(
            f"{folder.name} has no chat template, so it cannot be asked as a chat model is.",
            remedy="Take its Instruct or Chat version; train it here and name that run, which has a template.",
            reason="bad_model",
        )
    return Encoder.from_files(files, ChatTemplate(files.chat_template, files.tokens))


def _prompts(encoder: Encoder, prompts: Sequence[Prompt]) -> list[list[int]]:
    return [_ids(encoder, prompt) for prompt in prompts]


def _ids(encoder: Encoder, prompt: Prompt) -> list[int]:
    try:
        return encoder.prompt_ids([Turn("user", prompt.text)], prompt.system or None)
    except BadRow as bad:
        raise MoltingError(f"The prompt {prompt.id[:60]!r} cannot be asked: {bad.why}.", code=2) from bad


def _chosen(options: LoadOptions, candidate: Candidate) -> LoadOptions:
    asked: dict[str, Any] = {"quantization": candidate.quantize, "precision": candidate.precision}
    return msgspec.structs.replace(options, **{key: value for key, value in asked.items() if value})


def _progress(tell: Tell) -> Callable[..., None]:
    def progress(phase: str, done: float | None = None, total: float | None = None) -> None:
        tell(calls.Progress(phase=phase, done=done or 0.0, total=total or 0.0))

    return progress
