"""One run at a glance, read cheaply: the spec, the lifecycle, and both ends of the event logs.

Nothing here raises for a damaged run: what is wrong with it stands in `Summary.problem`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, MutableMapping
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from . import durable, events, lifecycle, locks, names, processes, slurm
from .errors import MoltingError
from .journal import whole_lines
from .lifecycle import Shown, Transition
from .log_windows import Windows, decoded
from .plainfile import read_plain
from .rundir import AttemptDir, RunDir
from .slurm import Job
from .spec import Spec

_TREND = 8  # parts of a run whose mean losses make its trend
_STEADY = 20  # last steps whose durations give the pace
_SMALL = 1 << 20  # a spec or lifecycle longer than this is not one


class Summary(msgspec.Struct, kw_only=True):
    """What a table of runs shows. Losses are answer losses in nats, times Unix seconds, `eta` seconds."""

    id: str
    path: str
    name: str
    state: Shown
    reason: str = ""
    why: str = ""
    remedy: str = ""
    attempt: int = 0
    step: int = 0
    steps: int = 0
    loss: Union[float, None] = None
    eval_loss: Union[float, None] = None
    score: Union[float, None] = None
    trend: list[Union[float, None]] = []  # mean losses of eighths of the attempt; None last: the last was not finite
    eta: Union[float, None] = None
    rows_rate: Union[float, None] = None  # rows a second over the last steps
    token_rate: Union[float, None] = None  # tokens of those rows a second
    shared: Union[float, None] = None  # the share of those tokens that was not computed again
    records: Union[int, None] = None  # of the file that is read as a stream, as far as that is known
    seen: Union[float, None] = None  # the share of those records that was learned from
    checkpoint: Union[int, None] = None  # step of the newest checkpoint that looks whole
    resumable: bool = False
    base: str = ""
    method: str = ""
    parent: str = ""
    sweep: str = ""
    changes: dict[str, Any] = {}  # what the run has of its own in its sweep: dotted key -> value
    comparable: bool = True  # whether the held-out losses of its sweep measure the same
    started: Union[float, None] = None
    changed: Union[float, None] = None  # last transition
    warnings: int = 0  # in the parts of the log that were read
    owned: Union[bool, None] = None  # whether a supervisor lives; None: it ran on another host
    slurm: str = ""  # the Slurm job that it was sent as
    job: Union[Job, None] = None  # what Slurm last said of it
    problem: str = ""

    @property
    def live(self) -> bool:
        return self.state in lifecycle.LIVE

    @property
    def imported(self) -> bool:
        """Answers, grades or curves from elsewhere: nothing was trained here."""
        return self.state == "finished" and not self.attempt

    def age(self, now: float | None = None) -> float | None:
        """Seconds since the run was created."""
        return None if self.started is None else max(0.0, (time.time() if now is None else now) - self.started)


class _Owner(msgspec.Struct):
    """What matters here of `owner.json`."""

    identity: processes.Identity


def summarise(run: RunDir) -> Summary:
    """Everything of `run` that a table shows; reads at most a few windows of each log."""
    problems: list[str] = []
    seen = Summary(id=run.id, path=str(run.path), name=run.id, state="queued")
    per_step = _read_spec(run, seen, problems)
    try:
        _read_lifecycle(run, seen, problems)
        _read_events(run, seen, problems)
        _judge(run, seen)
        seen.score = _score(run)
        if seen.records and per_step:
            seen.seen = seen.step * per_step / seen.records
    except MoltingError as error:
        problems.append(error.message)
    except OSError as error:
        problems.append(f"{error.filename or run.path} cannot be read: {error.strerror}.")
    seen.problem = " ".join(problems)
    return seen


def load_spec(run: RunDir) -> Spec:
    """The frozen spec of `run`, the paths of its inputs made absolute. MoltingError when it cannot be read."""
    try:
        table = msgspec.toml.decode(read_small(run.spec))
        drop_unknown(table, Spec)
        return _located(run, msgspec.convert(table, Spec))
    except OSError as error:
        raise MoltingError(f"{run.spec} cannot be read: {error.strerror}.") from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MoltingError(f"{run.spec} is damaged: {error}.") from None


def drop_unknown(table: Any, struct: type[msgspec.Struct]) -> None:
    """Take out of `table` the keys that `struct` does not have: a run outlives the version that froze it."""
    if not isinstance(table, MutableMapping):
        return
    sections = _sections(struct)
    for key in [key for key in table if key not in sections]:
        del table[key]
    for key, inner in sections.items():
        if inner and key in table:
            drop_unknown(table[key], inner)


@functools.cache
def _sections(struct: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct] | None]:
    """The keys of a section, and for those that are sections themselves, of what kind."""
    return {field.name: _section(field.type) for field in msgspec.structs.fields(struct)}


def _section(kind: Any) -> type[msgspec.Struct] | None:
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return kind if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None


def _located(run: RunDir, spec: Spec) -> Spec:
    """A run may be copied elsewhere, so its own files are named relative to it."""

    def place(path: str) -> str:
        return str(run.path / path) if path else ""

    data = msgspec.structs.replace(spec.data, train=place(spec.data.train), heldout=place(spec.data.heldout))
    watched = spec.evaluation
    evaluation = msgspec.structs.replace(
        watched, probes=place(watched.probes), ability_probes=place(watched.ability_probes)
    )
    return msgspec.structs.replace(spec, data=data, evaluation=evaluation)


def name_of(run: RunDir) -> str:
    """The name of `run` as `names.shown` decides. For `rundir.find`."""
    given = names.given(run.path.parent)
    try:
        own = "" if run.id in given else load_spec(run).name
    except MoltingError:
        own = ""
    return names.shown(run.id, own, given)


def transitions(run: RunDir) -> tuple[list[Transition], int]:
    """All transitions so far, and how many complete lines are damaged and were passed over."""
    try:
        raw = whole_lines(read_small(run.lifecycle))
    except FileNotFoundError:
        return [], 0
    found, damaged = [], 0
    for line in raw.split(b"\n")[:-1]:
        try:
            found.append(lifecycle.decode(line))
        except ValueError:
            damaged += 1
    return found, damaged


def owner_alive(run: RunDir) -> bool | None:
    """Whether a supervisor lives that owns `run`; None when it ran on another host, where we cannot look."""
    if locks.is_locked(run.owner_lock):
        return True
    if slurm.sent(run) is not None:
        return slurm.runs(run)
    try:
        owner = msgspec.json.decode(read_small(run.owner), type=_Owner)
    except (OSError, ValueError, RecursionError):
        return False
    # On this host the lock is the truth: an owner that lives without it has given the run up.
    return None if processes.is_alive(owner.identity) is None else False


def newest_checkpoint(run: RunDir) -> int | None:
    """Step of the newest checkpoint that has a manifest; its files are verified before they are loaded."""
    for step in run.checkpoint_steps():
        try:
            durable.read_manifest(run.checkpoint(step))
        except MoltingError:
            continue
        return step
    return None


def _read_spec(run: RunDir, seen: Summary, problems: list[str]) -> int:
    """Rows of an optimizer step; 0 where the spec cannot be read."""
    try:
        spec = load_spec(run)
    except MoltingError as error:
        problems.append(error.message)
        return 0
    seen.name = spec.name or run.id
    seen.base, seen.method, seen.parent = spec.model.base, spec.method.kind, spec.parent
    seen.sweep, seen.changes, seen.comparable = spec.sweep.id, spec.sweep.changes, spec.sweep.comparable
    seen.steps = spec.training.max_steps
    return spec.rows_per_step


def _read_lifecycle(run: RunDir, seen: Summary, problems: list[str]) -> None:
    found, damaged = transitions(run)
    seen.started = found[0].t if found else run.spec.lstat().st_mtime
    if damaged:
        problems.append(f"{damaged} damaged {'line' if damaged == 1 else 'lines'} in {run.lifecycle}.")
    if not found:
        return
    last = found[-1]
    seen.state, seen.attempt, seen.reason, seen.why = last.state, last.attempt, last.reason, last.why
    if last.evidence:
        seen.why = seen.why or last.evidence.message
        seen.remedy = last.evidence.remedy
    seen.changed = last.t


def _judge(run: RunDir, seen: Summary) -> None:
    if seen.live:
        seen.owned = owner_alive(run)
    if (mine := slurm.sent(run)) is not None:
        seen.slurm, seen.job = mine.job, slurm.of(run)
        _hear_slurm(run, seen)
    seen.state = lifecycle.shown(seen.state, owner_alive=seen.owned)
    seen.checkpoint = newest_checkpoint(run)
    seen.resumable = seen.state in {"interrupted", "failed", "lost"} and seen.checkpoint is not None
    if seen.state != "training":
        seen.eta = None
    if seen.imported:
        seen.method = ""  # how it was trained is not recorded


def _hear_slurm(run: RunDir, seen: Summary) -> None:
    """A job that waits makes its run a waiting one; a job that ended without its supervisor's word, a lost one."""
    job = seen.job
    if job is None or seen.owned or seen.state == "finished" or not slurm.is_news(run):
        return
    if job.waiting:
        seen.state, seen.owned, seen.why = "queued", None, job.sentence
    elif seen.live and job.ended:
        seen.state, seen.why = "lost", job.sentence
        seen.remedy = f"`molting resume {run.id}` sends it again."


