"""What the logs of a run say about its training, over all attempts; reads files, computes nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.contract import events
from engine.contract.journal import JournalReader
from engine.contract.log_windows import decoded
from engine.contract.rundir import RunDir


@dataclass
class History:
    """Of a step that was made twice, the attempt that went on from it counts. `made` is the last step."""

    metrics: list[events.Metric] = field(default_factory=list)
    evals: list[events.Eval] = field(default_factory=list)
    samples: list[events.Sample] = field(default_factory=list)
    funnel: events.Funnel | None = None
    start: events.Start | None = None
    end: events.End | None = None

    @property
    def made(self) -> int:
        return self.metrics[-1].step if self.metrics else self.start.step if self.start else 0

    @property
    def planned(self) -> int:
        return self.start.steps if self.start else 0

    @property
    def losses(self) -> list[float]:
        """Those that are numbers, in order."""
        return [metric.loss for metric in self.metrics if metric.loss is not None]


def read_history(run: RunDir) -> History:
    """Everything that the attempts of `run` recorded; damaged lines are passed over.

    Raises MoltingError where a log is not a plain file.
    """
    return tell(event for attempt in run.attempts() for event in decoded(JournalReader(attempt.events).read()))


def tell(log: Iterable[events.AnyEvent]) -> History:
    """The history in the events of all attempts, one after the other."""
    history = History()
    for event in log:
        if isinstance(event, events.Start):
            _rewind(history, event)
        elif isinstance(event, events.Metric):
            history.metrics.append(event)
        elif isinstance(event, events.Eval):
            history.evals.append(event)
        elif isinstance(event, events.Sample):
            history.samples.append(event)
        elif isinstance(event, events.Funnel):
            history.funnel = event
        elif isinstance(event, events.End):
            history.end = event
    return history


def _rewind(history: History, start: events.Start) -> None:
    """What an attempt went back behind was made again, so it does not count."""
    history.start, history.end = start, None
    history.metrics = [event for event in history.metrics if event.step <= start.step]
    history.evals = [event for event in history.evals if event.step <= start.step]
    history.samples = [event for event in history.samples if event.step <= start.step]
