"""The head of the Live screen: where the run is, when it ends, and what it is."""

from __future__ import annotations

import time

from textual.content import Content
from textual.widget import Widget

from engine.contract import lifecycle
from engine.contract.safe import safe
from engine.contract.spec import Spec

from .. import text
from ..state.live import LiveRun
from ..terminal import MARKS
from ..themes import KIND

_BAR = (10, 40)  # least and greatest width of the progress bar
_ROOMY = 100  # columns from which the share is told in per cent too
_DAY = 86400.0


class RunHead(Widget):
    """One or two lines; asks for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[Content] = []

    def show(self, lines: list[Content]) -> None:
        if [(line.plain, line.spans) for line in lines] != [(line.plain, line.spans) for line in self._lines]:
            self._lines = lines
            self.refresh()

    def render(self) -> Content:
        return Content("\n").join(self._lines[: max(1, self.size.height)])


def progress_line(run: LiveRun, now: float, width: int, reading: float | None = None) -> Content:
    """State, bar, step, what is left of the run and of the phase, when it ends, which attempt."""
    state = run.state
    mark = (f" {MARKS[state][0]} {state}", f"bold $state-{KIND[state]}")
    step = f" {run.step:,}/{run.max_steps or '?'}" if run.step or run.max_steps else ""  # a queued run knows neither
    if run.max_steps and width >= _ROOMY:
        step += f"  {text.percent(run.step / run.max_steps)}"
    parts = _times(run, now)
    if reading is not None:
        parts.append(f"reading the history, {text.percent(reading)}")
    used = len(mark[0]) + 2 + len(step) + 1
    shown = []
    for part in parts:
        used += len(part) + 4
        if used > width:
            break
        shown.append(part)
    line: list[Content | tuple[str, str] | str] = [mark, " "]
    if run.max_steps and width - used > _BAR[0]:
        cells = min(_BAR[1], width - used - 1)
        full = round(min(1.0, run.step / run.max_steps) * cells)
        line += [" ", ("█" * full, f"$state-{KIND[state]}"), ("░" * (cells - full), "$rule")]
    line += [(step, "bold")]
    for part in shown:
        line += [("  · ", "$muted"), part]
    return Content.assemble(*line).truncate(max(1, width - 1), ellipsis=True)


def about_line(run: LiveRun, spec: Spec | None, width: int) -> Content:
    """What is trained with what, and its best; the numbers first, since what has no room is cut."""
    parts = []
    if best := run.best_eval:
        parts.append(f"best eval {text.number(best.loss)} at step {best.step:,}")
    if run.last_checkpoint:
        parts.append(f"saved at step {run.last_checkpoint.step:,}")
    if run.epoch:
        parts.append(f"epoch {run.epoch:.2f}")
    if run.seen:
        parts.append(run.seen)
    elif run.funnel:
        parts.append(f"{text.plural(run.funnel.trained, 'row')}, {run.funnel.heldout:,} held out")
    if run.live and run.rows_rate is not None:
        shared = f" ({text.percent(run.shared)} shared)" if run.shared else ""
        parts.append(f"{text.number(run.rows_rate)} rows/s{shared}")
    if spec:
        base = safe(spec.model.base.rstrip("/").rpartition("/")[2], keep_newlines=False)
        method = spec.method.kind + (f" r{spec.method.rank}" if spec.method.kind != "full" else "")
        imported = run.start is not None and run.start.path == "imported"  # how it was trained is not recorded
        parts += [base if imported else f"{base} {method}"]
    if run.start:
        start = run.start
        parts.append(safe(f"{start.device} {start.precision} {start.path}", keep_newlines=False))
    line = Content.assemble((" " + " · ".join(parts), "$muted"))
    return line.truncate(max(1, width - 1), ellipsis=True)


def numbers_line(run: LiveRun, width: int) -> Content:
    """The numbers of the plots that have no room."""
    found = []
    for name, column in (("lr", "lr"), ("grad", "grad_norm"), ("tok/s", "rate")):
        value = run.series(column).last
        if value is not None:
            found.append(f"{name} {value:.2g}" if name == "lr" else f"{name} {text.number(value)}")
    if best := run.best_eval:
        found.append(f"best eval {text.number(best.loss)} at {best.step:,}")
    if run.last_checkpoint:
        found.append(f"saved at {run.last_checkpoint.step:,}")
    if run.live and run.rows_rate is not None:
        found.append(f"rows/s {text.number(run.rows_rate)}")
    if run.live and run.shared:
        found.append(f"shared {text.percent(run.shared)}")
    line = Content.assemble((" " + " · ".join(found), "$muted"))
    return line.truncate(max(1, width - 1), ellipsis=True)


def left(run: LiveRun, now: float) -> float | None:
    """Seconds of training left at `now`: counted down between steps, but never below those after this one."""
    if run.eta is None or run.pace is None or run.heard is None:
        return None
    return max(0.0, run.eta - min(max(0.0, now - run.heard), run.pace))


def _times(run: LiveRun, now: float) -> list[str]:
    if run.state in lifecycle.ENDED:
        return _ended(run, now)
    found = []
    seconds = left(run, now)
    if seconds is not None and run.state == "training":
        found += [f"{text.clock(seconds)} left", f"ends {_at(now + seconds, now)}"]
    if run.attempt > 1:
        found.append(f"attempt {run.attempt}")
    phase = run.phase
    if phase and phase.name != "training":
        done = f" {phase.done:g}/{phase.total:g}" if phase.total else ""
        rest = run.phase_eta(now)
        name = safe(phase.name[:40], keep_newlines=False)
        found.append(f"{name}{done}" + (f" {text.clock(rest)} left" if rest else ""))
    elif run.state == "queued":
        found.append(safe(run.why[:80], keep_newlines=False) or "waits for the device")
    return found


def _ended(run: LiveRun, now: float) -> list[str]:
    at = run.ended.t if run.ended else run.heard
    if at is None:
        return []
    took = f", took {text.clock(at - run.began)}" if run.began is not None and at >= run.began else ""
    reason = f"({run.ended.reason})" if run.ended and run.ended.reason else ""
    attempt = f"attempt {run.attempt}" if run.attempt > 1 else ""
    found = [part for part in (reason, f"{text.age(max(0.0, now - at))} ago{took}", attempt) if part]
    if run.end and run.end.last_loss is not None:
        found.append(f"loss {text.number(run.end.last_loss)}")
    return found


def _at(t: float, now: float) -> str:
    """`02:14`, with the day where it is not within a day."""
    form = "%H:%M" if t - now < _DAY else "%a %H:%M" if t - now < 6 * _DAY else "%d %b"
    return time.strftime(form, time.localtime(t))
