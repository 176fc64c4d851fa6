"""A run opened to be talked to: its base model, what it learned, and the encoder it was trained with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from engine.contract import calls, durable, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Generation, Spec
from engine.data.conversation import BadRow, Turn
from engine.data.encode import Encoder
from engine.data.of_spec import encoder_for
from engine.models import fetch
from engine.models.adapters import AttachReport, attach_adapter
from engine.models.build import build
from engine.models.files import Progress
from engine.models.fingerprint import fingerprint
from engine.models.load import LoadedModel, LoadOptions, load_base

from .generate import Generated
from .voices import Mode, Voices, first_difference, generate_both

Tell = Callable[[calls.Line], None]


@dataclass(frozen=True)
class Session:
    """What `ask` and `prove` work with. Paths in `spec` are absolute; `warnings` are sentences about what is odd."""

    run: RunDir
    spec: Spec
    encoder: Encoder
    voices: Voices
    report: AttachReport
    warnings: list[str] = field(default_factory=list)

    @property
    def stops(self) -> dict[str, Any]:
        """`stop_ids` and `pad_id` as `generate` wants them; any id pads, since a mask is always given."""
        return {"stop_ids": self.encoder.stop_ids, "pad_id": self.encoder.stop_ids[0]}

    def prompts(self, questions: Sequence[str]) -> list[list[int]]:
        """The ids after which the model answers each question, behind the run's system prompt.

        Raises MoltingError (code 2) for a question that the chat template refuses.
        """
        return [self._prompt(question) for question in questions]

    def _prompt(self, question: str) -> list[int]:
        try:
            return self.encoder.prompt_ids([Turn("user", question)])
        except BadRow as bad:
            raise MoltingError(f"The question {question[:60]!r} cannot be asked: {bad.why}.", code=2) from bad

    def answer(
        self, questions: Sequence[str], prompts: list[list[int]], options: Generation, tell: Tell
    ) -> tuple[list[calls.Pair], list[Generated], Mode]:
        """Both voices on every question; also the trained voice's tokens, and how both were made."""

        def advance(done: int) -> None:
            progress = calls.Progress(phase="answering", done=done, total=len(prompts), unit="questions")
            tell(progress)

        advance(0)
        base, tuned, mode = generate_both(self.voices, prompts, options=options, advance=advance, **self.stops)
        pairs = [
            calls.Pair(
                question=question,
                base=self._answer(before),
                adapter=self._answer(after),
                first_difference=first_difference(before.ids, after.ids),
            )
            for question, before, after in zip(questions, base, tuned, strict=True)
        ]
        return pairs, tuned, mode

    def _answer(self, made: Generated) -> calls.Answer:
        """Special tokens in the middle stay visible: an answer that holds them is not a clean one."""
        ended = made.stop == "end"
        ids = made.ids[:-1] if ended else made.ids
        text = self.encoder.tokenizer.decode(ids, skip_special_tokens=False).strip()
        return calls.Answer(text=text, tokens=len(made.ids), stop="end" if ended else "cap")


def open_session(run: RunDir, models: Path, tell: Tell) -> Session:
    """Load the base of `run` as it was trained on and attach what was learned.

    Raises MoltingError where nothing was saved yet, or the base is not the one that was trained on.
    """
    spec = summary.load_spec(run)
    learned, warnings = trained_weights(run)
    progress = _progress(tell)
    reference = fetch.resolve(spec.model.base, revision=spec.model.revision, models_dir=models, progress=progress)
    folder = fetch.fetch(reference, models_dir=models, progress=progress)
    _require_same_base(spec, folder)
    loaded = load_base(folder, load_options(spec), progress, cache=models / ".quantized")
    voices, report = _voices(spec, loaded, learned, progress)
    notes = [reference.note] if reference.note else []
    encoder = encoder_for(spec, folder)
    return Session(run, spec, encoder, voices, report, [*notes, *warnings, *loaded.warnings])


def trained_weights(run: RunDir) -> tuple[Path, list[str]]:
    """The final weights of `run`, else those of its newest valid checkpoint, and sentences that say so.

    Raises MoltingError where there are none.
    """
    refused = []
    if run.adapter.exists():
        refused = durable.check_seal(run.adapter)
        if not refused:
            return run.adapter, []
    for step in run.checkpoint_steps():
        problems = durable.check_seal(run.checkpoint(step))
        if not problems:
            why = "are damaged" if run.adapter.exists() else "are not there yet"
            said = f"The final weights of {run.id} {why}: those of its checkpoint at step {step} are used."
            return run.checkpoint(step), [*refused[:1], said]
        refused.append(problems[0])
    raise MoltingError(
        f"{run.id} has no trained weights that can be used." + (f" {refused[0]}" if refused else ""),
        remedy=f"`molting resume {run.id}` trains them; `molting attach {run.id}` shows how it stands.",
    )


def load_options(spec: Spec) -> LoadOptions:
    """How the base of a run is loaded, the same for training and for answers."""
    rope = spec.model.rope
    return LoadOptions(
        precision=spec.model.precision,
        quantization="nf4" if spec.method.kind == "qlora" else "none",
        double_quant=spec.method.double_quant,
        rope=None if rope.type == "none" else {"rope_type": rope.type, "factor": rope.factor},
    )


def _require_same_base(spec: Spec, folder: Path) -> None:
    found = fingerprint(folder)
    if spec.model.fingerprint and found != spec.model.fingerprint:
        raise MoltingError(
            f"The model in {folder} is not the one that this run was trained on: its fingerprint is "
            f"{found[:12]}, not {spec.model.fingerprint[:12]}.",
            remedy=f"Put the weights of {spec.model.base} as they were then back in their place.",
            reason="bad_model",
        )


def _voices(spec: Spec, loaded: LoadedModel, learned: Path, progress: Progress) -> tuple[Voices, AttachReport]:
    if spec.method.kind != "full":
        tuned, report = attach_adapter(loaded.model, learned)
        return Voices(tuned), report
    progress("loading the trained model", None, None)
    try:
        # Not by `load_base`: our own weights have no tokenizer beside them, and their seal was checked.
        tuned, _ = build(learned, load_options(spec), loaded.device, loaded.precision)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise MoltingError(
            f"The base and the trained model do not fit into memory together on {loaded.device}.",
            remedy="Full fine-tuning is compared with both in memory: end what else uses it, or use the CPU.",
            reason="oom_host" if loaded.device == "cpu" else "oom_cuda",
        ) from error
    return Voices(tuned, base=loaded.model), AttachReport([], [])


def _progress(tell: Tell) -> Progress:
    def progress(phase: str, done: float | None = None, total: float | None = None) -> None:
        tell(calls.Progress(phase=phase, done=done or 0.0, total=total or 0.0))

    return progress
