"""The proof of a merge: the files as they were written, against the adapter on its base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract import calls, outputs
from engine.contract.spec import Generation
from engine.data.conversation import BadRow, Turn
from engine.data.encode import Encoder
from engine.infer.effect import measure_shift
from engine.infer.prove import probes_of
from engine.infer.voices import Voices, generate_both
from engine.models.adapters import attach_adapter
from engine.models.build import LoadOptions
from engine.models.load import load_base

if TYPE_CHECKING:
    from .merge import Job, Tell

MOST_KL = 0.02
# Rounding to bf16 turns near-ties over: measured 3 % of the tokens of SmolLM2-135M at a KL of 0.003, 6 % of a tiny
# random model at 0.0006. The KL is the stricter judge; this one sees what changes few tokens, but surely.
LEAST_AGREEMENT = 0.9
MOST_LOST = 0.5  # of the adapter's own effect, as `why` has it
TOKENS = 64


def prove(job: Job, encoder: Encoder, tell: Tell) -> outputs.MergeProof:
    """Measure KL(adapter || merged) and how far the greedy answers agree, on the run's probe questions."""
    probes, _ = probes_of(job.spec)
    prompts = []
    for question in probes:
        try:
            prompts.append(encoder.prompt_ids([Turn("user", question)]))
        except BadRow:
            continue
    tell(calls.Progress(phase="loading what was written"))
    merged = load_base(job.staging, LoadOptions(precision=job.options.precision)).model
    base = load_base(job.folder, job.options).model
    tuned, _ = attach_adapter(base, job.learned)
    pair = Voices(merged, base=tuned)

    def advance(phase: str, total: int):  # type: ignore[no-untyped-def]
        return lambda done: tell(calls.Progress(phase=phase, done=done, total=total, unit="probes"))

    greedy = Generation(max_new_tokens=min(TOKENS, job.spec.generation.max_new_tokens))
    tell(calls.Progress(phase="answering", total=len(prompts), unit="probes"))
    with_adapter, with_merged, _ = generate_both(
        pair,
        prompts,
        options=greedy,
        stop_ids=encoder.stop_ids,
        pad_id=encoder.stop_ids[0],
        mode="two-pass",
        advance=advance("answering", len(prompts)),
    )
    spoken = [[*prompt, *made.ids] for prompt, made in zip(prompts, with_adapter, strict=True)]
    shift = measure_shift(pair, spoken, advance("comparing", len(prompts)))
    own = measure_shift(Voices(tuned), spoken, advance("comparing with the base", len(prompts)))
    identical = sum(one.ids == other.ids for one, other in zip(with_adapter, with_merged, strict=True))
    return judged(
        kl=max(0.0, shift.kl),
        agreement=1.0 - shift.flip_rate,
        effect=max(0.0, own.kl),
        identical=identical,
        probes=len(prompts),
        positions=shift.positions,
    )


def judged(
    *, kl: float, agreement: float, effect: float, identical: int, probes: int, positions: int
) -> outputs.MergeProof:
    """The verdict. `effect` is the adapter's own KL from its base: a merge that loses half of it has lost it."""
    numbers = (
        f"KL {kl:.2g} nats from the adapter, {agreement:.1%} of {positions} greedy tokens agree, {identical} of "
        f"{probes} answers are identical; the adapter itself is {effect:.2g} nats from its base"
    )
    limits = f"allowed are {MOST_KL:g} nats, {LEAST_AGREEMENT:.0%} and half of the adapter's own effect"
    passed = kl <= MOST_KL and agreement >= LEAST_AGREEMENT and kl <= MOST_LOST * effect
    passed = passed or (kl == 0.0 and agreement == 1.0)
    sentence = f"The merged model answers as the adapter does: {numbers}." if passed else f"{numbers} ({limits})."
    return outputs.MergeProof(
        passed=passed,
        sentence=sentence,
        kl=kl,
        agreement=agreement,
        effect=effect,
        identical=identical,
        probes=probes,
        positions=positions,
    )
