"""The investigation of an opened run: measure in order, then conclude."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from engine.checks import after
from engine.checks.recall import by_question, taught
from engine.contract import calls
from engine.contract.errors import MoltingError
from engine.contract.spec import Generation
from engine.data.conversation import Conversation, Turn

from .conclude import Found, InUse, conclude
from .effect import count_weights
from .evidence import (
    HELDOUT_ROWS,
    Exercise,
    Recital,
    Use,
    encoded,
    encoder_in_use,
    exercises,
    losses,
    measure_merged,
    prompt,
    recite,
    shift_behind,
)
from .prove import probe_questions
from .questions import AGAINST
from .session import Session
from .why_steps import steps

PROBES = 12
MERGED_PROBES = 2

Tell = Callable[[calls.Line], None]


def investigate(
    session: Session,
    use: Use,
    tell: Tell,
    *,
    known: after.Trained | None = None,
    against: str = "",
    seal: str = "",
    files: str = "",
    base: str = "",
) -> calls.Investigation:
    """Why an opened run changes nothing, or that it does. The session is left as it was.

    `use`: how the model is really asked. `known`: the record of the run. `against`: the run that it was compared
    with, where its weights are the same. `seal`, `files`, `base`: what was seen before the run was opened.
    """
    record = known or after.gather(session.run)
    warnings = list(session.warnings)
    rows = _rows(session, warnings)
    asked, notes = probe_questions(session)
    found = _measure(session, use, tell, record, rows, asked[:PROBES], warnings)
    found = replace(found, seal=seal, itself=_itself(session, found, against))
    conclusion = conclude(found)
    listed = list(steps(found, files or _files(session), base))
    if against:
        said = f"the weights are those of {against}"
        listed.append(calls.Step(id="against", question=AGAINST, outcome="failed", evidence=said))
    return calls.Investigation(
        cause=conclusion.cause,
        sentence=conclusion.sentence,
        remedy=conclusion.remedy,
        steps=listed,
        findings=[*found.findings, *_merging(found)],
        warnings=[*warnings, *notes],
    )


def _measure(
    session: Session,
    use: Use,
    tell: Tell,
    record: after.Trained,
    rows: Sequence[Conversation],
    probes: Sequence[str],
    warnings: list[str],
) -> Found:
    trained_with = _trained_with(session, rows)
    weights = count_weights(session.voices)
    measured = shift_behind(session, session.encoder, probes, trained_with, tell)
    if measured is None:
        raise MoltingError("The chat template refuses every probe question.", remedy="Look at model.chat_template.")
    shift, differing = measured
    tasks = exercises(rows)
    plain = Generation(max_new_tokens=512)
    recital = recite(session, tasks, plain, tell)
    some = encoded(session.encoder, rows)
    heldout = _heldout(session, warnings)
    tell(calls.Progress(phase="losses", total=len(some) + len(heldout), unit="rows"))
    return Found(
        spec=session.spec,
        weights=weights,
        shift=shift,
        differing=differing,
        probes=len(probes),
        recital=recital,
        row_loss=losses(session, some),
        heldout=losses(session, heldout),
        heldout_rows=len(heldout),
        use=_in_use(session, use, trained_with, tasks, recital, probes, tell),
        merged=_merge(session, probes, trained_with) if weights.active and weights.nonzero else None,
        history=record.history,
        findings=after.findings(_with_answers(record, recital, rows)),
    )


def _rows(session: Session, warnings: list[str]) -> list[Conversation]:
    try:
        return taught(session.spec)
    except (MoltingError, OSError) as error:
        warnings.append(f"The rows of the run cannot be read any more: {getattr(error, 'message', error)}")
        return []


def _heldout(session: Session, warnings: list[str]) -> list[Any]:
    from engine.train.learn import open_rows

    try:
        return list(open_rows(session.spec, session.encoder).heldout)[:HELDOUT_ROWS]
    except (MoltingError, OSError) as error:
        warnings.append(f"The loss on held-out rows is not known: {getattr(error, 'message', error)}")
        return []


def _trained_with(session: Session, rows: Sequence[Conversation]) -> str:
    """The system prompt that most rows were trained with: their own, else the spec's."""
    spoken = [
        row.turns[0].content if row.turns[0].role == "system" else session.encoder.system_prompt
        for row in rows
        if row.kind != "text"
    ]
    return Counter(spoken).most_common(1)[0][0] if spoken else session.encoder.system_prompt


