"""What a plot is asked to draw, and which curves a run has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from .. import text
from .alerts import direction
from .live import LiveRun
from .records import Marker
from .series import Series, Table

SMOOTHING = (0.0, 0.6, 0.9, 0.98)  # what a key cycles through
SHORT = 400  # steps up to which little smoothing is the default
_SAME = 0.005  # a smaller change of the held-out loss, as a share of it, is none


def default_smoothing(steps: int) -> float:
    """What suits a run of so many steps: on a short one, much smoothing lags behind the curve."""
    return 0.6 if 0 < steps <= SHORT else 0.9


@dataclass(frozen=True)
class Curve:
    """One curve. `colour` counts the runs that are overlaid, so that a run keeps its colour and its mark."""

    name: str
    table: Table
    column: str
    colour: int = 0
    kind: Literal["line", "points"] = "line"
    smooth: bool = False  # draw the moving average over it, and it dim behind
    rewound: bool = False  # of an earlier attempt, done again since

    def series(self, axis: str, smoothing: float = 0.0) -> Series:
        return self.table.series(self.column, axis, smoothing)


@dataclass(frozen=True)
class Drawing:
    """All that one plot shows; it is looked at again at every repaint, as the run grows."""

    curves: list[Curve] = field(default_factory=list)
    markers: list[Marker] = field(default_factory=list)
    ends: dict[str, float] = field(default_factory=dict)  # axis -> where it ends while nothing is zoomed
    title: str = ""


def drawing(run: LiveRun, what: str = "loss", name: str = "", colour: int = 0) -> Drawing:
    """What to draw of a run: "loss" (with the evaluations), "lr", "grad_norm" or "rate"."""
    label = name or what.replace("_", " ")
    curves = []
    if what == "loss":
        for past in run.rewound:
            curves.append(Curve(f"{label}, attempt {past.attempt}", past.steps, "loss", colour, rewound=True))
    curves.append(Curve(label, run.steps, what, colour, smooth=what in {"loss", "grad_norm", "rate"}))
    if what == "loss":
        curves.append(Curve(f"{name} eval".strip(), run.evals, "loss", colour, kind="points"))
    markers = [marker for marker in run.markers if marker.kind != "eval"]
    return Drawing(curves, markers, ends(run), title(run, what))


def overlaid(drawings: list[Drawing]) -> Drawing:
    """Several runs in one plot, with the markers and the title of the first."""
    if not drawings:
        return Drawing()
    axes = {axis for each in drawings for axis in each.ends}
    furthest = {axis: max(each.ends.get(axis, 0.0) for each in drawings) for axis in axes}
    curves = [curve for each in reversed(drawings) for curve in each.curves]  # the first lies on top
    return Drawing(curves, drawings[0].markers, furthest, drawings[0].title)


def ends(run: LiveRun) -> dict[str, float]:
    """Where each axis ends, so far ahead that it rarely moves: at the last step, and what that will come to."""
    found = {"step": float(max(run.max_steps, run.step))}
    share = run.step / run.max_steps if run.max_steps else 1.0
    for axis in ("tokens", "time"):
        axes = run.steps.axes[axis]
        last = axes[-1] if axes else 0.0
        found[axis] = _round_up(max(last, last / share if share and last else 0.0))
    return found


def title(run: LiveRun, what: str = "loss") -> str:
    """The pane's title with the numbers in it: `loss 0.31 ↓  eval 0.52`."""
    values = run.steps.columns[what].values
    if not values:
        return what.replace("_", " ")
    shown = "not a number" if math.isnan(values[-1]) else text.number(values[-1])
    parts = [f"{what.replace('_', ' ')} {shown} {direction(values[-40:])}".rstrip()]
    if what == "loss" and (held := run.evals.columns["loss"].values):
        last = "not a number" if math.isnan(held[-1]) else text.number(held[-1])
        parts.append(f"eval {last} {_turn(held[-2:])}".rstrip())
    return "  ".join(parts)


def _turn(values: Sequence[float]) -> str:
    """Where the last evaluation went; they are few, and each is over many rows."""
    if len(values) < 2 or any(map(math.isnan, values)):
        return ""
    change = values[1] - values[0]
    return "→" if abs(change) <= _SAME * abs(values[0]) else "↑" if change > 0 else "↓"


def _round_up(value: float) -> float:
    """The next number with two digits, so that an axis whose end is an estimate does not tremble."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1) * 5
    return math.ceil(value / unit) * unit
