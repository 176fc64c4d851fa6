"""Generations of self-training: what each run was made of, what was measured of it, and when it must stop. Pure but for
the two small files that it reads and writes.

`generation.json` in a run says what its rows were made of; `curation/measures.json` what was measured of its weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar, Union

import msgspec

from . import curation, rundir, summary
from .curation import Choices
from .durable import explain, make_private_dir, write_new, write_replace
from .errors import MoltingError
from .plainfile import read_plain
from .rundir import RunDir
from .summary import Summary

VERSION = 1
_LIMIT = 1 << 20
T = TypeVar("T")


class Generation(msgspec.Struct, kw_only=True):
    """What a run's rows were made of. `overridden` are the reasons of the stop rule that somebody passed over."""

    number: int
    parent: str
    root: str  # the run whose rows are all originals
    batch: str
    originals: int
    accepted: int
    t: float
    edited: int = 0
    gated: bool = True
    by: Literal["person", "gates", "nobody"] = "person"
    overridden: list[str] = []
    v: int = VERSION


class Measures(msgspec.Struct, kw_only=True):
    """Measured of one run's weights. `instrument` names how: only measures of one instrument are compared.

    `heldout_loss`: nats per learned token of the held-out rows. `distinct2`: share of word pairs that are not repeats,
    in answers to the neutral questions. `kl`: KL(base || run) in nats, a mean over the tokens of the base's own answers
    to those questions.
    """

    adapter: str
    instrument: str
    kl: float
    distinct2: float
    heldout_loss: Union[float, None] = None
    heldout_rows: int = 0
    questions: int = 0
    positions: int = 0
    t: float = 0.0
    v: int = VERSION


class Limits(msgspec.Struct, kw_only=True, frozen=True):
    """Where self-training stops. `kl` in nats; None: `kl_rise` above what generation 0 has."""

    generations: int = 2
    loss_rise: float = 0.02
    distinct_fall: float = 0.10
    kl: Union[float, None] = None
    kl_rise: float = 0.25


class GenerationRequest(msgspec.Struct, kw_only=True):
    """Verb `generation`: a run from the base with the rows of `run` and what was kept of its answers.

    `override`: go on although the stop rule says no; that is recorded. `start` false only makes the run. `seeds`: so
    many runs, alike but for their training.seed.
    """

    run: str
    runs: str
    models: str
    batch: str = ""
    override: bool = False
    limits: Limits = Limits()
    start: bool = True
    seeds: int = 1


class Generated(msgspec.Struct, kw_only=True):
    """Result of `generation`. `left_out` says in sentences what was kept and does not go in.

    `others` are the runs of other seeds.
    """

    run: str
    path: str
    state: str
    generation: Generation
    left_out: list[str] = []
    others: list[str] = []


class Entry(msgspec.Struct, kw_only=True):
    """A line of the ledger: a run of a family. `refused` counts answers by gate; `kept` of `candidates` answers."""

    run: str
    name: str
    number: int = 0
    parent: str = ""
    state: str = ""
    rows: Union[int, None] = None
    accepted: int = 0
    gated: bool = True
    overridden: list[str] = []
    measures: Union[Measures, None] = None
    candidates: int = 0
    refused: dict[str, int] = {}
    kept: int = 0
    decided: bool = False  # every answer that was offered
    score: Union[float, None] = None

    @property
    def acceptance(self) -> Union[float, None]:
        """Share of the answers that were kept; None before all is decided."""
        return self.kept / self.candidates if self.candidates and self.decided else None


def read(run: RunDir) -> Union[Generation, None]:
    """What the run's rows were made of; None for a run that is no generation. MoltingError when it is damaged."""
    return _read(run.generation, Generation)


def measured(run: RunDir) -> Union[Measures, None]:
    """What was measured of the run last; None where nothing was. MoltingError when it is damaged."""
    return _read(run.curation / "measures.json", Measures)


def _read(path: Path, kind: type[T]) -> Union[T, None]:
    try:
        found: T = msgspec.json.decode(read_plain(path, _LIMIT), type=kind)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        raise MoltingError(f"{path} is damaged.") from None
    if getattr(found, "v", 1) > VERSION:
        raise MoltingError(f"{path} was written by a newer Molting (version {getattr(found, 'v', 1)}).")
    return found


