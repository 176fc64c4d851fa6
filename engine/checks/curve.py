"""The checks of a learning curve. Pure: they see the steps, the evaluations and the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate

from engine.contract.calls import Change, Finding
from engine.contract.spec import Spec
from engine.train.plan import rate_share, warmup_steps

from .history import History
from .words import several

FEW = 10  # steps, below which a curve has no shape
HUGE_NORM = 100.0  # usual ones lie between 0.1 and 10
WORSE = 1.05  # of the best held-out loss

CurveCheck = Callable[[History, "Spec | None"], Iterator[Finding]]


def nothing_is_learned(run: History, spec: Spec | None) -> Iterator[Finding]:
    """Loss 0 with gradient 0: no row has a token to learn."""
    empty = [metric.step for metric in run.metrics if metric.loss == 0.0 and not metric.grad_norm]
    if empty:
        yield Finding(
            id="loss-zero",
            severity="error",
            message=f"{_steps(empty, run)} had loss 0 and gradient 0: nothing was learned there.",
            evidence=f"first at step {empty[0]}",
            why="A loss of exactly 0 is no success: no token of these rows was learned from.",
            remedy="`molting doctor SPEC` shows what is learned; rows longer than data.max_length lose their answers.",
        )


def gradient_is_zero(run: History, spec: Spec | None) -> Iterator[Finding]:
    flat = [metric.step for metric in run.metrics if metric.grad_norm == 0.0 and metric.loss != 0.0]
    if flat:
        yield Finding(
            id="gradient-zero",
            severity="error" if len(flat) == len(run.metrics) else "warning",
            message=f"{_steps(flat, run)} had a gradient of exactly 0: no weight moved.",
            evidence=f"first at step {flat[0]}",
            why="The loss is computed, but nothing that is trained has a part in it.",
            remedy="Look at method.target_modules: they must name layers that the model uses.",
        )


def not_a_number(run: History, spec: Spec | None) -> Iterator[Finding]:
    bad = [metric.step for metric in run.metrics if metric.loss is None or metric.grad_norm is None]
    if bad:
        yield Finding(
            id="not-finite",
            severity="error" if any(metric.loss is None for metric in run.metrics) else "warning",
            message=f"{_steps(bad, run)} had a loss or gradient that is not a finite number.",
            evidence=f"first at step {bad[0]}",
            remedy="A lower training.learning_rate, more warm-up, or precision bf16 instead of fp16.",
        )


def gradient_is_huge(run: History, spec: Spec | None) -> Iterator[Finding]:
    first = [metric for metric in run.metrics[:3] if metric.grad_norm is not None and metric.grad_norm > HUGE_NORM]
    if first:
        worst = max(first, key=lambda metric: metric.grad_norm or 0.0)
        loss = f", loss {worst.loss:.2f}" if worst.loss is not None else ""
        yield Finding(
            id="gradient-huge",
            severity="warning",
            message=f"The gradient norm was {worst.grad_norm:.0f} at step {worst.step}; usual ones lie below 10.",
            evidence=f"norm {worst.grad_norm:.1f}{loss}, {several(worst.learned, 'learned token')}",
            why="The text is far from anything the model knows (another template or language, broken rows), or the "
            "rows are so short that one of them rules the step.",
            remedy="Check the chat template and the rows; keep training.max_grad_norm at 1 and add warm-up.",
        )


def rate_is_applied(run: History, spec: Spec | None) -> Iterator[Finding]:
    """The rates of the log against the plan's: a library may have had its own schedule."""
    rates = {metric.step: metric.lr for metric in run.metrics}
    if not rates:
        return
    still = [step for step, rate in rates.items() if rate == 0.0]
    if len(still) > 0.1 * len(rates):
        yield Finding(
            id="rate-zero",
            severity="error" if len(still) == len(rates) else "warning",
            message=f"{_steps(still, run)} were made at a learning rate of 0: they changed nothing.",
            evidence=f"highest rate {max(rates.values()):.2g}",
            remedy='Set training.learning_rate = "auto" and training.warmup = 0.05.',
        )
        return
    if spec is None or not run.planned or spec.training.learning_rate == "auto":
        return
    peak, warmup = float(spec.training.learning_rate), warmup_steps(run.planned, spec.training.warmup)
    due = {step: peak * rate_share(step - 1, run.planned, warmup, spec.training.schedule) for step in rates}
    off = [step for step, rate in rates.items() if abs(rate - due[step]) > 0.1 * peak]
    if len(off) > 0.2 * len(rates):
        yield Finding(
            id="rate-not-applied",
            severity="warning",
            message=f"{_steps(off, run)} were made at another learning rate than planned.",
            evidence=f"step {off[0]}: {rates[off[0]]:.2g} instead of {due[off[0]]:.2g}; "
            f"highest {max(rates.values()):.2g}, planned {peak:.2g}",
            why="What was trained is not what the spec says.",
            remedy="Look at what set the rate; a resumed run keeps the plan it began with.",
        )


