"""All runs as the table shows them: order, filter, pins, selection. Pure: what is read and remembered is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from engine.contract import lifecycle, names, sweeps
from engine.contract.safe import safe
from engine.contract.summary import Summary

from .hosts import Standing
from .run_tree import tree
from .view import View

# What `sort` goes through: title -> value; None sorts last either way.
SORTS: dict[str, Callable[[Summary], Any]] = {
    "newest": lambda run: run.started,
    "name": lambda run: None,  # by the shown name, which is not the run's
    "state": lambda run: run.state,
    "loss": lambda run: run.loss,
    "eval": lambda run: run.eval_loss,
    "score": lambda run: run.score,
    "step": lambda run: run.step,
}
_LIVE_FIRST = ("training", "stopping", "starting", "queued")
_DESCENDING = frozenset({"newest", "score", "step"})


@dataclass(frozen=True)
class Ended:
    """A run that was live when last seen and is not any more."""

    run: Summary
    name: str


@dataclass(frozen=True)
class Warned:
    """A live run that says more warnings than when it was last seen."""

    run: Summary
    name: str
    more: int


@dataclass(frozen=True)
class _Index:
    """True of one version of the list."""

    version: int
    live: list[Summary]
    children: dict[str, str]  # parent -> run


@dataclass
class RunList:
    """What is known of the runs, and how the user wants to see them."""

    view: View = field(default_factory=View)
    known: dict[str, Summary | None] = field(default_factory=dict)  # None: exists, not read yet
    distant: dict[str, Summary] = field(default_factory=dict)  # runs of other machines, by hosts.key
    hosts: dict[str, Standing] = field(default_factory=dict)  # the machines whose runs are listed too
    query: str = ""
    sort: str = "newest"
    reverse: bool = False
    tree: bool = False  # whether runs stand below those that they came from
    depths: dict[str, int] = field(default_factory=dict)  # run or sweep -> how deep it stands in the tree
    archived: bool = False  # whether archived runs are shown too
    selected: set[str] = field(default_factory=set)
    complete: bool = False  # all runs have been read once
    version: int = 0  # grows with every change, so that a repaint knows whether there is anything to do
    _index: _Index | None = None

    def listed(self, run_ids: Iterable[str]) -> None:
        """These runs exist; they are read later."""
        for run_id in run_ids:
            self.known.setdefault(run_id, None)
        self.version += 1

    def update(self, changed: Iterable[Summary]) -> list[Ended | Warned]:
        """Take in fresh summaries; what is news in them."""
        news: list[Ended | Warned] = []
        for run in changed:
            before = self.known.get(run.id)
            self.known[run.id] = run
            if before is not None and before.live and not run.live:
                news.append(Ended(run, self.name(run.id)))
            elif before is not None and run.live and run.warnings > before.warnings:
                news.append(Warned(run, self.name(run.id), run.warnings - before.warnings))
            self.version += 1
        return news

    def update_host(
        self, host: str, standing: Standing, changed: Iterable[Summary], gone: Iterable[str]
    ) -> list[Ended]:
        """Take in what another machine says of itself and its runs; what is news in it."""
        news = []
        for run in changed:
            before = self.distant.get(run.id)
            self.distant[run.id] = run
            if before is not None and before.live and not run.live:
                news.append(Ended(run, f"{self.name(run.id)} on {host}"))
        for run_id in gone:
            self.distant.pop(run_id, None)
            self.selected.discard(run_id)
        self.hosts[host] = standing
        self.version += 1
        return news

    def leave_hosts(self) -> None:
        """List the runs of this machine alone."""
        self.selected -= self.distant.keys()
        self.distant.clear()
        self.hosts.clear()
        self.version += 1

    def get(self, run_id: str | None) -> Summary | None:
        """A run of this machine or of another; None where there is none of that id, or it is not read yet."""
        return self.known.get(run_id or "") or self.distant.get(run_id or "")

    def forget(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            self.known.pop(run_id, None)
            self.selected.discard(run_id)
        self.version += 1

    def touch(self) -> None:
        """Something about the view changed."""
        self.version += 1

    def name(self, run_id: str) -> str:
        """What the user calls the run, on one line and harmless."""
        run = self.get(run_id)
        return names.shown(run_id, run.name if run else "", self.view.names)

    def live(self) -> list[Summary]:
        """Runs in a live state, training ones first."""
        return self._indexed().live

    def child(self, run_id: str) -> str:
        """A run that came of this one; empty where there is none."""
        return self._indexed().children.get(run_id, "")

    def _indexed(self) -> _Index:
        """What is asked at every repaint; all runs are gone through once for each change."""
        if self._index is None or self._index.version != self.version:
            runs = [run for run in self.known.values() if run is not None]
            live = [run for run in runs if run.live]
            live.sort(key=lambda run: (_LIVE_FIRST.index(run.state), -(run.started or 0.0)))
            children = {run.parent: run.id for run in reversed(runs) if run.parent}  # the first one counts
            self._index = _Index(self.version, live, children)
        return self._index

    def rows(self) -> list[str]:
        """Ids in the order of the table: pinned, then live, then by the chosen column."""
        pinned, hidden = set(self.view.pinned), set(self.view.archived)
        every = [*self.known, *self.distant] if self.distant else self.known
        shown = [run_id for run_id in every if (self.archived or run_id not in hidden) and self._matches(run_id)]
        ordered = self._ordered(shown)
        # Stable sorts: the last key counts most.
        ordered.sort(key=self._rank)
        ordered.sort(key=lambda run_id: run_id not in pinned)
        self.depths = dict(tree(ordered, self.known)) if self.tree else {}
        return list(self.depths) if self.tree else ordered

    def _ordered(self, run_ids: list[str]) -> list[str]:
        keyed = [(self._key(run_id), run_id) for run_id in sorted(run_ids)]
        known = [each for each in keyed if each[0] is not None]
        known.sort(key=lambda each: each[0], reverse=(self.sort in _DESCENDING) != self.reverse)
        return [run_id for _, run_id in known] + [run_id for key, run_id in keyed if key is None]

    def _key(self, run_id: str) -> Any:
        if self.sort == "name":
            return self.name(run_id).casefold()
        run = self.get(run_id)
        return None if run is None else SORTS[self.sort](run)

    def _rank(self, run_id: str) -> int:
        run = self.get(run_id)
        return _LIVE_FIRST.index(run.state) if run is not None and run.live else len(_LIVE_FIRST)

    def _matches(self, run_id: str) -> bool:
        """Whether every word of the query occurs in the run; a word after `-` must not."""
        words = self.query.casefold().split()
        if not words:
            return True
        run = self.get(run_id)
        parts = [run_id, self.name(run_id)]
        if run is not None:
            parts += [run.state, run.reason, run.base, run.method, run.parent, run.sweep]
        haystack = " ".join(parts).casefold()
        return all((word[1:] not in haystack) if _is_not(word) else (word in haystack) for word in words)

    def targets(self, cursor: str | None, rows: Iterable[str]) -> list[str]:
        """What an action takes: the selected ones of `rows`, the runs shown, else the one under the cursor."""
        chosen = [run_id for run_id in rows if run_id in self.selected] if self.selected else []
        return chosen or (self.meant(cursor) if cursor else [])

    def meant(self, row: str) -> list[str]:
        """The run of a row; all its runs where it is a sweep."""
        return [row] if row in self.known or row in self.distant else self.of_sweep(row)

    def of_sweep(self, sweep: str) -> list[str]:
        """Ids of the runs of a sweep."""
        return [run.id for run in self.known.values() if run is not None and sweep and run.sweep == sweep]

    def title(self, row: str) -> str:
        """The name as the table shows it: below what it came from, a sweep with the number of its runs."""
        count = "" if row in self.known or row in self.distant else f"{len(self.of_sweep(row))} runs · "
        name = self.short(row) if self.depths.get(row) else self.name(row)
        return f"{'  ' * self.depths.get(row, 0)}{count}{name}"

    def short(self, run_id: str) -> str:
        """The name; of a run of a sweep, unless it was renamed, what it has of its own."""
        run = self.known.get(run_id)
        own = run is not None and run.sweep and run.changes and run_id not in self.view.names
        return sweeps.label(run.changes) if run is not None and own else self.name(run_id)

    def next_sort(self) -> None:
        names = list(SORTS)
        self.sort = names[(names.index(self.sort) + 1) % len(names)]
        self.touch()


def _is_not(word: str) -> bool:
    return len(word) > 1 and word[0] == "-"


def sentence(news: Ended | Warned) -> tuple[str, str]:
    """(what happened to a run, how grave: information, warning or error)."""
    if isinstance(news, Warned):
        return f"{news.name} has {news.more} new {'warning' if news.more == 1 else 'warnings'}.", "warning"
    ended, run = news, news.run
    if run.state == "finished":
        at = "" if run.loss is None else f" at loss {run.loss:.3g}"
        return f"{ended.name} finished{at}.", "information"
    if run.state == "interrupted":
        saved = f", saved at step {run.checkpoint}" if run.checkpoint is not None else ""
        return f"{ended.name} stopped{saved}.", "information"
    if run.state == "lost":
        return f"{ended.name} is lost: its supervisor died. r continues it.", "error"
    why = safe(run.why or run.reason, keep_newlines=False)[:200]
    return f"{ended.name} failed: {why or 'no reason was recorded'}", "error"


def age(run: Summary) -> float | None:
    """Seconds since the run began or, where it has ended, since it did."""
    since = run.started if run.state in lifecycle.LIVE else run.changed
    return None if since is None else max(0.0, time.time() - since)
