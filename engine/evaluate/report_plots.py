"""Drawings for the report, as inline SVG whose colours the page's style gives. Pure; labels are escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from engine.contract.safe import safe

_WIDTH, _LEFT, _ROW = 720, 260, 24
_CURVE_HEIGHT, _POINTS = 220, 400
_LABEL = 34  # characters


@dataclass(frozen=True)
class Pair:
    """One row of dots: what it was before (hollow) and after (filled), out of 10."""

    label: str
    before: float
    after: float


@dataclass(frozen=True)
class Span:
    """One row of differences: the middle, and its interval where there is one."""

    label: str
    middle: float
    interval: tuple[float, float] | None = None


def dots(rows: Sequence[Pair]) -> str:
    """Scores before and after on one scale from 0 to 10."""
    x = _scale(0.0, 10.0)
    body = _ticks(x, (0, 2, 4, 6, 8, 10), len(rows))
    for place, row in enumerate(rows):
        y = _y(place)
        body += [_label(row.label, y)]
        body.append(f'<line class="line" x1="{x(row.before)}" x2="{x(row.after)}" y1="{y}" y2="{y}"/>')
        body.append(f'<circle class="b" cx="{x(row.after)}" cy="{y}" r="5"/>')
        body.append(f'<circle class="a" cx="{x(row.before)}" cy="{y}" r="4" fill-opacity="0"/>')
    return _svg(body, _y(len(rows)) + 14, "scores before and after")


def spans(rows: Sequence[Span]) -> str:
    """Differences from -10 to 10 with their intervals."""
    x = _scale(-10.0, 10.0)
    body = _ticks(x, (-10, -5, 0, 5, 10), len(rows))
    for place, row in enumerate(rows):
        y = _y(place)
        body.append(_label(row.label, y))
        if row.interval:
            low, high = (max(-10.0, min(10.0, each)) for each in row.interval)
            body.append(f'<line class="span" x1="{x(low)}" x2="{x(high)}" y1="{y}" y2="{y}"/>')
            body += [f'<line class="span" x1="{x(at)}" x2="{x(at)}" y1="{y - 5}" y2="{y + 5}"/>' for at in (low, high)]
        body.append(f'<circle class="b" cx="{x(row.middle)}" cy="{y}" r="5"/>')
    return _svg(body, _y(len(rows)) + 14, "differences with intervals")


def curve(points: Sequence[tuple[int, float]], evals: Sequence[tuple[int, float]]) -> str:
    """The loss over the steps, and the held-out losses as hollow dots."""
    drawn = _thinned(points)
    values = [value for _, value in [*drawn, *evals]]
    last, top = max(step for step, _ in [*drawn, *evals]), max(values) or 1.0
    left, right, bottom = 50.0, _WIDTH - 10.0, _CURVE_HEIGHT - 24.0

    def x(step: int) -> float:
        return round(left + (right - left) * step / max(1, last), 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - 10) * value / top, 1)

    body = []
    for part in range(5):
        value = top * part / 4
        body.append(f'<line class="rule" x1="{left}" x2="{right}" y1="{y(value)}" y2="{y(value)}"/>')
        body.append(f'<text class="dim" x="{left - 6}" y="{y(value) + 4}" text-anchor="end">{value:.2f}</text>')
    body.append(f'<text class="dim" x="{left}" y="{_CURVE_HEIGHT - 6}">step 0</text>')
    body.append(f'<text class="dim" x="{right}" y="{_CURVE_HEIGHT - 6}" text-anchor="end">{last}</text>')
    body.append(f'<polyline class="curve" points="{" ".join(f"{x(step)},{y(value)}" for step, value in drawn)}"/>')
    body += [f'<circle class="a" cx="{x(step)}" cy="{y(value)}" r="4"/>' for step, value in evals]
    return _svg(body, _CURVE_HEIGHT, "loss over the steps")


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most some hundred points: the mean of each stretch of steps, at its last step."""
    size = -(-len(points) // _POINTS) or 1
    parts = [points[at : at + size] for at in range(0, len(points), size)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


class _scale:
    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(_LEFT + (_WIDTH - _LEFT - 20) * share, 1)


def _y(place: int) -> int:
    return 28 + place * _ROW


def _ticks(x: _scale, values: Sequence[int], rows: int) -> list[str]:
    made = []
    for value in values:
        made.append(f'<line class="rule" x1="{x(value)}" x2="{x(value)}" y1="16" y2="{_y(rows) - 6}"/>')
        made.append(f'<text class="dim" x="{x(value)}" y="11" text-anchor="middle">{value:d}</text>')
    return made


def _label(text: str, y: int) -> str:
    flat = safe(" ".join(text.split()), keep_newlines=False)
    cut = flat if len(flat) <= _LABEL else f"{flat[: _LABEL - 1]}…"
    return f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(cut)}</text>'


def _svg(body: list[str], height: int, about: str) -> str:
    inside = "\n".join(body)
    return f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img" aria-label="{about}">\n{inside}\n</svg>'