def write(run: RunDir, made: Generation) -> None:
    """Into a run that is being made. OSError."""
    write_new(run.generation, msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")


def write_measures(run: RunDir, found: Measures) -> None:
    """In place of what was measured before. MoltingError when the disk refuses."""
    try:
        make_private_dir(run.curation)
        write_replace(run.curation / "measures.json", msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    except OSError as error:
        raise explain(error, "keep the measures") from error


def ledger(run: RunDir) -> list[Entry]:
    """The whole family of a run, from generation 0 on, controls after the others of their generation.

    Files that are damaged make a run of generation 0, or one without measures: it is listed all the same.
    """
    root = _root(run)
    family = [(RunDir(run.path.parent / root), None)] if (run.path.parent / root).is_dir() else []
    found: list[tuple[RunDir, Union[Generation, None]]] = [*family]
    for other in rundir.listed(run.path.parent):
        made = _quiet(read, other)
        if isinstance(made, Generation) and other.id != root and root in (made.root, made.parent):
            found.append((other, made))
    if run.id not in {other.id for other, _ in found}:
        found.append((run, _quiet(read, run)))  # its root was deleted
    found.sort(key=lambda each: each[0].id)  # the seeds of one generation were made at one time
    found.sort(key=lambda each: (each[1].number, not each[1].gated, each[1].t) if each[1] else (0, False, 0.0))
    return [entry(other, made, summary.summarise(other)) for other, made in found]


def _root(run: RunDir) -> str:
    made = _quiet(read, run)
    return made.root if made else run.id


def _quiet(what: Callable[[RunDir], T], run: RunDir) -> Union[T, None]:
    """What cannot be read is not known here; who works with it is told."""
    with contextlib.suppress(MoltingError):
        return what(run)
    return None


def entry(run: RunDir, made: Union[Generation, None], seen: Summary) -> Entry:
    """One line of the ledger."""
    line = Entry(run=run.id, name=seen.name, state=seen.state, score=seen.score, measures=_quiet(measured, run))
    if made is not None:
        line.number, line.parent, line.gated = made.number, made.parent, made.gated
        line.rows, line.accepted, line.overridden = made.originals + made.accepted, made.accepted, made.overridden
    chosen = _quiet(_told, run)
    if chosen is not None:
        line.candidates, line.refused = len(chosen.batch.candidates), dict(chosen.batch.refused)
        line.kept, line.decided = len(chosen.kept), chosen.complete
    return line


def _told(run: RunDir) -> Choices:
    """The batch that the ledger tells of: the newest with gates, for a control is beside the way; else the newest."""
    every = [curation.newest(run, path.stem) for path in reversed(curation.listed(run))]
    return next((each for each in every if each.batch.header.gated), None) or curation.newest(run)


def line_of(entries: Sequence[Entry], run: str) -> list[Entry]:
    """The run and what it came from, the oldest first."""
    known = {each.run: each for each in entries}
    found: list[Entry] = []
    while run in known and len(found) < len(known):
        found.append(known[run])
        run = known[run].parent
    return found[::-1]


def stop_reasons(line: Sequence[Entry], limits: Limits = Limits()) -> list[str]:
    """Why self-training must not go on from the last of `line`, its ancestors before it; empty where it may. Pure."""
    if not line:
        return []
    last, before = line[-1], line[:-1]
    return [
        *_too_many(last, limits),
        *(reason for earlier in [before] if earlier and last.measures for reason in _drifted(earlier, last, limits)),
        *_kl_over(line, limits),
        *([f"{last.name} was not measured, so nobody knows whether it got worse."] if last.measures is None else []),
    ]


def _too_many(last: Entry, limits: Limits) -> Iterator[str]:
    if last.number >= limits.generations:
        yield (
            f"{last.name} is generation {last.number}: after {limits.generations} a model mostly learns its own habits."
        )


def _drifted(before: Sequence[Entry], last: Entry, limits: Limits) -> Iterator[str]:
    now = last.measures
    assert now is not None
    earlier = [each.measures for each in before if each.measures and each.measures.instrument == now.instrument]
    if not earlier:
        yield f"{last.name} cannot be compared with the generations before it: they were not measured the same way."
        return
    losses = [each.heldout_loss for each in earlier if each.heldout_loss is not None]
    if losses and now.heldout_loss is not None and now.heldout_loss > min(losses) * (1 + limits.loss_rise):
        yield (
            f"The held-out answer loss rose from {min(losses):.3f} to {now.heldout_loss:.3f} "
            f"({now.heldout_loss / min(losses) - 1:+.1%}; the limit is {limits.loss_rise:+.0%})."
        )
    most = max(each.distinct2 for each in earlier)
    if now.distinct2 < most * (1 - limits.distinct_fall):
        yield (
            f"Distinct-2 fell from {most:.3f} to {now.distinct2:.3f} "
            f"({now.distinct2 / most - 1:+.1%}; the limit is -{limits.distinct_fall:.0%})."
        )


def kl_limit(line: Sequence[Entry], limits: Limits) -> Union[float, None]:
    """The KL that must not be exceeded; None where it follows from a generation 0 that was not measured."""
    first = line[0].measures if line else None
    if limits.kl is not None or first is None:
        return limits.kl
    return first.kl * (1 + limits.kl_rise)


def _kl_over(line: Sequence[Entry], limits: Limits) -> Iterator[str]:
    now, most = line[-1].measures, kl_limit(line, limits)
    if now is not None and most is not None and now.kl > most and (len(line) > 1 or limits.kl is not None):
        yield f"The KL from the base on neutral questions is {now.kl:.3f} nats; the limit is {most:.3f}."
