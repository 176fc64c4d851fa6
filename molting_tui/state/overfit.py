"""The watch for over-fitting: what is learned by heart, and what is lost meanwhile, over time. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from engine.contract import events

from .. import text
from .lines import Line, clipped

_KEPT = 256  # of each kind; then every second of them is forgotten
_SHOWN = 4  # values over time
_LABEL = 14
T = TypeVar("T")


@dataclass
class Overfit:
    """What evaluations, samples and ability probes said, in the order of their steps."""

    evals: list[events.Eval] = field(default_factory=list)
    abilities: list[events.Ability] = field(default_factory=list)
    copied: dict[int, list[float]] = field(default_factory=dict)  # step -> share of each answer

    def take(self, said: events.Eval | events.Ability | events.Sample) -> None:
        if isinstance(said, events.Sample):
            if said.copied is not None and 0 <= said.copied <= 1:
                self.copied.setdefault(said.step, []).append(said.copied)
            if len(self.copied) > _KEPT:
                self.copied = dict(_thinned(list(self.copied.items())))
        elif isinstance(said, events.Eval):
            self.evals = _thinned([*self.evals, said])
        else:
            self.abilities = _thinned([*self.abilities, said])

    def rewind(self, step: int) -> None:
        """Forget what was said after `step`: it is done again."""
        self.evals = [each for each in self.evals if each.step <= step]
        self.abilities = [each for each in self.abilities if each.step <= step]
        self.copied = {at: shares for at, shares in self.copied.items() if at <= step}

    def lines(self, width: int) -> list[Line]:
        """One line for each thing that was measured, its values over time; none where nothing was."""
        gaps = [each.loss - each.train for each in self.evals if each.loss is not None and each.train is not None]
        shares = [sum(each) / len(each) for each in self.copied.values()]
        kls = [each.kl for each in self.abilities if each.kl is not None]
        losses = [each.loss for each in self.abilities if each.loss is not None]
        said = [
            ("held-out gap", _over_time(gaps, "{:+.2f}".format), _best(self.evals) if gaps else ""),
            ("copied", _over_time(shares, text.percent), "of the samples stand in learned rows"),
            ("not trained", _over_time(losses, text.number), self._base()),
            ("" if losses else "not trained", _over_time(kls, text.number), "nats of KL from the base"),
        ]
        return [
            clipped([(f"{label:<{_LABEL}}", "dim"), (values, ""), (f"  {about}", "dim")], width)
            for label, values, about in said
            if values
        ]

    def _base(self) -> str:
        base = self.abilities[-1].base if self.abilities else None
        return "" if base is None else f"loss at the ability probes, {text.number(base)} before training"


def seen(records: events.Stream | None, rows: int) -> str:
    """`0.06 % of 1,400,000 records seen`; empty where the run reads no stream."""
    if records is None or records.records <= 0:
        return ""
    share = text.fine_percent(rows / records.records)
    return f"{share} of {'' if records.exact else 'about '}{records.records:,} records seen"


def _best(evals: list[events.Eval]) -> str:
    known = [(each.loss, each.step) for each in evals if each.loss is not None]
    if not known:
        return ""
    loss, step = min(known)
    best = f"best {text.number(loss)} at step {step:,}, now {text.number(known[-1][0])}"
    return f"over the training loss; held-out loss {best}"


def _over_time(values: list[float], shown: Callable[[float], str]) -> str:
    """The first, the last, and some between."""
    count = min(_SHOWN, len(values))
    places = sorted({round(i * (len(values) - 1) / max(1, count - 1)) for i in range(count)})
    return " → ".join(shown(values[place]) for place in places)


def _thinned(kept: list[T]) -> list[T]:
    return kept if len(kept) <= _KEPT else kept[:-1:2] + kept[-1:]
