"""One run at a glance, read cheaply: the spec, the lifecycle, and both ends of the event logs.

Nothing here raises for a damaged run: what is wrong with it stands in `Summary.problem`.
"""

from __future__ import annotations

import functools
import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from . import durable, events, lifecycle, locks, processes
from .errors import MoltingError
from .lifecycle import Shown, Transition
from .rundir import AttemptDir, RunDir
from .spec import Spec

WINDOW = 64 << 10  # bytes read from either end of an event log
_SEARCH = 1 << 20  # bytes looked through for the last evaluation, which is rarer than steps
_TREND = 20
_SMALL = 1 << 20  # a spec or lifecycle longer than this is not one
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


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
    trend: list[Union[float, None]] = []  # the last losses, oldest first; None where one was not finite
    eta: Union[float, None] = None
    checkpoint: Union[int, None] = None  # step of the newest checkpoint that looks whole
    resumable: bool = False
    base: str = ""
    method: str = ""
    parent: str = ""
    started: Union[float, None] = None
    changed: Union[float, None] = None  # last transition
    warnings: int = 0  # in the parts of the log that were read
    owned: Union[bool, None] = None  # whether a supervisor lives; None: it ran on another host
    problem: str = ""

    @property
    def live(self) -> bool:
        return self.state in lifecycle.LIVE

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
    _read_spec(run, seen, problems)
    try:
        _read_lifecycle(run, seen, problems)
        _read_events(run, seen, problems)
        _judge(run, seen)
    except MoltingError as error:
        problems.append(error.message)
    except OSError as error:
        problems.append(f"{error.filename or run.path} cannot be read: {error.strerror}.")
    seen.problem = " ".join(problems)
    return seen


def load_spec(run: RunDir) -> Spec:
    """The frozen spec of `run`, the paths of its inputs made absolute. MoltingError when it cannot be read."""
    try:
        known = _known(msgspec.toml.decode(read_small(run.spec)), Spec)
        return _located(run, msgspec.convert(known, Spec))
    except OSError as error:
        raise MoltingError(f"{run.spec} cannot be read: {error.strerror}.") from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MoltingError(f"{run.spec} is damaged: {error}.") from None


def _known(table: Any, struct: type[msgspec.Struct]) -> Any:
    """`table` without the keys that `struct` does not have: a run outlives the version that froze it."""
    if not isinstance(table, dict):
        return table
    sections = _sections(struct)
    kept = {key: value for key, value in table.items() if key in sections}
    return {key: _known(value, inner) if (inner := sections[key]) else value for key, value in kept.items()}


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
    evaluation = msgspec.structs.replace(spec.evaluation, probes=place(spec.evaluation.probes))
    return msgspec.structs.replace(spec, data=data, evaluation=evaluation)


def name_of(run: RunDir) -> str:
    """The display name of `run`, its id where it has none or the spec is damaged. For `rundir.find`."""
    try:
        return load_spec(run).name or run.id
    except MoltingError:
        return run.id


def transitions(run: RunDir) -> tuple[list[Transition], int]:
    """All transitions so far, and how many complete lines are damaged and were passed over."""
    try:
        raw = _whole_lines(read_small(run.lifecycle))
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


def _read_spec(run: RunDir, seen: Summary, problems: list[str]) -> None:
    try:
        spec = load_spec(run)
    except MoltingError as error:
        problems.append(error.message)
        return
    seen.name = spec.name or run.id
    seen.base, seen.method, seen.parent = spec.model.base, spec.method.kind, spec.parent
    seen.steps = spec.training.max_steps


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
    seen.state = lifecycle.shown(seen.state, owner_alive=seen.owned)
    seen.checkpoint = newest_checkpoint(run)
    seen.resumable = seen.state in {"interrupted", "failed", "lost"} and seen.checkpoint is not None
    if seen.state != "training":
        seen.eta = None


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
        windows = _Windows.read(attempt.events)
    except FileNotFoundError:
        return ends
    start = next((event for event in _decoded(windows.head) if isinstance(event, events.Start)), None)
    metrics = [event for event in _decoded(windows.tail) if isinstance(event, events.Metric)]
    metrics = [metric for metric in metrics if ends is None or metric.step <= ends][-_TREND:]
    if start and ends is None:
        seen.step, seen.steps = start.step, start.steps
    if metrics and not seen.trend:
        seen.step, seen.loss = metrics[-1].step, metrics[-1].loss
        seen.trend = [metric.loss for metric in metrics]
        if attempt.number == seen.attempt:
            first = start.step + 1 if start else None  # slow: caches are cold, memory is being claimed
            steady = [metric for metric in metrics if metric.step != first] or metrics
            seen.eta = _pace(steady) * max(0, seen.steps - seen.step)
    if seen.eval_loss is None:
        seen.eval_loss = windows.last_eval(ends)
    seen.warnings += windows.count(b'"k":"warn"')
    if windows.newer:
        problems.append(f"{attempt.events} was written by a newer Molting; not all of it can be read.")
    if start is None:
        return ends
    return start.step if ends is None else min(ends, start.step)


