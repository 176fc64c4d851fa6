"""From measurements to the most likely cause. Pure: the order in which causes are excluded, and their sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.checks.history import History
from engine.checks.words import several
from engine.contract.calls import Cause, Finding, Losses
from engine.contract.spec import Spec
from engine.train.plan import learning_rate

from .effect import Shift, Weights, judge
from .evidence import Merged, Recital

RECITES = 0.5  # share of the trained answers' four-word runs that come back
NOTICEABLE = 0.2  # more of them than the base says
BY_HEART = 0.3  # nats a token on trained rows
FELL = 0.98  # of the base's loss; above this it did not fall
MUCH = 0.8
WORSE = 1.01
FEW_STEPS = 60  # below this, personas in the files this was learned from had not taken
WEAK_RATE = 5.0  # times lower than the rate that fits

# Of these findings, training itself is the reason that nothing changed.
UNTRAINED = frozenset({"no-steps", "loss-zero", "gradient-zero", "rate-zero"})
TROUBLED = UNTRAINED | {"ended-early", "rate-not-applied", "loss-not-falling", "loss-diverged", "not-finite"}


@dataclass(frozen=True)
class InUse:
    """How the model is really asked, where that differs from its training, and what is left of the effect then."""

    differs: Sequence[str]
    shift: Shift | None = None
    differing: int = 0
    recital: Recital | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """All measurements of an opened run. None where something could not be measured.

    `itself` says why both sides of the comparison are one model; `seal` what is wrong with the weights' seal.
    """

    spec: Spec
    weights: Weights
    shift: Shift
    differing: int  # of the probes' greedy answers
    probes: int
    itself: str = ""
    seal: str = ""
    recital: Recital | None = None
    row_loss: Losses = field(default_factory=lambda: Losses(base=None, adapter=None))
    heldout: Losses = field(default_factory=lambda: Losses(base=None, adapter=None))
    heldout_rows: int = 0
    use: InUse = InUse(())
    merged: Merged | None = None
    history: History = field(default_factory=History)
    findings: Sequence[Finding] = ()

    @property
    def strong(self) -> bool:
        """Whether answers to questions that were not trained change, by the thresholds of the proof."""
        return judge(self.weights, self.shift, differing=self.differing, probes=self.probes)[0] == "effective"

    @property
    def recites(self) -> bool:
        """Whether it knows its own rows: it repeats them, or hardly anything of them surprises it."""
        loss = self.row_loss
        by_heart = loss.base is not None and loss.adapter is not None and loss.adapter < min(BY_HEART, loss.base / 2)
        said = self.recital
        return by_heart or (said is not None and said.tuned >= max(RECITES, said.base + NOTICEABLE))

    @property
    def untrained(self) -> Finding | None:
        """The finding by which not one weight can have moved."""
        every = (finding for finding in self.findings if finding.id in UNTRAINED and finding.severity == "error")
        return next(every, None)


@dataclass(frozen=True)
class Conclusion:
    """The cause, one sentence with its number, and the next thing to do."""

    cause: Cause
    sentence: str
    remedy: str


def conclude(found: Found) -> Conclusion:
    """The first cause that the measurements do not exclude."""
    for rule in (_same_model, _not_applied, _misdirected, _masked, _too_weak, _not_generalising, _damaged):
        conclusion = rule(found)
        if conclusion:
            return conclusion
    sentence = f"The adapter is applied and changes the answers: {numbers(found)}.{_heldout(found)}{_little(found)}"
    return Conclusion("effective", sentence, "`molting ask RUN QUESTION` puts both voices side by side; read them.")


def numbers(found: Found) -> str:
    """The shift on the probes in one phrase."""
    return (
        f"KL {found.shift.kl:.3g} nats, {found.shift.flip_rate:.1%} of top tokens changed, "
        f"{found.differing} of {found.probes} answers differ"
    )


def _same_model(found: Found) -> Conclusion | None:
    if not found.itself:
        return None
    remedy = "Compare the base with the adapter, as `molting ask` does, or two runs whose weights differ."
    return Conclusion("same_model", f"A model is compared with itself: {found.itself}.", remedy)


def _not_applied(found: Found) -> Conclusion | None:
    weights, untrained = found.weights, found.untrained
    if weights.active and weights.nonzero and found.shift.kl > 0.0:
        return None
    if untrained and not weights.nonzero:
        zero = f"{weights.nonzero} of {weights.total} B matrices are not zero"
        return Conclusion("not_trained", f"Not trained: {untrained.message} {zero}.", untrained.remedy)
    if not weights.active:
        sentence = "Not applied: the adapter is disabled, inactive, or merged into the base, so both voices are one."
        return Conclusion("not_applied", sentence, "Open the run anew; load the base as it was and the adapter on it.")
    if not weights.nonzero:
        sentence = f"Not applied: all {weights.total} B matrices are zero, as before the first step."
        return Conclusion("not_applied", sentence, "Load the weights that training saved, or train again.")
    sentence = f"Not applied: no probability changes at all (KL 0 over {found.shift.positions} positions)."
    return Conclusion("not_applied", sentence, "The layers it names are not used by this model: train again on it.")


def _misdirected(found: Found) -> Conclusion | None:
    """It changes much, and knows its own rows less than the base does."""
    base, tuned = found.row_loss.base, found.row_loss.adapter
    if base is None or tuned is None or not found.strong or found.recites or tuned <= base * WORSE:
        return None
    last = found.history.losses[-1] if found.history.losses else None
    sentence = f"Applied, but away from its own rows: their loss is {tuned:.2f}, the base has {base:.2f}"
    if last is not None and last < base:
        sentence += f", while the run's last loss was {last:.2f}: these are not the weights that this run trained."
        return Conclusion(
            "misdirected", sentence, "Find the weights of this run; another run's were put in their place."
        )
    remedy = "Train again with a third of the learning rate; look at the loss curve first."
    return Conclusion("misdirected", f"{sentence}: the training went wrong.", remedy)


def _masked(found: Found) -> Conclusion | None:
    left = masking(found)
    if not left or not (found.strong or found.recites):
        return None
    sentence = f"Masked by {' and '.join(found.use.differs)}: {left}."
    return Conclusion(
        "masked", sentence, "Ask as it was trained, or train as it will be asked (data.system, generation)."
    )


def masking(found: Found) -> str:
    """How much of the effect is gone the way the model is really asked; "" where it is still there."""
    use, said = found.use, found.recital
    if not use.differs:
        return ""
    if use.recital and said and said.tuned >= NOTICEABLE and use.recital.tuned < said.tuned / 2:
        return (
            f"asked as it was trained it gives back {said.tuned:.0%} of the trained answers, asked like this "
            f"{use.recital.tuned:.0%}"
        )
    if use.shift is None or not found.strong:
        return ""
    verdict, _ = judge(found.weights, use.shift, differing=use.differing, probes=found.probes)
    if verdict == "effective" and use.shift.kl > found.shift.kl / 10:
        return ""
    return (
        f"asked as it was trained the KL is {found.shift.kl:.3g} nats and {found.differing} of {found.probes} answers "
        f"differ, asked like this {use.shift.kl:.3g} nats and {use.differing}"
    )


def _too_weak(found: Found) -> Conclusion | None:
    if found.strong or found.recites:
        return None
    return Conclusion("too_weak", f"Applied but too weak: {numbers(found)}.", stronger(found.spec, found.history))


def stronger(spec: Spec, history: History) -> str:
    """What most likely makes the next run stronger: rate, then steps, then rank."""
    training, method, steps = spec.training, spec.method, history.made
    fits = learning_rate(history.start.parameters, method.kind) if history.start else None
    rate = training.learning_rate
    if fits and rate != "auto" and rate * WEAK_RATE <= fits:
        return f'The learning rate was {rate:g}; {fits:g} fits this model: set training.learning_rate = "auto".'
    if steps and steps < FEW_STEPS:
        if training.accumulation > 1:
            return f"It made only {steps} steps: set training.accumulation = 1 (it was {training.accumulation})."
        return f"It made only {steps} steps: raise training.epochs."
    if method.kind != "full" and method.rank < 8:
        return f"The rank was only {method.rank}: set method.rank = 16, and more epochs."
    return "More steps first (training.epochs), then a higher training.learning_rate, then method.rank."


def _not_generalising(found: Found) -> Conclusion | None:
    loss = found.heldout
    fell = loss.base is None or loss.adapter is None or loss.adapter < loss.base * FELL
    if not found.recites or (found.strong and fell):
        return None
    known = ""
    if found.recital:
        known = f"it gives back {found.recital.tuned:.0%} of {found.recital.asked} trained answers"
    if found.row_loss.adapter is not None and (not known or (found.recital and found.recital.tuned < RECITES)):
        known = f"its loss on trained rows is {found.row_loss.adapter:.2f}"
    new = f"on new questions it hardly differs from the base ({numbers(found)})" if not found.strong else ""
    if not fell:
        moved = f"{loss.base:.3f} before, {loss.adapter:.3f} after"
        held = f"on {several(found.heldout_rows, 'held-out row')} the loss did not fall: {moved}"
        new = f"{new}, and {held}" if new else held
    remedy = "More and more varied rows, fewer epochs, training.keep_best = true."
    return Conclusion("not_generalising", f"Learned but not generalising: {known}, but {new}.", remedy)


def _damaged(found: Found) -> Conclusion | None:
    if not found.seal:
        return None
    remedy = "Put the weights back as they were sealed, or train again."
    return Conclusion("damaged", f"Damaged: {found.seal}", remedy)


def _little(found: Found) -> str:
    """Changed is not learned: said where it knows little more of its own rows than the base does."""
    loss, said = found.row_loss, found.recital
    if loss.base is None or loss.adapter is None or found.recites or loss.adapter < loss.base * MUCH:
        return ""
    back = f" and {said.tuned:.0%} of the trained answers come back" if said else ""
    return f" But it learned little of its rows: their loss went from {loss.base:.3f} to {loss.adapter:.3f}{back}."


def _heldout(found: Found) -> str:
    loss = found.heldout
    if loss.base is None or loss.adapter is None:
        return ""
    moved = "fell" if loss.adapter < loss.base else "did not fall"
    held = several(found.heldout_rows, "held-out row")
    return f" On {held} the loss {moved}: {loss.base:.3f} before, {loss.adapter:.3f} after."
