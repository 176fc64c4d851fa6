"""What the last lines of a run's log tell, for the pane beside the table. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.contract import events


@dataclass
class Glance:
    """What the last lines tell. Losses are answer losses in nats, `rate` real tokens a second, `tokens` all so far."""

    losses: list[float | None] = field(default_factory=list)
    first_step: int = 0
    step: int = 0  # of the last metric
    grad_norm: float | None = None
    lr: float | None = None
    rate: float | None = None
    tokens: int | None = None
    sample: events.Sample | None = None
    warnings: list[events.Warn] = field(default_factory=list)
    phase: events.Phase | None = None
    differs: list[str] | None = None  # what the run has otherwise than its parent; None: that is not here


def of_lines(lines: Iterable[bytes]) -> Glance:
    """What these lines of an event log tell, the last word counting; damage is passed over."""
    seen = Glance()
    for line in lines:
        _take(seen, line)
    return seen


def _take(seen: Glance, line: bytes) -> None:
    try:
        event = events.decode(line)
    except (ValueError, events.NewerVersion):
        return
    if isinstance(event, events.Start):
        seen.tokens, seen.step = event.tokens, event.step
    elif isinstance(event, events.Metric):
        seen.first_step = seen.first_step if seen.losses else event.step
        seen.losses.append(event.loss)
        seen.grad_norm, seen.lr = event.grad_norm, event.lr
        known = seen.tokens is not None and event.seconds > 0 and event.step == seen.step + 1
        seen.rate = (event.tokens - (seen.tokens or 0)) / event.seconds if known else None
        seen.tokens, seen.step = event.tokens, event.step
    elif isinstance(event, events.Sample):
        seen.sample = event
    elif isinstance(event, events.Warn):
        seen.warnings.append(event)
    elif isinstance(event, events.Phase):
        seen.phase = event
