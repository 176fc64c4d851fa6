"""Turns what happens in a run into plain lines for people: pure, one Narrator per reader."""

from __future__ import annotations

import time
from functools import singledispatchmethod
from typing import Any

from engine.contract import events, lifecycle
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir

from . import terminal, text
from .services.follow import Damage, Seen
from .state import overfit, sentences
from .terminal import one_line

_LIVE_EVERY = 5.0  # seconds between lines about steps
_HISTORY_LINES = 10  # lines about steps of an attempt that is only replayed
_SHOWN_ANSWER = 300  # characters
_TRACEBACK_LINES = 6
_WORK = "training"  # the phase whose progress the steps themselves tell


class Narrator:
    """Gives the lines for each thing seen. History is told more briefly than what happens now."""

    def __init__(self, run: RunDir, shown: terminal.Terminal) -> None:
        self.live = False  # set once the history has been told
        self._run = run
        self._terminal = shown
        self._state = ""
        self._attempt = 0
        self._step = 0
        self._steps = 0
        self._loss: float | None = None
        self._eval: float | None = None
        self._records: events.Stream | None = None
        self._per_step = 0  # rows
        self._tokens = 0
        self._pace: float | None = None  # seconds a step, of this attempt alone
        self._made = 0  # steps of this attempt
        self._told_step = -1
        self._told_at = 0.0
        self._phase: events.Phase | None = None
        self._phases: set[str] = set()  # already told of this attempt

    def lines(self, seen: Seen) -> list[str]:
        """What to print for `seen`; often nothing."""
        if seen.attempt != self._attempt:
            self._attempt, self._pace, self._told_step, self._told_at = seen.attempt, None, -1, 0.0
            self._made = 0
            self._phase = None
            self._phases.clear()
        return self._tell(seen.what)

    def status(self) -> str:
        """One line on where the run stands, for a line that is rewritten."""
        head = f"{self._terminal.mark(self._state)} {self._state}"
        phase = self._phase
        if phase and phase.name != _WORK:
            share = f"  {text.percent(phase.done / phase.total)}" if phase.total else ""
            return f"{head}  {one_line(phase.name)}{share}{_left(phase.eta)}"
        if not self._steps:
            return head
        bar = text.bar(self._step / self._steps, 20, "█", "░")
        return f"{head}  {bar}  {self._step}/{self._steps}  loss {text.number(self._loss)}{_left(self._eta())}"

    def _eta(self) -> float | None:
        return None if self._pace is None else self._pace * max(0, self._steps - self._step)

    def _line(self, t: float, what: str, said: str) -> str:
        stamp = time.strftime("%H:%M:%S", time.localtime(t)) if 0 <= t < 2**33 else "--:--:--"
        return f"{self._terminal.paint('dim', stamp)}  {what:<13} {said}".rstrip()

    @singledispatchmethod
    def _tell(self, what: Any) -> list[str]:
        return []

    @_tell.register
    def _(self, change: lifecycle.Transition) -> list[str]:
        self._state = change.state
        head = f"{self._terminal.mark(change.state)} {change.state}"
        padded = self._terminal.paint(change.state, f"{head:<13}")
        said = f"attempt {change.attempt}" if change.state == "queued" and change.attempt > 1 else ""
        if change.state == "finished" and change.attempt:  # not of an imported run, which has no adapter
            said = f"{self._step}/{self._steps}  loss {text.number(self._loss)}  adapter in {self._run.adapter}"
        elif change.state == "failed":
            said = f"({change.reason})" if change.reason else ""
        why = one_line(change.why or (change.evidence.message if change.evidence else ""))
        first = self._line(change.t, padded, "  ".join(part for part in (said, why) if part))
        return [first, *self._evidence(change)]

    def _evidence(self, change: lifecycle.Transition) -> list[str]:
        if change.state != "failed":
            return []
        evidence = change.evidence or lifecycle.Evidence()
        facts = [
            f"exit status {evidence.exit_code}" if evidence.exit_code is not None else "",
            f"signal {one_line(evidence.signal)}" if evidence.signal else "",
            f"at step {evidence.step}" if evidence.step is not None else "",
            f"{text.size(evidence.host_free)} of memory free" if evidence.host_free is not None else "",
            f"{text.size(evidence.device_free)} free on the device" if evidence.device_free is not None else "",
            f"{text.size(evidence.disk_free)} of disk free" if evidence.disk_free is not None else "",
        ]
        said = ", ".join(fact for fact in facts if fact)
        trace = [f"  | {one_line(line)}" for line in evidence.traceback.splitlines()[-_TRACEBACK_LINES:]]
        if trace and f".{MoltingError.__name__}: " in trace[-1]:
            trace = []  # foreseen: the sentence says it all
        lines = [f"  evidence: {said}"] if said else []
        lines += [*trace, f"  log: {self._run.attempt(change.attempt).log}"]
        return lines + ([f"  try: {one_line(evidence.remedy)}"] if evidence.remedy else [])

    @_tell.register
    def _(self, start: events.Start) -> list[str]:
        rewound = max(0, self._step - start.step) if self._attempt > 1 else 0
        self._step, self._steps, self._told_at = start.step, start.steps, start.t
        self._tokens = start.tokens
        per_step = start.plan.get("rows_per_step", 0)
        self._per_step = per_step if isinstance(per_step, int) else 0
        said = one_line(sentences.said(start))
        again = f", {text.plural(rewound, 'step')} done again" if rewound else ""
        return [self._line(start.t, "start", said + again)]

    @_tell.register
    def _(self, rows: events.Funnel) -> list[str]:
        return [self._line(rows.t, "rows", one_line(sentences.said(rows)))]

    @_tell.register
    def _(self, stream: events.Stream) -> list[str]:
        self._records = stream
        return [self._line(stream.t, "rows", sentences.said(stream))]

    @_tell.register
    def _(self, kept: events.Ability) -> list[str]:
        return [self._line(kept.t, "ability", sentences.said(kept))]

    @_tell.register
    def _(self, phase: events.Phase) -> list[str]:
        self._phase = phase
        # Training, evaluating and sampling take turns: each is told once.
        new = phase.name not in self._phases
        self._phases.add(phase.name)
        return [self._line(phase.t, "phase", one_line(phase.name))] if new else []

    @_tell.register
    def _(self, metric: events.Metric) -> list[str]:
        follows = metric.step == self._step + 1  # an imported log leaves steps out
        learned_from = metric.tokens - self._tokens if follows else 0
        self._step, self._loss, self._tokens = metric.step, metric.loss, metric.tokens
        self._tell_pace(metric.seconds)
        if not self._due(metric):
            return []
        self._told_step, self._told_at = metric.step, metric.t
        loss = "not finite" if metric.loss is None else text.number(metric.loss)
        rate = _rate(metric.rows, metric.seconds, "rows/s") + _rate(learned_from, metric.seconds, "tok/s")
        said = f"{metric.step}/{self._steps}  loss {loss}  lr {metric.lr:.2g}{rate}{_left(self._eta())}"
        if seen := overfit.seen(self._records, metric.step * self._per_step):
            said += f"  {seen}"
        return [self._line(metric.t, "step", said)]

    def _tell_pace(self, seconds: float) -> None:
        """Smoothed, so that one slow step does not make the time left jump; the first is one, most if it compiles."""
        self._made += 1
        if self._made > 2 and self._pace is not None:
            self._pace = 0.9 * self._pace + 0.1 * seconds
        elif self._made > 1 or "compiling" not in self._phases:
            self._pace = seconds

    def _due(self, metric: events.Metric) -> bool:
        if metric.loss is None or metric.step >= self._steps:
            return True
        if self.live:
            return metric.t - self._told_at >= _LIVE_EVERY
        return self._told_step < 0 or metric.step - self._told_step >= max(1, self._steps // _HISTORY_LINES)

    @_tell.register
    def _(self, held: events.Eval) -> list[str]:
        self._eval = held.loss
        return [self._line(held.t, "eval", sentences.said(held))]

    @_tell.register
    def _(self, sample: events.Sample) -> list[str]:
        answer = one_line(sample.answer[: 4 * _SHOWN_ANSWER])
        answer = answer[:_SHOWN_ANSWER] + ("…" if len(answer) > _SHOWN_ANSWER else "")
        return [self._line(sample.t, "sample", f"step {sample.step}  {one_line(sample.question)} → {answer}")]

    @_tell.register
    def _(self, saved: events.Checkpoint) -> list[str]:
        return [self._line(saved.t, "checkpoint", sentences.said(saved))]

    @_tell.register
    def _(self, warning: events.Warn) -> list[str]:
        label = self._terminal.paint("warning", f"{'warning':<13}")
        return [self._line(warning.t, label, one_line(sentences.said(warning)))]

    @_tell.register
    def _(self, log: events.Log) -> list[str]:
        return [self._line(log.t, "log", one_line(sentences.said(log)))]

    @_tell.register
    def _(self, control: events.Control) -> list[str]:
        return [self._line(control.t, control.command, sentences.said(control))]

    @_tell.register
    def _(self, end: events.End) -> list[str]:
        self._step = end.step
        return [self._line(end.t, "end", one_line(sentences.said(end)))]

    @_tell.register
    def _(self, damage: Damage) -> list[str]:
        lines = text.plural(damage.lines, "line")
        return [f"{self._terminal.paint('warning', 'damage')}: {lines} of {damage.path} cannot be read."]


def _rate(count: int, seconds: float, unit: str) -> str:
    return f"  {text.number(count / seconds)} {unit}" if seconds > 0 and count else ""


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"  {text.clock(seconds)} left"