def _read_events(run: RunDir, seen: Summary, problems: list[str]) -> None:
    """From the newest attempt back, until it is known how the loss and the evaluations stood."""
    ends = None  # events beyond the step where the next attempt began are rewound
    for attempt in reversed(run.attempts()):
        ends = _read_attempt(attempt, seen, ends, problems)
        if seen.trend and seen.eval_loss is not None:
            break


def _read_attempt(attempt: AttemptDir, seen: Summary, ends: int | None, problems: list[str]) -> int | None:
    """Take over what `seen` does not know yet; the step beyond which earlier attempts do not count."""
    try:
        windows = Windows.read(attempt.events)
    except FileNotFoundError:
        return ends
    start = next((event for event in decoded(windows.head.split(b"\n")) if isinstance(event, events.Start)), None)
    metrics = [event for event in decoded(windows.tail.split(b"\n")) if isinstance(event, events.Metric)]
    metrics = [metric for metric in metrics if ends is None or metric.step <= ends]
    if start and ends is None:
        seen.step, seen.steps = start.step, start.steps
    if seen.records is None:
        seen.records = windows.records()
    if metrics and not seen.trend:
        seen.step, seen.loss = metrics[-1].step, metrics[-1].loss
        sampled = [event for event in decoded(windows.sampled.split(b"\n")) if isinstance(event, events.Metric)]
        seen.trend = _trend([*sampled, *metrics])
        if attempt.number == seen.attempt:
            first = start.step + 1 if start else None  # slow: caches are cold, memory is being claimed
            last = metrics[-_STEADY:]
            steady = [metric for metric in last if metric.step != first] or last
            _tell_pace(steady, seen)
    if seen.eval_loss is None:
        seen.eval_loss = windows.last_eval(ends)
    seen.warnings += windows.count(b'"k":"warn"')
    if windows.newer:
        problems.append(f"{attempt.events} was written by a newer Molting; not all of it can be read.")
    if start is None:
        return ends
    return start.step if ends is None else min(ends, start.step)


