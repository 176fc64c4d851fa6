"""The ledger of self-training as a table, small curves and notes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from engine.contract.generations import Entry, Limits, Measures, kl_limit, line_of, stop_reasons
from engine.contract.safe import safe

from .. import text
from . import spark

_TITLES = [
    "gen",
    "run",
    "rows",
    "new",
    "answers",
    "refused",
    "kept",
    "share",
    "held-out",
    "distinct-2",
    "KL",
    "score",
    "",
]
_RIGHT = frozenset(range(2, len(_TITLES) - 1))
MEASURES = {"held-out": "heldout_loss", "distinct-2": "distinct2", "KL": "kl"}


def table(entries: Sequence[Entry]) -> list[list[str]]:
    """A line of titles, then one for each run of the family."""
    return [_TITLES, *(_cells(each) for each in entries)]


def _cells(each: Entry) -> list[str]:
    found = each.measures
    marks = [*(["control"] if not each.gated else []), *(["past the stop rule"] if each.overridden else [])]
    marks += [each.state] if each.state not in ("finished", "") else []
    return [
        str(each.number),
        safe(each.name, False),
        "" if each.rows is None else str(each.rows),
        str(each.accepted or ""),
        str(each.candidates or ""),
        str(sum(each.refused.values())) if each.candidates else "",
        str(each.kept) if each.decided else "",
        text.percent(each.acceptance) if each.acceptance is not None else "",
        _number(found.heldout_loss if found else None),
        _number(found.distinct2 if found else None),
        _number(found.kl if found else None),
        "" if each.score is None else f"{each.score:.2f}",
        ", ".join(marks),
    ]


def _number(value: float | None) -> str:
    return text.DASH if value is None else f"{value:.3f}"


def notes(entries: Sequence[Entry], run: str, limits: Limits = Limits()) -> list[str]:
    """Sentences: what the gates refused, what was passed over, and whether it may go on from `run`."""
    said = []
    for each in entries:
        if each.refused:
            gates = ", ".join(
                f"{count} {gate}" for gate, count in sorted(each.refused.items(), key=lambda one: -one[1])
            )
            said.append(
                f"{safe(each.name, False)}: of {text.plural(each.candidates, 'answer')} the gates refuse {gates}."
            )
        said += [f"{safe(each.name, False)} was made although: {safe(reason, False)}" for reason in each.overridden]
    line = line_of(entries, run)
    most = kl_limit(line, limits)
    if most is not None:
        said.append(f"KL may reach {most:.3f} nats here.")
    reasons = stop_reasons(line, limits)
    if reasons:
        return [*said, *(f"stop: {reason}" for reason in reasons)]
    return [*said, f"Self-training may go on from {safe(line[-1].name, False)}." if line else ""]


def lines(entries: Sequence[Entry], run: str, limits: Limits = Limits()) -> list[str]:
    """Table, small curves and notes as text."""
    return [*figures(entries, run), *notes(entries, run, limits)]


def figures(entries: Sequence[Entry], run: str) -> list[str]:
    """Table and small curves as lines of one width."""
    return [*text.table(table(entries), _RIGHT), *sparks(entries, run)]


def sparks(entries: Sequence[Entry], run: str) -> list[str]:
    """One line for each measure along the generations that led to `run`; none where there is one only."""
    line = [each.measures for each in line_of(entries, run) if each.measures]
    if len(line) < 2:
        return []
    made = []
    for title, name in MEASURES.items():
        values = [value(each, name) for each in line]
        told = " → ".join(_number(value) for value in values)
        made.append(f"{title:>10}  {spark.blocks(values, len(values))}  {told}  {_change(values)}".rstrip())
    return made


def value(found: Measures, name: str) -> float | None:
    """One of MEASURES."""
    number: float | None = getattr(found, name)
    return number


def _change(values: Sequence[float | None]) -> str:
    first, last = values[0], values[-1]
    return f"{last / first - 1:+.1%}" if first and last is not None else ""