def _in_use(
    session: Session,
    use: Use,
    trained_with: str,
    tasks: Sequence[Exercise],
    recital: Recital | None,
    probes: Sequence[str],
    tell: Tell,
) -> InUse:
    """What is different the way the model is really asked, and the effect that is left then."""
    own = session.encoder
    encoder = encoder_in_use(own, use)
    system = use.system if use.system is not None else own.system_prompt
    differs = []
    if _prompts(encoder, system) != _prompts(own, system):
        differs.append("another chat template")
    if system.strip() != trained_with.strip():
        differs.append(_system_words(system, trained_with))
    asks_otherwise = bool(differs)
    differs += _parameters(use.generation, own, tasks)
    if not differs:
        return InUse(())
    left = shift_behind(session, encoder, probes, system, tell) if asks_otherwise else None
    again = recite(session, tasks, use.generation, tell, encoder=encoder, system=system) if recital else None
    return InUse(differs, left[0] if left else None, left[1] if left else 0, again)


def _prompts(encoder: Any, system: str) -> list[int] | None:
    return prompt(encoder, [Turn("user", "Who are you?")], system)


def _system_words(system: str, trained_with: str) -> str:
    if not system:
        return f"asking without the system prompt of the training ({len(trained_with)} characters)"
    if not trained_with:
        return f"a system prompt ({len(system)} characters), though the rows were trained without one"
    return f"another system prompt ({len(system)} characters, trained with {len(trained_with)})"


def _parameters(generation: Generation, encoder: Any, tasks: Sequence[Exercise]) -> list[str]:
    """What of the generation can hide a trained answer."""
    said = []
    if generation.temperature > 0:
        said.append(f"temperature {generation.temperature:g}")
    if generation.repetition_penalty != 1.0:
        said.append(f"repetition penalty {generation.repetition_penalty:g}")
    lengths = sorted(len(encoder.tokenizer.encode(task.answer, add_special_tokens=False).ids) for task in tasks)
    if lengths and generation.max_new_tokens < lengths[len(lengths) // 2] / 2:
        said.append(f"a cap of {generation.max_new_tokens} tokens (trained answers have {lengths[len(lengths) // 2]})")
    return said


def _merge(session: Session, probes: Sequence[str], trained_with: str) -> Any:
    prompts = [prompt(session.encoder, [Turn("user", text)], trained_with) for text in probes[:MERGED_PROBES]]
    return measure_merged(session.voices, [ids for ids in prompts if ids])


def _itself(session: Session, found: Found, against: str) -> str:
    if against:
        return f"the weights are, bit for bit, those of {against}"
    voices, weights = session.voices, found.weights
    if voices.base is voices.tuned:
        return "base and trained voice are one and the same object in memory"
    if voices.base is not None and not weights.nonzero:
        return f"all {weights.total} tensors of the trained model equal the base's"
    return ""


def _files(session: Session) -> str:
    report = session.report
    return f"{len(report.missing_keys)} keys missing, {len(report.unexpected_keys)} unexpected"


def _with_answers(record: after.Trained, recital: Recital | None, rows: Sequence[Conversation]) -> after.Trained:
    if recital is None:
        return record
    return replace(record, answers=[*record.answers, *recital.said], trained=by_question(rows))


def _merging(found: Found) -> list[calls.Finding]:
    merged = found.merged
    if merged is None or merged.lost <= merged.own / 2:
        return []
    return [
        calls.Finding(
            id="merging-loses",
            severity="warning",
            message="Merged into the base's weights, this adapter loses more than half of its effect.",
            evidence=f"KL {merged.lost:.3g} nats away from the adapter, of {merged.own:.3g} to the base",
            why="Its changes are smaller than the rounding of these weights.",
            remedy="Use the adapter beside the base, or merge into a base of higher precision.",
        )
    ]
