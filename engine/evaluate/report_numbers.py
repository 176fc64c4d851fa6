"""Numbers as the report writes them: points with two decimals, a half rounded up as people do."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

UNKNOWN = "not recorded"


def points(value: float | None) -> str:
    """2.625 is 2.63."""
    return UNKNOWN if value is None else str(_rounded(value))


def signed(value: float | None) -> str:
    return UNKNOWN if value is None else f"{_rounded(value):+}"


def between(interval: tuple[float, float] | None, sign: bool = False) -> str:
    """An interval in words, or that there is none."""
    if interval is None:
        return "no interval: too few questions"
    low, high = (signed(each) if sign else points(each) for each in interval)
    return f"{low} to {high}"


def probability(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def loss(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.4f}"


def share(part: float, whole: float) -> str:
    return f"{part:g} of {whole:g}"


def duration(seconds: float) -> str:
    """`1:04:12`, or `0:41`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def short_hash(digest: str) -> str:
    return digest[:12] if digest else UNKNOWN


def _rounded(value: float) -> Decimal:
    return Decimal(repr(float(value))).quantize(Decimal("0.01"), ROUND_HALF_UP)
