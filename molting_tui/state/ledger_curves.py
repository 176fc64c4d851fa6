"""The ledger as curves against generation 0. Pure; apart from the table, which the command line shows too."""

from __future__ import annotations

from collections.abc import Sequence

from engine.contract.generations import Entry, line_of

from .curves import Curve, Drawing
from .ledger import MEASURES, value
from .series import Table


def curves(entries: Sequence[Entry], run: str) -> Drawing:
    """Each measure as a percentage of what generation 0 had, over the generations that led to `run`."""
    line = [each for each in line_of(entries, run) if each.measures]
    rows = Table(("step",), tuple(MEASURES))
    first = line[0].measures if line else None
    for each in line:
        assert each.measures is not None and first is not None
        shares = [_share(value(each.measures, name), value(first, name)) for name in MEASURES.values()]
        rows.append((each.number,), shares)
    drawn = [Curve(title, rows, title, colour) for colour, title in enumerate(MEASURES)]
    return Drawing(
        drawn, [], {"step": float(max(1, *(each.number for each in line)) if line else 1)}, "% of generation 0"
    )


def _share(number: float | None, first: float | None) -> float | None:
    return number / first * 100 if number is not None and first else None
