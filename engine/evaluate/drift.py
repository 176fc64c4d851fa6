"""How far a run has drifted: held-out loss, KL from the base on neutral questions, and how varied its answers are."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from engine.checks.words import plain
from engine.contract import calls
from engine.contract.errors import MoltingError
from engine.contract.generations import Measures
from engine.contract.spec import Generation

if TYPE_CHECKING:
    from engine.infer.generate import Generated
    from engine.infer.session import Session

Tell = Callable[[calls.Line], None]
SAMPLES = 2  # answers to each neutral question
WARMTH = 0.8
TOKENS = 48  # of an answer
WORDS = 24  # of an answer that are counted: long answers repeat more, and length is not what is asked for


def distinct_2(answers: Sequence[str], words: int = WORDS) -> float:
    """Share of pairs of neighbouring words that are no repeats, over the first `words` of all answers; 0 where none.

    Distinct-n as in Li et al. 2016 (arXiv:1510.03055), over a fixed number of words an answer.
    """
    pairs: list[tuple[str, str]] = []
    for answer in answers:
        spoken = plain(answer).split()[:words]
        pairs += pairwise(spoken)
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def measure(session: Session, adapter: str, questions: Sequence[str], tell: Tell) -> Measures:
    """What the ledger says of the run. The same questions, seed and base give measures that compare."""
    prompts = session.prompts(questions)
    warm = Generation(max_new_tokens=TOKENS, temperature=WARMTH, top_p=1.0, seed=0)
    greedy = Generation(max_new_tokens=TOKENS)
    spoken = [answers(session, prompts, options(warm, sample), tell) for sample in range(SAMPLES)]
    texts = [session.encoder.tokenizer.decode(each.ids) for sample in spoken for each in sample]
    tell(calls.Progress(phase="asking the base"))
    base = answers(session, prompts, greedy, tell, base=True)
    kl, positions = _shift(session, prompts, base, tell)
    loss, rows = _heldout(session, tell)
    return Measures(
        adapter=adapter,
        instrument=instrument(questions, session.spec.data.system, session.spec.model.fingerprint),
        kl=kl,
        distinct2=distinct_2(texts),
        heldout_loss=loss,
        heldout_rows=rows,
        questions=len(questions),
        positions=positions,
        t=time.time(),
    )


def options(warm: Generation, sample: int) -> Generation:
    """The settings of one sample: each has a seed of its own."""
    return msgspec.structs.replace(warm, seed=warm.seed + sample)


def instrument(questions: Sequence[str], system: str, base: str) -> str:
    """What measures must share to be compared: questions, system prompt, base and how answers are drawn."""
    how = repr((list(questions), system, base, SAMPLES, WARMTH, TOKENS, WORDS))
    return hashlib.sha256(how.encode()).hexdigest()[:16]


def answers(
    session: Session, prompts: Sequence[Sequence[int]], options: Generation, tell: Tell, *, base: bool = False
) -> list[Generated]:
    """One voice on every prompt (token ids), some at a time."""
    from engine.infer.generate import generate
    from engine.infer.voices import batches

    found: dict[int, Generated] = {}
    with session.voices.as_base() if base else session.voices.as_tuned() as model:
        for part in batches([len(prompt) + options.max_new_tokens for prompt in prompts]):
            some = [prompts[index] for index in part]
            found |= zip(part, generate(model, some, options=options, **session.stops), strict=True)
            tell(calls.Progress(phase="answering", done=len(found), total=len(prompts), unit="questions"))
    return [found[index] for index in range(len(prompts))]


def _shift(
    session: Session, prompts: Sequence[Sequence[int]], base: Sequence[Generated], tell: Tell
) -> tuple[float, int]:
    """Mean KL(base || tuned) over the tokens of the base's own answers, and how many they are.

    The base always answers alike, so every generation is asked at the very same places. The prompt does not count: what
    a model expects a user to say is no sign of drift.
    """
    from engine.infer.effect import divergence, log_probabilities, states

    voices, nats, positions = session.voices, 0.0, 0
    for done, (prompt, answer) in enumerate(zip(prompts, base, strict=True)):
        tell(calls.Progress(phase="comparing with the base", done=done, total=len(prompts), unit="questions"))
        ids = [*prompt, *answer.ids]
        # The token at a place is predicted from the state before it.
        p, q = (
            log_probabilities(voice, states(voice, ids)[len(prompt) - 1 : -1])
            for voice in (voices.as_base, voices.as_tuned)
        )
        nats += float(divergence(p, q)[0].sum())
        positions += len(answer.ids)
    return (nats / positions if positions else 0.0), positions


def _heldout(session: Session, tell: Tell) -> tuple[float | None, int]:
    """Answer loss of the run on its held-out rows; None where there are none."""
    from engine.infer.loss import answer_loss
    from engine.train.learn import open_rows

    try:
        rows = open_rows(session.spec, session.encoder).heldout
    except MoltingError as error:
        tell(calls.Note(text=f"The loss on held-out rows is not known: {error.message}"))
        return None, 0
    tell(calls.Progress(phase="held-out loss"))
    with session.voices.as_tuned() as model:
        loss, _ = answer_loss(model, rows)
    return loss, len(rows)