def _trend(metrics: list[events.Metric]) -> list[float | None]:
    """The mean loss of equal parts of the steps, in order: a curve without its noise. Empty parts are left out.

    A last loss that is not finite stands at the end as None.
    """
    first, last = metrics[0].step, metrics[-1].step
    parts: list[list[float]] = [[] for _ in range(_TREND)]
    for metric in metrics:
        if metric.loss is not None and first <= metric.step <= last:
            parts[(metric.step - first) * _TREND // (last - first + 1)].append(metric.loss)
    means: list[float | None] = [sum(part) / len(part) for part in parts if part]
    return [*means[: _TREND - 1], None] if metrics[-1].loss is None else means


def _score(run: RunDir) -> float | None:
    """Of the last complete grading, out of 10. Read again only when a sheet or a grade file has changed."""
    if not run.grades.is_dir():
        return None
    from . import grades, sheets  # most runs have no grades, and the app's first screen stands sooner without

    files = [*sheets.listed(run), *grades.listed(run)]
    stats = tuple((str(file), found.st_size, found.st_mtime_ns) for file in files for found in [file.lstat()])
    return _score_of(str(run.path), stats) if stats else None


@functools.lru_cache(maxsize=1024)
def _score_of(path: str, stats: tuple[tuple[str, int, int], ...]) -> float | None:
    from . import grading

    found = grading.latest(grading.of_run(RunDir(Path(path)))[0])
    return grading.result(found).score if found else None


def _tell_pace(metrics: list[events.Metric], seen: Summary) -> None:
    """The time left and the rates, from these steps alone: loading and evaluating are not in their seconds."""
    seconds = sum(metric.seconds for metric in metrics)
    presented, computed = sum(metric.presented for metric in metrics), sum(metric.computed for metric in metrics)
    seen.eta = seconds / len(metrics) * max(0, seen.steps - seen.step)
    if seconds > 0:
        seen.rows_rate = sum(metric.rows for metric in metrics) / seconds
        seen.token_rate = presented / seconds if presented else None
    seen.shared = max(0.0, 1 - computed / presented) if presented else None


def read_small(path: Path) -> bytes:
    """A plain file of at most 1 MiB. FileNotFoundError, or MoltingError for anything else in its place."""
    return read_plain(path, _SMALL)


def newest_first(summaries: Iterable[Summary]) -> list[Summary]:
    """Live runs first, then by the time they began, newest first."""
    return sorted(summaries, key=lambda each: (each.live, each.started or 0.0), reverse=True)
