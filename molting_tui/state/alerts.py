"""What a person watching a run should know now, in words, with what to do about it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.contract.severity import Severity, worst_first

from .. import text
from .live import LiveRun

SILENT = 120.0  # seconds; or ten steps, where those take longer
DISK_LOW = 2 << 30  # bytes; or room for fewer than three checkpoints
DEVICE_NEAR = 0.95  # share of the device's memory
_WINDOW = 20  # steps compared with as many before
_STUCK = 3  # steps with a gradient of 0
_EVAL_RISE = 1.02  # a rise of the held-out loss smaller than this is noise


@dataclass(frozen=True)
class Alert:
    """`id` stays the same while the alert lasts."""

    id: str
    severity: Severity
    message: str
    remedy: str = ""


def alerts(
    run: LiveRun,
    now: float,
    *,
    heartbeat: float | None = None,
    device_used: int | None = None,
    device_total: int | None = None,
) -> list[Alert]:
    """All that hold at `now` (Unix seconds), gravest first.

    `heartbeat` is when the trainer last got somewhere, if known; `device_used` and `device_total` are bytes of
    the device, of all processes.
    """
    found = [*_state(run), *_loss(run), *_gradient(run), *_overfit(run), *_disk(run)]
    if run.live:
        found += [*_silence(run, now, heartbeat), *_device(device_used, device_total)]
    found += [Alert(f"warn:{each.id}", "warning", each.message, each.remedy) for each in run.warnings.values()]
    if run.damaged:
        damaged = text.plural(run.damaged, "event")
        found.append(Alert("damage", "note", f"{damaged} of this run could not be read and are left out."))
    return worst_first(found)


def direction(values: Sequence[float]) -> str:
    """How a curve goes at its end: "↓", "↑", "→" for a change that is only noise, "" where it is too short."""
    change = _change(values, min(_WINDOW, len(values) // 2))
    if change is None:
        return ""
    difference, noise = change
    return "→" if abs(difference) <= noise else "↑" if difference > 0 else "↓"


def _change(values: Sequence[float], window: int) -> tuple[float, float] | None:
    """How the mean of the last `window` numbers differs from that of those before, and its standard error."""
    recent, earlier = _numbers(values[-window:]), _numbers(values[-2 * window : -window])
    if window < 2 or min(len(recent), len(earlier)) < 2:
        return None
    difference = sum(recent) / len(recent) - sum(earlier) / len(earlier)
    return difference, math.sqrt(_variance(recent) / len(recent) + _variance(earlier) / len(earlier))


def _variance(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _numbers(values: Sequence[float]) -> list[float]:
    return [value for value in values if value == value]


def _state(run: LiveRun) -> Iterator[Alert]:
    ended = run.ended
    if run.state == "failed" and ended:
        evidence = ended.evidence
        why = ended.why or (evidence.message if evidence else "") or ended.reason or "no reason was recorded"
        yield Alert("failed", "error", f"The run failed: {why}", evidence.remedy if evidence else "")
    if run.state == "lost":
        saved = run.last_checkpoint
        remedy = f"Resume it: step {saved.step} is saved." if saved else "Resume it: it starts anew, nothing was saved."
        yield Alert("lost", "error", "The process that ran this run is gone.", remedy)


def _loss(run: LiveRun) -> Iterator[Alert]:
    losses = run.steps.columns["loss"].values[-2 * _WINDOW :]
    if not losses:
        return
    if math.isnan(losses[-1]):
        remedy = "Stop it; resume from a checkpoint with a lower learning rate or gradient clipping."
        yield Alert("nan", "error", f"The loss is not a number at step {run.step}.", remedy)
        return
    change = _change(losses, _WINDOW) if len(losses) == 2 * _WINDOW else None
    if change is None:
        return
    difference, noise = change
    now = sum(_numbers(losses[-_WINDOW:])) / len(_numbers(losses[-_WINDOW:]))
    # Beyond chance, and enough to matter.
    if difference > 3 * noise and difference > 0.05 * abs(now - difference):
        said = f"The loss rises: {text.number(now - difference)} to {text.number(now)} over the last {_WINDOW} steps."
        yield Alert("rising", "warning", said, "If it goes on, stop and lower the learning rate.")


def _gradient(run: LiveRun) -> Iterator[Alert]:
    norms = run.steps.columns["grad_norm"].values[-_STUCK:]
    if len(norms) == _STUCK and not any(norms):
        remedy = "Check that the rows have answers to learn and that the adapter has targets."
        yield Alert("gradient", "error", f"The gradient is 0 for {_STUCK} steps: nothing is learned.", remedy)


def _overfit(run: LiveRun) -> Iterator[Alert]:
    best, losses = run.best_eval, run.evals.columns["loss"].values
    if not best or len(losses) < 3 or not all(loss > best.loss * _EVAL_RISE for loss in losses[-2:]):
        return
    was = f"the best was {text.number(best.loss)} at step {best.step}"
    said = f"The held-out loss rises: {text.number(losses[-1])}, {was}."
    yield Alert("overfit", "warning", said, "More steps may only learn the rows by heart; the best step may be kept.")


def _disk(run: LiveRun) -> Iterator[Alert]:
    if not (run.live and run.last_memory):
        return
    free = run.last_memory.disk_free
    saved = run.last_checkpoint
    if free < max(DISK_LOW, 3 * saved.size if saved else 0):
        remedy = "Delete old runs or checkpoints; without room the next checkpoint fails."
        yield Alert("disk", "warning", f"Only {text.size(free)} of disk are free.", remedy)


def _silence(run: LiveRun, now: float, heartbeat: float | None) -> Iterator[Alert]:
    if run.state == "queued" or run.heard is None:
        return
    quiet = now - max(run.heard, heartbeat or 0.0)
    if quiet <= max(SILENT, 10 * (run.pace or 0.0)):
        return
    during = f" (phase {run.phase.name})" if run.phase else ""
    said = f"The engine has been silent for {text.age(quiet)}{during}."
    yield Alert("silent", "warning", said, "Look at the log; if it hangs, stop and resume.")


def _device(used: int | None, total: int | None) -> Iterator[Alert]:
    if used is None or not total or used < DEVICE_NEAR * total:
        return
    said = f"The device's memory is {text.percent(used / total)} full: {text.size(used)} of {text.size(total)}."
    yield Alert(
        "device", "warning", said, "A longer row may not fit; end other processes on it, or use smaller batches."
    )