def _pace(metrics: list[events.Metric]) -> float:
    """Seconds a step, of these steps alone: loading and evaluating are not in it."""
    return sum(metric.seconds for metric in metrics) / len(metrics)


class _Windows:
    """The two ends of one event log, and the search for what is rare in it."""

    def __init__(self, head: bytes, tail: bytes, before: bytes) -> None:
        self.head = head  # whole lines
        self.tail = tail  # whole lines; all of the log where it is short
        self._before = before  # what lies before the tail, up to a limit
        self.newer = False
        for line in head.split(b"\n")[:1]:
            self.newer = _is_newer(line)

    @classmethod
    def read(cls, path: Path) -> _Windows:
        fd = _open_plain(path)
        try:
            size = os.fstat(fd).st_size
            head = _whole_lines(os.pread(fd, WINDOW, 0))
            begin = max(len(head), size - _SEARCH)
            rest = _whole_lines(os.pread(fd, size - begin, begin))
        finally:
            os.close(fd)
        if begin > len(head):
            rest = rest[rest.find(b"\n") + 1 :]  # its first line began before the window
        everything = head + rest
        cut = everything.find(b"\n", len(everything) - WINDOW) + 1 if len(everything) > WINDOW else 0
        return cls(head, everything[cut:], everything[:cut])

    def count(self, needle: bytes) -> int:
        return (self._before + self.tail).count(needle)

    def last_eval(self, ends: int | None) -> float | None:
        """The last evaluation's loss, of those up to step `ends`."""
        text = self._before + self.tail
        at = len(text)
        while (at := text.rfind(b'"k":"eval"', 0, at)) >= 0:
            line = text[text.rfind(b"\n", 0, at) + 1 : text.find(b"\n", at)]
            for event in _decoded(line):
                if isinstance(event, events.Eval) and (ends is None or event.step <= ends):
                    return event.loss
        return None


def _decoded(lines: bytes) -> Iterator[events.AnyEvent]:
    """The events that can be read; damage is shown where a log is followed, not here."""
    for line in lines.split(b"\n"):
        if not line:
            continue
        try:
            event = events.decode(line)
        except (ValueError, events.NewerVersion):
            continue
        if event is not None:
            yield event


def _is_newer(line: bytes) -> bool:
    try:
        events.decode(line)
    except events.NewerVersion:
        return True
    except ValueError:
        return False
    return False


def _whole_lines(raw: bytes) -> bytes:
    """Up to the last newline: what follows it is still being written."""
    return raw[: raw.rfind(b"\n") + 1]


def _open_plain(path: Path) -> int:
    """A descriptor of a plain file. A symlink, a FIFO or a device in its place is refused, never waited for."""
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise MoltingError(f"{path} cannot be read: {error.strerror}.") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise MoltingError(f"{path} is not a plain file.")
    return fd


def read_small(path: Path) -> bytes:
    """A plain file of at most 1 MiB. OSError, or MoltingError for anything else in its place."""
    fd = _open_plain(path)
    try:
        raw = os.pread(fd, _SMALL + 1, 0)
    finally:
        os.close(fd)
    if len(raw) > _SMALL:
        raise MoltingError(f"{path} is far too large to be what it should be.")
    return raw


def newest_first(summaries: Iterable[Summary]) -> list[Summary]:
    """Live runs first, then by the time they began, newest first."""
    return sorted(summaries, key=lambda each: (each.live, each.started or 0.0), reverse=True)