def shape_of_loss(run: History, spec: Spec | None) -> Iterator[Finding]:
    """Not falling, or risen again far above its best."""
    losses = run.losses
    if len(losses) < FEW:
        return
    size = max(3, len(losses) // 10)
    sums = [0.0, *accumulate(losses)]
    means = [(after - before) / size for before, after in zip(sums, sums[size:], strict=False)]
    first, best, last = means[0], min(means), means[-1]
    evidence = f"first {size} steps {first:.3f}, best {best:.3f}, last {last:.3f}"
    if last > best + max(1.0, 0.5 * best):
        yield Finding(
            id="loss-diverged",
            severity="error",
            message=f"The loss rose from {best:.2f} at its best to {last:.2f} at the end: the training diverged.",
            evidence=evidence,
            why="Steps too large throw the weights out of what was learned.",
            remedy="A third of the learning rate, and more warm-up.",
        )
    elif last > 0.97 * first and first > 0.0:
        yield Finding(
            id="loss-not-falling",
            severity="warning",
            message=f"The loss did not fall: {first:.3f} at the beginning, {last:.3f} at the end.",
            evidence=evidence,
            remedy="More optimizer steps or a higher learning rate; look at the rows if neither helps.",
        )


def over_fitted(run: History, spec: Spec | None) -> Iterator[Finding]:
    """Held-out loss up while training loss goes down."""
    evals = [(event.step, event.loss) for event in run.evals if event.loss is not None]
    if len(evals) < 2:
        return
    (at, best), (end, last) = min(evals, key=lambda pair: pair[1]), evals[-1]
    if at == end or last <= best * WORSE:
        return
    before, since = _mean_loss(run, 0, at), _mean_loss(run, at, end)
    if before is not None and since is not None and since >= before:
        return
    yield Finding(
        id="over-fitted",
        severity="warning",
        message=f"The held-out loss was best at step {at} ({best:.3f}) and rose to {last:.3f}, while the training loss "
        "went on falling.",
        evidence=", ".join(f"step {step}: {loss:.3f}" for step, loss in evals[-8:]),
        why="From there on the rows were learned by heart, at the cost of everything else.",
        remedy="Keep the best weights, fewer epochs, or more rows.",
        fix=[Change(key="training.keep_best", value=True)],
    )


def still_falling(run: History, spec: Spec | None) -> Iterator[Finding]:
    """Ended before it was done, by the held-out rows where there are some."""
    evals = [event.loss for event in run.evals if event.loss is not None]
    if len(evals) >= 3:
        before, last = evals[-2:]
        unfinished = last == min(evals) and last < 0.97 * before
        evidence = f"held-out loss {before:.3f}, then {last:.3f}"
    else:
        losses, quarter = run.losses, len(run.losses) // 4
        if quarter < FEW // 2:
            return
        before, last = sum(losses[-2 * quarter : -quarter]) / quarter, sum(losses[-quarter:]) / quarter
        unfinished = last < 0.85 * before
        evidence = f"training loss {before:.3f} in the third quarter, {last:.3f} in the last"
    if unfinished:
        yield Finding(
            id="still-falling",
            severity="note",
            message="The loss was still falling when the run ended.",
            evidence=evidence,
            why="More steps would have learned more.",
            remedy="Raise training.epochs.",
        )


CURVE: tuple[CurveCheck, ...] = (
    nothing_is_learned,
    gradient_is_zero,
    not_a_number,
    gradient_is_huge,
    rate_is_applied,
    shape_of_loss,
    over_fitted,
    still_falling,
)


def _steps(some: list[int], run: History) -> str:
    count = len(run.metrics)
    return f"All {count:,} steps" if len(some) == count else f"{len(some):,} of {several(count, 'step')}"


def _mean_loss(run: History, after: int, until: int) -> float | None:
    losses = [metric.loss for metric in run.metrics if metric.loss is not None and after < metric.step <= until]
    return sum(losses) / len(losses) if losses else None
