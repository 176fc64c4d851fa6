"""Runs below the runs that they came from, those of a sweep together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from engine.contract.summary import Summary

_DEEPEST = 12  # levels that are indented


class Branch(NamedTuple):
    """One line: a run, or a sweep, whose id is no run's; `depth` counts what it stands below."""

    id: str
    depth: int


def tree(order: Iterable[str], known: Mapping[str, Summary | None]) -> list[Branch]:
    """The runs of `order` as lines, each followed by what came of it; siblings stay in the order given.

    A run whose parent is not among them stands by itself. Runs that would be their own ancestors do, too.
    """
    below: dict[str, list[str]] = {}
    tops: list[str] = []
    listed = list(order)
    parents = _parents(listed, known)
    for node, parent in parents.items():
        if parent in parents:
            below.setdefault(parent, []).append(node)
        else:
            tops.append(node)
    lines: list[Branch] = []
    seen: set[str] = set()
    for top in [*tops, *parents]:  # those that no top leads to go in circles
        waiting = [Branch(top, 0)]
        while waiting:
            branch = waiting.pop()
            if branch.id in seen:
                continue
            seen.add(branch.id)
            lines.append(branch)
            deeper = min(branch.depth + 1, _DEEPEST)
            waiting += [Branch(child, deeper) for child in reversed(below.get(branch.id, []))]
    return lines


def together(ids: list[str], known: Mapping[str, Summary | None]) -> list[str]:
    """What one plot shows for these runs, the lowest held-out loss first: a run alone brings its sweep or parent."""
    runs = [run for run in map(known.get, ids) if run is not None]
    if len(runs) == 1:
        only = runs[0]
        parent = known.get(only.parent)  # asked at every key: all runs are gone through only for a sweep
        every = known.values() if only.sweep else [parent]
        family = [run for run in every if run is not None and run is not only and _related(run, only)]
        return [only.id, *(run.id for run in _measured(family))]
    return [run.id for run in _measured(runs)]


def _related(run: Summary, only: Summary) -> bool:
    return run.sweep == only.sweep if only.sweep else run.id == only.parent


def _measured(runs: list[Summary]) -> list[Summary]:
    return sorted(runs, key=lambda run: (run.eval_loss is None, run.eval_loss or 0.0, run.id))


def _parents(listed: list[str], known: Mapping[str, Summary | None]) -> dict[str, str]:
    """Run or sweep -> what it stands below, in order; a sweep comes where the first of its runs does."""
    names = {run.name: run.id for run in known.values() if run is not None}
    parents: dict[str, str] = {}
    for run_id in listed:
        run = known.get(run_id)
        parent = run.parent if run is not None else ""
        parent = parent if parent in known else names.get(parent, "")
        if run is not None and run.sweep:
            parents.setdefault(run.sweep, parent)
            parent = run.sweep
        parents[run_id] = parent
    return parents
