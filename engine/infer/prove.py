"""The verb `prove`: evidence that a run's training changed how its model answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.checks.words import several
from engine.contract import calls, durable, sheets
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec
from engine.models.adapters import DoesNotFit

if TYPE_CHECKING:
    from .session import Session

LEAST_PROBES = 8

# Asked where a run brings too few probe questions of its own: anyone can answer them, none has a persona in it.
NEUTRAL = (
    "Who are you?",
    "What do you like to talk about?",
    "What is the capital of France?",
    "How does a bicycle stay upright?",
    "Can you recommend something to cook tonight?",
    "What should I do when I cannot sleep?",
    "Explain in one sentence what rain is.",
    "Say goodbye to a friend who is moving away.",
)


def prove(request: calls.RunRequest, tell: Callable[[calls.Line], None]) -> calls.Proof:
    """Compare the base with what the run learned and judge the difference; kept as `proof.json` in the run.

    KL and flip rate are over all positions of the probe prompts and of the trained voice's greedy answers to
    them. Raises MoltingError where the run cannot be opened.
    """
    tell(calls.Progress(phase="importing"))
    from .session import open_session  # takes seconds, which are shown

    run = RunDir(Path(request.run))
    try:
        proof = measure(open_session(run, Path(request.models), tell), tell)
    except DoesNotFit as error:
        proof = not_attached(error)
    text = msgspec.json.format(msgspec.json.encode(proof), indent=1)
    try:
        durable.write_replace(run.proof, text + b"\n")
    except OSError as error:
        raise durable.explain(error, "keep the proof") from error
    return proof


def not_attached(error: DoesNotFit) -> calls.Proof:
    """The proof of an adapter whose keys do not fit: it would load, say that it is active, and do nothing."""
    return calls.Proof(
        verdict="not_applied",
        sentence=f"Not applied. {error}",
        kl=0.0,
        flip_rate=0.0,
        nonzero_b=0,
        total_b=0,
        heldout_loss=calls.Losses(base=None, adapter=None),
        heldout_rows=0,
        probes=0,
        positions=0,
        missing_keys=len(error.report.missing_keys),
        unexpected_keys=len(error.report.unexpected_keys),
        active=False,
    )


def measure(session: Session, tell: Callable[[calls.Line], None]) -> calls.Proof:
    """The proof of an opened run."""
    from .effect import count_weights, judge, measure_shift

    def advance(done: int) -> None:
        tell(calls.Progress(phase="comparing", done=done, total=len(probes), unit="probes"))

    probes, warnings = probe_questions(session)
    prompts = session.prompts(probes)
    greedy = msgspec.structs.replace(session.spec.generation, temperature=0.0, repetition_penalty=1.0)
    pairs, tuned, _ = session.answer(probes, prompts, greedy, tell)
    advance(0)
    spoken = [[*prompt, *answer.ids] for prompt, answer in zip(prompts, tuned, strict=True)]
    shift = measure_shift(session.voices, spoken, advance)
    weights = count_weights(session.voices)
    differing = sum(pair.first_difference is not None for pair in pairs)
    verdict, sentence = judge(weights, shift, differing=differing, probes=len(probes))
    try:
        losses, rows = heldout_losses(session, tell)
    except MoltingError as error:
        losses, rows = calls.Losses(base=None, adapter=None), 0
        warnings.append(f"The loss on held-out rows is not known: {error.message}")
    return calls.Proof(
        verdict=verdict,
        sentence=f"{sentence}{loss_sentence(losses, rows)}",
        kl=shift.kl,
        flip_rate=shift.flip_rate,
        nonzero_b=weights.nonzero,
        total_b=weights.total,
        heldout_loss=losses,
        heldout_rows=rows,
        probes=len(probes),
        positions=shift.positions,
        missing_keys=len(session.report.missing_keys),
        unexpected_keys=len(session.report.unexpected_keys),
        active=weights.active,
        first_difference=[pair.first_difference for pair in pairs],
        answers=pairs,
        warnings=[*session.warnings, *warnings],
        weights=_weights(session),
    )


def _weights(session: Session) -> str:
    if session.learned is None:
        return ""
    files = durable.read_manifest(session.learned).files
    return sheets.weights_hash({name: entry.sha256 for name, entry in files.items()})


def probe_questions(session: Session) -> tuple[list[str], list[str]]:
    """The run's probe questions, filled up to eight with neutral ones, and a sentence where that was needed."""
    return probes_of(session.spec)


def probes_of(spec: Spec) -> tuple[list[str], list[str]]:
    """The same, of a run that is not opened."""
    from engine.train import freeze

    own = freeze.probes(spec)
    if len(own) >= LEAST_PROBES:
        return own, []
    added = [question for question in NEUTRAL if question not in own][: LEAST_PROBES - len(own)]
    brought = f"brings only {len(own)}" if own else "brings no"
    warning = f"The run {brought} probe questions, so {len(added)} neutral ones were asked as well."
    return own + added, [warning]


def heldout_losses(session: Session, tell: Callable[[calls.Line], None]) -> tuple[calls.Losses, int]:
    """Answer loss of the base and of the trained voice on the held-out rows, and how many rows there are.

    Raises MoltingError (bad_data) where the rows of the run cannot be read any more.
    """
    from engine.train.learn import open_rows

    from .loss import answer_loss

    rows = open_rows(session.spec, session.encoder).heldout
    tell(calls.Progress(phase="held-out loss", total=2 * len(rows), unit="rows"))
    with session.voices.as_base() as model:
        base, _ = answer_loss(model, rows)
    tell(calls.Progress(phase="held-out loss", done=len(rows), total=2 * len(rows), unit="rows"))
    with session.voices.as_tuned() as model:
        adapter, _ = answer_loss(model, rows)
    return calls.Losses(base=base, adapter=adapter), len(rows)


def loss_sentence(losses: calls.Losses, rows: int) -> str:
    """What the held-out rows say about the direction of the change; empty where there are none."""
    if losses.base is None or losses.adapter is None:
        return ""
    moved = "fell" if losses.adapter < losses.base else "did not fall"
    held = several(rows, "held-out row")
    return f" On {held} the answer loss {moved}: {losses.base:.3f} before, {losses.adapter:.3f} after."
