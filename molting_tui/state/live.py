"""One run as the Live screen shows it, folded from the events of all its attempts. Replay equals live.

Memory: about 50 bytes a step (432,000 steps, a day at five a second: 22 MB; a million: 50 MB). Everything else
is bounded by the numbers below.
"""

from __future__ import annotations

import math
from collections import deque
from functools import singledispatchmethod
from operator import sub, truediv
from typing import Any

from engine.contract import events, lifecycle
from engine.contract.safe import safe

from . import logbook
from .overfit import Overfit, seen
from .records import Answer, Best, Marker, MarkerKind, Metrics, Rewound, Warned
from .series import Series, Table

AXES = ("step", "tokens", "time")
MARKERS = 4096
LOG_LINES = 5000
REWOUND = 16  # segments of steps that were done again
QUESTIONS = 64
ANSWERS = 128  # of one question; then every second of them is forgotten
LONGEST_ANSWER = 4000  # characters
WARNINGS = 100
_RECENT = 64  # steps whose duration gives the pace
_LARGEST = 1 << 53  # a token count beyond this is damage
_LAST_STEP = (1 << 32) - 1  # and a step beyond this
_LATEST = 1 << 33  # a clock beyond this is wrong


class LiveRun:
    """Apply what is read, in order; show the attributes. The axis "time" is in seconds since `began`."""

    def __init__(self) -> None:
        self.steps = Table(AXES, ("loss", "grad_norm", "lr", "rate"))  # rate: real tokens a second
        self.evals = Table(AXES, ("loss",))
        self.memory = Table(("time",), ("host", "device", "device_reserved"))  # bytes
        self.rewound: deque[Rewound] = deque(maxlen=REWOUND)
        self.markers: deque[Marker] = deque(maxlen=MARKERS)
        self.samples: dict[str, list[Answer]] = {}
        self.log: deque[logbook.LogLine] = deque(maxlen=LOG_LINES)
        self.logged = 0  # lines so far, also those the log has dropped; a late one is put among the last
        self.warnings: dict[str, Warned] = {}
        self.attempt = 0
        self.stored = ""  # the state in the lifecycle
        self.owned: bool | None = None  # whether a supervisor lives; set by whoever knows
        self.why = ""  # of the last transition
        self.ended: lifecycle.Transition | None = None  # the transition that ended the run, until it goes on
        self.began: float | None = None  # Unix seconds
        self.heard: float | None = None  # Unix seconds of the last event
        self.step = 0
        self.max_steps = 0
        self.tokens = 0
        self.epoch = 0.0
        self.start: events.Start | None = None
        self.funnel: events.Funnel | None = None
        self.stream: events.Stream | None = None
        self.overfit = Overfit()
        self.phase: events.Phase | None = None
        self.last_memory: events.Memory | None = None
        self.last_checkpoint: events.Checkpoint | None = None
        self.end: events.End | None = None
        self.damaged = 0
        self._first_seconds: float | None = None  # of this attempt's first step, which also warms up
        self._seconds: deque[float] = deque(maxlen=_RECENT)  # of those after it
        self._rows: deque[int] = deque(maxlen=_RECENT)  # of the same steps
        self._presented, self._computed = 0, 0  # tokens of the rows, and those that passed through the model
        self._made = 0  # steps of this attempt
        self._phases: set[str] = set()  # told in this attempt

    # What is shown

    @property
    def state(self) -> lifecycle.Shown:
        """As people see it, with "lost" derived from `owned`."""
        return lifecycle.shown(self.stored, owner_alive=self.owned)

    @property
    def live(self) -> bool:
        return self.state in lifecycle.LIVE

    @property
    def pace(self) -> float | None:
        """Seconds a step over the last steps of this attempt; loading, evaluating and sampling are not in it."""
        return sum(self._seconds) / len(self._seconds) if self._seconds else self._first_seconds

    @property
    def rows_rate(self) -> float | None:
        """Rows a second over the last steps of this attempt; None before its second step."""
        return sum(self._rows) / sum(self._seconds) if self._seconds else None

    @property
    def shared(self) -> float | None:
        """The share of the rows' tokens that sharing beginnings kept from being computed; None where it saved none."""
        saved = self._presented - self._computed
        return saved / self._presented if saved > 0 and self._computed > 0 else None

    @property
    def eta(self) -> float | None:
        """Seconds of training left at this attempt's pace; None before its first step."""
        return None if self.pace is None else self.pace * max(0, self.max_steps - self.step)

    @property
    def seen(self) -> str:
        """How much of a stream was learned from, in words; empty where the rows are in memory."""
        per_step = self.start.plan.get("rows_per_step", 0) if self.start else 0
        return seen(self.stream, self.step * per_step) if isinstance(per_step, int) else ""

    def phase_eta(self, now: float) -> float | None:
        """Seconds left of the phase at `now`: what the engine said, counted down."""
        if self.phase is None:
            return None
        if self.phase.name == "training":
            return self.eta
        return None if self.phase.eta is None else max(0.0, self.phase.eta - max(0.0, now - self.phase.t))

    @property
    def best_eval(self) -> Best | None:
        """Of the evaluations that were not rewound."""
        table = self.evals
        losses = ((loss, step) for step, loss in zip(table.axes["step"], table.columns["loss"].values, strict=True))
        loss, step = min((each for each in losses if each[0] == each[0]), default=(math.nan, 0.0))
        return Best(int(step), loss) if loss == loss else None

    def series(self, name: str, axis: str = "step", smoothing: float = 0.0) -> Series:
        """The curve "loss", "grad_norm", "lr", "rate" or "eval", over "step", "tokens" or "time"."""
        if name == "eval":
            return self.evals.series("loss", axis)
        return self.steps.series(name, axis, smoothing)

    # What is read

    def apply(self, attempt: int, what: events.AnyEvent | lifecycle.Transition) -> None:
        """Take in one event or transition. Numbers that cannot be are counted as damage, never raised."""
        if isinstance(what, events.Metric):
            row = (what.step, what.loss, what.grad_norm, what.lr, what.tokens, what.seconds, what.t, what.epoch)
            self._turn_to(attempt)
            self._step(*row, what.rows)
            self._pass(what.presented, what.computed)
            return
        if not 0 <= getattr(what, "step", 0) <= _LAST_STEP:
            self.damaged += 1
            return
        self._turn_to(attempt)
        self._hear(what.t, begins=not isinstance(what, lifecycle.Transition))
        known = isinstance(what, events.Phase) and what.name in self._phases
        self._take(what)
        if isinstance(what, events.Phase) and not known:
            self._write(logbook.LogLine(what.t, attempt, "phase", logbook.plain(what.name)))
        elif line := logbook.line(attempt, what):
            self._write(line)

    def apply_metrics(self, attempt: int, many: Metrics) -> None:
        """Take in many metric events at once; the same as one after another, several times faster."""
        if not many.step:
            return
        self._turn_to(attempt)
        self._pass(many.presented, many.computed)
        if self._is_plain(many):
            self._add(many)
            return
        columns = (many.step, many.loss, many.grad_norm, many.lr, many.tokens, many.seconds, many.t, many.epoch)
        for row in zip(*columns, many.rows, strict=True):
            self._step(*row)

    def damage(self, attempt: int, lines: int, path: str) -> None:
        """Some lines of a log could not be read."""
        self.damaged += lines
        self._write(logbook.damage(attempt, self.heard or 0.0, lines, path))

    # The fold

    def _turn_to(self, attempt: int) -> None:
        if attempt <= self.attempt:
            return
        self.attempt, self._made, self.phase = attempt, 0, None
        self._first_seconds = None
        self._seconds.clear()
        self._rows.clear()
        self._phases.clear()

    def _hear(self, t: float, begins: bool = True) -> None:
        if not 0 < t < _LATEST:
            return
        self.heard = max(t, self.heard or t)
        if self.began is None and begins:
            self.began = t

    def _time(self, t: float) -> float:
        """Where t lies on the time axis. A clock that cannot be right counts as the start, so as the last."""
        return t - self.began if self.began is not None and 0 < t < _LATEST else 0.0

    def _step(
        self,
        step: int,
        loss: float | None,
        norm: float | None,
        lr: float,
        tokens: int,
        seconds: float,
        t: float,
        epoch: float,
        rows: int,
    ) -> None:
        if not (0 <= step <= _LAST_STEP and 0 <= tokens <= _LARGEST) or (self._made and step <= self.step):
            self.damaged += 1
            return
        self._hear(t)
        if step <= self.step:
            self._rewind(step - 1, t)  # the line that announced the new attempt was damaged
        # Only the step just before tells how many tokens this one had.
        follows = step == self.step + 1 and tokens >= self.tokens and seconds > 0
        rate = (tokens - self.tokens) / seconds if follows else None
        self.steps.append((step, tokens, self._time(t)), (loss, norm, lr, rate))
        self.step, self.tokens, self.epoch = step, tokens, epoch
        self._pace_of([seconds], [rows])

    def _is_plain(self, many: Metrics) -> bool:
        """Whether the rows follow each other without a hole, a rewind or an odd number."""
        steps, tokens = many.step, many.tokens
        return (
            steps[0] > self.step
            and steps[-1] - steps[0] == len(steps) - 1
            and steps[-1] <= _LAST_STEP
            and steps == list(range(steps[0], steps[0] + len(steps)))
            and self.tokens <= tokens[0]
            and tokens[-1] <= _LARGEST
            and tokens == sorted(tokens)  # far quicker than to compare one by one
            and min(many.seconds) > 0
            and max(many.seconds) < math.inf
            and min(many.t) > 0
            and max(many.t) < _LATEST
        )

    def _add(self, many: Metrics) -> None:
        self._hear(many.t[0])
        self._hear(many.t[-1])
        began = self.began or 0.0
        earlier = [self.tokens, *many.tokens[:-1]]
        rates: list[float | None] = list(map(truediv, map(sub, many.tokens, earlier), many.seconds))
        if many.step[0] != self.step + 1:
            rates[0] = None
        times = [t - began for t in many.t]
        self.steps.extend((many.step, many.tokens, times), (many.loss, many.grad_norm, many.lr, rates))
        self.step, self.tokens, self.epoch = many.step[-1], many.tokens[-1], many.epoch[-1]
        self._pace_of(many.seconds, many.rows)

    def _pace_of(self, seconds: list[float], rows: list[int]) -> None:
        """The durations and the rows of the attempt's next steps."""
        last = zip(seconds[-_RECENT - 1 :], rows[-_RECENT - 1 :], strict=True)
        usable = [(each, count) for each, count in last if 0 < each < math.inf and 0 <= count <= _LARGEST]
        if not self._made and usable and len(seconds) <= _RECENT:
            self._first_seconds, _ = usable.pop(0)
        self._made += len(seconds)
        self._seconds.extend(each for each, _ in usable)
        self._rows.extend(count for _, count in usable)

    def _pass(self, presented: int, computed: int) -> None:
        if 0 <= presented <= _LARGEST and 0 <= computed <= _LARGEST:
            self._presented, self._computed = self._presented + presented, self._computed + computed

    def _rewind(self, step: int, t: float) -> None:
        """Go back to `step`: what lies beyond was done in vain and is kept apart."""
        self.overfit.rewind(step)
        evals = self.evals.truncate_after("step", step)
        steps = self.steps.truncate_after("step", step)
        if steps is None:
            return
        for marker in self.markers:
            marker.rewound = marker.rewound or marker.step > step
        for answers in self.samples.values():
            for answer in answers:
                answer.rewound = answer.rewound or answer.step > step
        self.rewound.append(Rewound(self.attempt - 1, steps, evals))
        self._mark("rewind", step, t, f"{len(steps):,} steps after step {step} are done again")

    def _mark(self, kind: MarkerKind, step: int, t: float, said: str) -> None:
        self.markers.append(Marker(kind, self.attempt, step, self.tokens, self._time(t), logbook.plain(said)))

    def _write(self, line: logbook.LogLine) -> None:
        """Transitions and events come from two files: whichever was read first, the log is in the order of time."""
        place, state = len(self.log), line.kind in lifecycle.NEXT
        while place and (before := self.log[place - 1]).attempt == line.attempt:
            later = before.t >= line.t if state else before.t > line.t
            if not later or (before.kind in lifecycle.NEXT) == state:
                break
            place -= 1
        if len(self.log) == self.log.maxlen:
            self.log.popleft()
            place = max(0, place - 1)
        self.log.insert(place, line)
        self.logged += 1

    @singledispatchmethod
    def _take(self, what: Any) -> None:
        """Nothing is kept of other kinds."""

    @_take.register
    def _(self, change: lifecycle.Transition) -> None:
        self.stored, self.why = change.state, change.why
        self.ended = change if change.state in lifecycle.ENDED else None

    @_take.register
    def _(self, start: events.Start) -> None:
        if self._made:
            self.damaged += 1  # an attempt starts once
            return
        self.start, self.max_steps, self.end = start, start.steps, None
        if start.step < self.step:
            self._rewind(start.step, start.t)
        if 0 <= start.tokens <= _LARGEST:
            self.tokens = start.tokens
        self.step = start.step
        self._mark("attempt", start.step, start.t, f"attempt {self.attempt} begins at step {start.step}")

    @_take.register
    def _(self, funnel: events.Funnel) -> None:
        self.funnel = funnel

    @_take.register
    def _(self, stream: events.Stream) -> None:
        self.stream = stream

    @_take.register
    def _(self, said: events.Ability) -> None:
        self.overfit.take(said)

    @_take.register
    def _(self, phase: events.Phase) -> None:
        self.phase = phase
        if len(self._phases) < QUESTIONS:
            self._phases.add(phase.name)

    @_take.register
    def _(self, held: events.Eval) -> None:
        self.overfit.take(held)
        self.evals.append((held.step, self.tokens, self._time(held.t)), (held.loss,))
        self._mark("eval", held.step, held.t, f"eval {held.loss}")

    @_take.register
    def _(self, said: events.Sample) -> None:
        self.overfit.take(said)
        question = safe(said.question[:LONGEST_ANSWER])
        if question not in self.samples and len(self.samples) >= QUESTIONS:
            self.samples.pop(next(iter(self.samples)))
        answers = self.samples.setdefault(question, [])
        shown = safe(said.answer[:LONGEST_ANSWER])
        answers.append(Answer(said.step, self.attempt, shown, said.tokens, safe(said.stop[:20]), said.t))
        if len(answers) > ANSWERS:
            answers[:] = answers[:-1:2] + answers[-1:]
        self._mark("sample", said.step, said.t, f"sample: {said.question[:80]}")

    @_take.register
    def _(self, saved: events.Checkpoint) -> None:
        self.last_checkpoint = saved
        self._mark("checkpoint", saved.step, saved.t, f"checkpoint of step {saved.step}")

    @_take.register
    def _(self, memory: events.Memory) -> None:
        self.last_memory = memory
        self.memory.append((self._time(memory.t),), (memory.host, memory.device, memory.device_reserved))

    @_take.register
    def _(self, warning: events.Warn) -> None:
        self._mark("warn", warning.step or self.step, warning.t, warning.message)
        id = logbook.plain(warning.id)
        before = self.warnings.pop(id, None)
        message, remedy = logbook.plain(warning.message), logbook.plain(warning.remedy)
        self.warnings[id] = Warned(id, message, remedy, warning.step, before.times + 1 if before else 1)
        if len(self.warnings) > WARNINGS:
            self.warnings.pop(next(iter(self.warnings)))

    @_take.register
    def _(self, end: events.End) -> None:
        self.end = end
