"""A run opened to be talked to: its base model, what it learned, and the encoder it was trained with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.contract import calls, durable, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Generation, Spec
from engine.data.conversation import BadRow, Turn
from engine.data.encode import Encoder
from engine.models import fetch
from engine.models.adapters import AttachReport
from engine.models.files import Progress
from engine.models.fingerprint import fingerprint
from engine.models.load import LoadOptions

from .generate import Generated
from .voices import Mode, Voices, first_difference, generate_both
from .warm import Warm, voices_of

Tell = Callable[[calls.Line], None]

kept: ContextVar[Warm | None] = ContextVar("kept", default=None)
"""The models that stay in memory between sessions: set in the host, where a process ends with its session None."""


@dataclass(frozen=True)
class Session:
    """What `ask` and `prove` work with. Paths in `spec` are absolute; `warnings` are sentences about what is odd."""

    run: RunDir
    spec: Spec
    encoder: Encoder
    voices: Voices
    report: AttachReport
    warnings: list[str] = field(default_factory=list)
    learned: Path | None = None  # the folder of the weights

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


def open_session(
    run: RunDir, models: Path, tell: Tell, *, learned: Path | None = None, checkpoint: int | None = None
) -> Session:
    """Load the base of `run` as it was trained on and attach what was learned.

    `learned`: weights chosen by the caller, who has judged them, instead of the run's newest sealed ones.
    `checkpoint`: those of the checkpoint at that step. What is warm is not loaded again.
    Raises MoltingError where nothing was saved yet, or the base is not the one that was trained on.
    """
    warm = kept.get() or Warm()
    spec = summary.load_spec(run)
    learned, warnings = (learned, []) if learned else trained_weights(run, checkpoint, warm.knows)
    folder, notes = base_folder(spec, models, tell)
    progress = _progress(tell)
    full = spec.method.kind == "full"
    base = warm.base(folder, load_options(spec), models / ".quantized", progress, use="full" if full else "")
    if full:
        tuned = warm.whole(learned, load_options(spec), base.loaded, progress)
        voices, report = Voices(tuned.model, base=base.model), AttachReport([], [])
    else:
        name, report = warm.adapter(base, learned)
        voices = voices_of(base, name)
    encoder = warm.encoder(spec, folder)
    return Session(run, spec, encoder, voices, report, [*notes, *warnings, *base.loaded.warnings], learned)


def base_folder(spec: Spec, models: Path, tell: Tell) -> tuple[Path, list[str]]:
    """The folder of the model that a run was trained on, fetched if need be, and notes worth showing.

    Raises MoltingError (bad_model) where it is not the same model any more.
    """
    progress = _progress(tell)
    reference = fetch.resolve(spec.model.base, revision=spec.model.revision, models_dir=models, progress=progress)
    folder = fetch.fetch(reference, models_dir=models, progress=progress)
    _require_same_base(spec, folder)
    return folder, [reference.note] if reference.note else []


def trained_weights(
    run: RunDir, checkpoint: int | None = None, known: Callable[[Path], bool] = lambda path: False
) -> tuple[Path, list[str]]:
    """The final weights of `run`, else those of its newest valid checkpoint, and sentences that say so.

    With `checkpoint`, those of that step. Weights that are `known` need no hashing. Raises MoltingError where there
    are none.
    """
    if checkpoint is not None:
        return _checkpoint(run, checkpoint), []
    refused = []
    if run.adapter.exists():
        refused = durable.check_seal(run.adapter, hashes=not _is_known(run.adapter, known))
        if not refused:
            return run.adapter, []
    for step in run.checkpoint_steps():
        problems = durable.check_seal(run.checkpoint(step))
        if not problems:
            why = "are damaged" if run.adapter.exists() else "are not there yet"
            said = f"The final weights of {run.id} {why}: those of its checkpoint at step {step} are used."
            return run.checkpoint(step), [*refused[:1], said]
        refused.append(problems[0])
    if summary.summarise(run).imported:
        raise MoltingError(
            f"{run.id} was imported: nothing was trained here, so it has no weights that could answer.",
            remedy="Its grades and curves can be looked at and compared: `molting compare`, `molting report`.",
            code=2,
        )
    raise MoltingError(
        f"{run.id} has no trained weights that can be used." + (f" {refused[0]}" if refused else ""),
        remedy=f"`molting resume {run.id}` trains them; `molting attach {run.id}` shows how it stands.",
    )


def _checkpoint(run: RunDir, step: int) -> Path:
    path = run.checkpoint(step)
    problems = durable.check_seal(path) if path.exists() else [f"{run.id} has no checkpoint at step {step}."]
    if problems:
        there = ", ".join(str(each) for each in sorted(run.checkpoint_steps()))
        remedy = f"Its checkpoints are at steps {there}." if there else "It has no checkpoints."
        raise MoltingError(problems[0], remedy=remedy, code=2)
    return path


def _is_known(path: Path, known: Callable[[Path], bool]) -> bool:
    try:
        return known(path)
    except OSError:  # no manifest, which the seal will say better
        return False


def load_options(spec: Spec, *, quantized: bool = True) -> LoadOptions:
    """How the base of a run is loaded, the same for training and for answers. Merging wants it not `quantized`."""
    rope = spec.model.rope
    return LoadOptions(
        precision=spec.model.precision,
        quantization="nf4" if quantized and spec.method.kind == "qlora" else "none",
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


def _progress(tell: Tell) -> Progress:
    def progress(phase: str, done: float | None = None, total: float | None = None) -> None:
        tell(calls.Progress(phase=phase, done=done or 0.0, total=total or 0.0))

    return progress
