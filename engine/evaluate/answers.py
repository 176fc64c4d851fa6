"""The verb `answers`: the questions of a rubric put to a run, greedily and in seeded samples, frozen into a sheet."""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.contract import calls, durable, rubric, sheets
from engine.contract.rubric import Rubric
from engine.contract.rundir import RunDir
from engine.contract.sheets import Decoding, Header, Item, SheetWriter, Voice
from engine.contract.spec import Generation
from engine.contract.verdict import Answered, AnswersRequest

if TYPE_CHECKING:
    from engine.infer.session import Session

Tell = Callable[[calls.Line], None]
WARMTH = 0.7  # temperature of samples where the run's own settings are greedy


def answers(request: AnswersRequest, tell: Tell) -> Answered:
    """Open the run and make the sheet. MoltingError for a rubric or a run that cannot be used."""
    by = rubric.load(Path(request.rubric))  # before the model, which takes seconds
    tell(calls.Progress(phase="importing"))
    from engine.infer.session import open_session

    session = open_session(RunDir(Path(request.run)), Path(request.models), tell, checkpoint=request.checkpoint)
    return make_sheet(session, by, request, tell)


def make_sheet(session: Session, by: Rubric, request: AnswersRequest, tell: Tell) -> Answered:
    """Ask every question of `by` and freeze the answers. The sheet counts only once it is sealed.

    Sample 0 is greedy; sample k is drawn with the seed of the request plus k.
    """
    began = time.monotonic()
    greedy = msgspec.structs.replace(session.spec.generation, temperature=0.0, seed=request.seed)
    warm = msgspec.structs.replace(
        greedy, temperature=request.temperature or session.spec.generation.temperature or WARMTH
    )
    header = _header(session, by, request, warm if request.samples else greedy)
    number, cut = 0, 0
    with SheetWriter(session.run, header) as writer:
        for sample in range(request.samples + 1):
            options = msgspec.structs.replace(warm, seed=request.seed + sample) if sample else greedy
            for item in _asked(session, by, request, options, sample, tell):
                number += 1
                writer.add(msgspec.structs.replace(item, id=f"i{number}"))
                cut += item.stop == "cap"
        writer.seal()
    return Answered(
        run=session.run.id,
        sheet=header.name,
        path=str(writer.path),
        items=number,
        cut=cut,
        seconds=time.monotonic() - began,
        warnings=header.notes,
    )


def _asked(
    session: Session, by: Rubric, request: AnswersRequest, options: Generation, sample: int, tell: Tell
) -> list[Item]:
    """Both voices on all questions. The base is asked too where it is not kept: a batch has one shape, always."""
    questions = [question.text for question in by.questions]
    pairs, _, _ = session.answer(questions, session.prompts(questions), options, tell)
    tuned: Voice = "checkpoint" if request.checkpoint is not None else "adapter"
    made = []
    for question, pair in zip(by.questions, pairs, strict=True):
        spoken: list[tuple[Voice, calls.Answer]] = [("base", pair.base)] if request.base else []
        for voice, said in [*spoken, (tuned, pair.adapter)]:
            made.append(
                Item(
                    id="",
                    question_id=question.id,
                    question=question.text,
                    voice=voice,
                    answer=said.text,
                    sample=sample,
                    seed=options.seed if sample else None,
                    tokens=said.tokens,
                    stop=said.stop,
                )
            )
    return made


def _header(session: Session, by: Rubric, request: AnswersRequest, options: Generation) -> Header:
    from engine.infer.session import trained_weights

    learned, _ = trained_weights(session.run, request.checkpoint)
    files = {name: entry.sha256 for name, entry in durable.read_manifest(learned).files.items()}
    template = session.encoder.template
    system = session.spec.data.system
    return Header(
        name=sheets.new_name(session.run, by),
        run=session.run.id,
        rubric=by,
        t=time.time(),
        adapter=sheets.weights_hash(files),
        base=session.spec.model.fingerprint,
        model=session.spec.model.base,
        template=_sha256(template.source) if template else "",
        system=system,
        system_hash=_sha256(system),
        decoding=Decoding(
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=options.top_k,
            repetition_penalty=options.repetition_penalty,
            seed=request.seed,
            samples=request.samples,
        ),
        checkpoint=request.checkpoint,
        versions={name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")},
        notes=list(session.warnings),
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
