"""Axes of a plot: ranges, ticks and their labels. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .. import text

_FLAT = 0.02  # the least span of an axis, as a share of its values: three digits then tell its ticks apart
_STEPS = (1, 2, 5, 10)
_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True)
class Scale:
    """The y axis: low < high; both positive on a logarithmic one."""

    low: float
    high: float
    log: bool = False

    def rows(self, height: int) -> Callable[[float], int]:
        """What gives the row of a number, 0 at the top; beyond the scale, the nearest row."""
        most = height - 1
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        factor = most / (high - low)
        bottom = self.low

        def linear(value: float) -> int:
            row = round((high - value) * factor)
            return 0 if row < 0 else most if row > most else row

        def logarithmic(value: float) -> int:
            return linear(math.log(value)) if value > bottom else most

        return logarithmic if self.log else linear


def fitted(low: float, high: float, height: int, log: bool = False) -> Scale:
    """A scale in round numbers that holds [low, high] in `height` rows. `log` needs low > 0."""
    if log and low > 0:
        bottom, top = _round_log(low, up=False), _round_log(high, up=True)
        return Scale(bottom, top if top > bottom else bottom * 10, log=True)
    span = max(high - low, _FLAT * max(abs(low), abs(high))) or 1.0
    if 0 <= low < 0.4 * high:
        low, span = 0.0, high
    middle = (low + high) / 2
    low, high = min(low, middle - span / 2), max(high, middle + span / 2)
    step = _nice((high - low) / max(2, height // 4))
    return Scale(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step)


def y_ticks(scale: Scale, height: int) -> dict[int, str]:
    """Row -> label, far enough apart to be read."""
    if scale.log:
        values = _log_ticks(scale, max(2, height // 2))
    else:
        step = _nice((scale.high - scale.low) / max(1, height // 4))
        values = _multiples(scale.low, scale.high, step)
    row_of = scale.rows(height)
    labels: dict[int, str] = {}
    for value in values:
        row = row_of(value)
        if row not in labels and row + 1 not in labels and row - 1 not in labels:
            labels[row] = short(value)
    return labels


def x_ticks(x0: float, x1: float, width: int, axis: str) -> list[tuple[float, str]]:
    """Places on the axis "step", "tokens" or "time" with their labels; about one every 15 cells."""
    least = (x1 - x0) / max(1, width // 15)
    if axis == "time":
        step = next((each for each in _SECONDS if each >= least), 86400 * _nice(least / 86400))
        return [(value, text.clock(value)) for value in _multiples(x0, x1, float(step))]
    step = max(1.0, _nice(least))
    return [(value, short(value)) for value in _multiples(x0, x1, step)]


def short(value: float) -> str:
    """A number in at most three digits: `0.31`, `12.5k`, `3M`, `8e-05`."""
    if value == 0:
        return "0"
    size = abs(value)
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # 999.6k rounds to 1000k: it is 1M.
        if unit * 0.9995 <= size < unit * 999.5:
            return f"{value / unit:.3g}{letter}"
    if 0.001 <= size < 999.5:
        return f"{value:.3g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _nice(least: float) -> float:
    """The smallest of 1, 2, 5, 10 … that is not below `least`."""
    if not 0 < least < math.inf:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(least))
    return next((each * unit for each in _STEPS if each * unit >= least * (1 - 1e-9)), 10 * unit)


def _round_log(value: float, up: bool) -> float:
    exponent = math.floor(math.log10(value))
    steps = [each * 10.0**exponent for each in _STEPS]
    fitting: Iterable[float] = (each for each in (steps if up else reversed(steps)) if _holds(each, value, up))
    return next(iter(fitting), steps[-1] if up else steps[0])


def _holds(bound: float, value: float, up: bool) -> bool:
    return bound >= value * (1 - 1e-9) if up else bound <= value * (1 + 1e-9)


def _log_ticks(scale: Scale, most: int) -> list[float]:
    first, last = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
    every = [each * 10.0**power for power in range(first, last + 1) for each in (1, 2, 5)]
    inside = [each for each in every if scale.low * (1 - 1e-9) <= each <= scale.high * (1 + 1e-9)]
    if len(inside) <= most:
        return inside
    stride = max(1, math.ceil((last - first) / most))
    return [10.0**power for power in range(first, last + 1, stride) if scale.low <= 10.0**power <= scale.high * 1.01]


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    # Where numbers are too large to tell apart, a step changes nothing.
    return [index * step for index in range(first, min(last, first + 1000) + 1)]
