"""The questions of an investigation in their order, answered from what was found. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from engine.checks.words import several
from engine.contract.calls import Losses, Step

from .conclude import FELL, MUCH, TROUBLED, Found, masking, numbers
from .questions import QUESTIONS


def steps(found: Found, files: str, base: str) -> Iterator[Step]:
    """All steps of an opened run. `files` and `base`: what was seen of them before it was opened."""
    yield _step("files", not found.seal, found.seal or files)
    weights = found.weights
    what = "B matrices are not zero" if found.spec.method.kind != "full" else "tensors differ from the base"
    yield _step("active", weights.active, "enabled, active, not merged" if weights.active else "disabled or merged")
    yield _step("nonzero", bool(weights.nonzero), f"{weights.nonzero} of {weights.total} {what}")
    yield _step("shift", found.strong, f"{numbers(found)}, over {found.shift.positions} positions")
    yield _recites(found)
    yield _prompt(found)
    yield _training(found)
    yield _merged(found)
    yield _step("base", None if not base else True, base or "the run records no fingerprint of its base")


def _step(id: str, good: bool | None, evidence: str) -> Step:
    outcome = "unknown" if good is None else "passed" if good else "failed"
    return Step(id=id, question=QUESTIONS[id], outcome=outcome, evidence=evidence)  # type: ignore[arg-type]


def _recites(found: Found) -> Step:
    said, loss = found.recital, found.row_loss
    parts = []
    if loss.base is not None and loss.adapter is not None:
        parts.append(f"{_pair('loss on trained rows', loss)}")
    if found.heldout.base is not None and found.heldout.adapter is not None:
        parts.append(_pair(f"on {several(found.heldout_rows, 'held-out row')}", found.heldout))
    if said:
        back = f"{said.tuned:.0%} of {said.asked} trained answers come back (base {said.base:.0%})"
        # What the outcome rests on stands first: nothing that comes back beside a tick would read as a mistake.
        parts = [back, *parts] if found.recites else [*parts, f"word for word, {back}"]
    if not parts:
        return _step("recites", None, "the rows of this run cannot be read any more")
    return _step("recites", found.recites or _fell(loss), "; ".join(parts))


def _fell(loss: Losses) -> bool | None:
    """Whether the loss on trained rows fell; None where it fell too little to say that they are known."""
    if loss.base is None or loss.adapter is None or loss.adapter >= loss.base * FELL:
        return False
    return True if loss.adapter < loss.base * MUCH else None


def _pair(what: str, loss: Losses) -> str:
    return f"{what}: base {loss.base:.3f}, adapter {loss.adapter:.3f}"


def _prompt(found: Found) -> Step:
    use = found.use
    if not use.differs:
        return _step("prompt", True, "the same, and greedy")
    parts = [", ".join(use.differs)]
    if use.recital and found.recital:
        parts.append(f"{use.recital.tuned:.0%} of the trained answers come back instead of {found.recital.tuned:.0%}")
    if use.shift:
        parts.append(f"KL {use.shift.kl:.3g} nats instead of {found.shift.kl:.3g}")
    measured = use.shift is not None or (use.recital is not None and found.recital is not None)
    return _step("prompt", (not masking(found)) if measured else None, "; ".join(parts))


def _training(found: Found) -> Step:
    history, training, method = found.history, found.spec.training, found.spec.method
    if not history.metrics:
        return _step("training", False if found.untrained else None, "no step is recorded")
    parts = [f"{history.made} of {history.planned} steps", f"highest rate {max(m.lr for m in history.metrics):.2g}"]
    if method.kind != "full":
        parts.append(f"rank {method.rank}")
    if losses := history.losses:
        mean = sum(losses) / len(losses)
        parts.append(f"loss {losses[0]:.3f} at first, {losses[-1]:.3f} at last, {mean:.3f} on average")
    trouble = [finding.id for finding in found.findings if finding.id in TROUBLED]
    planned = f" (planned {training.learning_rate:.2g})" if training.learning_rate != "auto" else ""
    return _step("training", not trouble, ", ".join(parts) + planned + (f": {', '.join(trouble)}" if trouble else ""))


def _merged(found: Found) -> Step:
    merged = found.merged
    if merged is None:
        said = "full fine-tuning has nothing to merge" if found.spec.method.kind == "full" else "not measured"
        return Step(id="merged", question=QUESTIONS["merged"], outcome="skipped", evidence=said)
    evidence = (
        f"KL {merged.lost:.3g} nats from the adapter to the merged weights, {merged.own:.3g} to the base; "
        f"{merged.flip_rate:.1%} of top tokens differ over {merged.positions} positions"
    )
    return _step("merged", merged.lost <= merged.own / 2, evidence)
