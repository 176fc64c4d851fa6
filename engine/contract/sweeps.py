"""A sweep: one spec, several values for some of its keys, and a run for each combination. Pure."""

from __future__ import annotations

import difflib
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from .safe import safe
from .spec import Spec, Sweep
from .summary import Summary
from .tomllines import KeyPath
from .tomlwords import expected_words, shown_value, unwrapped

MOST = 64  # runs; each waits in a small process of its own
PATHS = frozenset({"data.train", "data.heldout", "data.system_file", "evaluation.probes", "evaluation.ability_probes"})
_MAYBE_PATHS = frozenset({"model.base", "model.chat_template"})
_SHORT = {"learning_rate": "lr", "max_steps": "steps", "weight_decay": "decay", "target_modules": "modules"}
_OWN = frozenset({"name", "parent", "sweep", "launcher"})
_FROZEN = "written when frozen"
_NAMED = 3  # runs that one sentence names
_DEEPEST = 4  # tables in which a key of the spec can stand; what is deeper is none
# Keys of the data and the model that leave the measure alone: the same rows are held out, read as the same tokens.
_HARMLESS = frozenset({"data.train", "data.stream", "data.shuffle_buffer", "model.precision"})

Point = dict[str, Any]
"""What one run has of its own: dotted key -> value."""


def points(sweep: Sweep) -> list[Point]:
    """What each run of the sweep has of its own, in order; none where nothing is swept."""
    if not sweep.grid and not sweep.runs:
        return []
    grid = {key: values for _, key, values in _leaves(sweep.grid)}
    listed = [{key: value for _, key, value in _leaves(run)} for run in sweep.runs] or [{}]
    products = itertools.product(*grid.values())
    combined = [dict(zip(grid, values, strict=True)) for values in products]
    return [{**run, **point} for run in listed for point in combined]


def mistakes(spec: Spec) -> Iterator[tuple[KeyPath, str]]:
    """Everything wrong with the sweep of a spec: where, and a sentence. For `tomlcheck.load`."""
    sweep, found = spec.sweep, list[tuple[KeyPath, str]]()
    for path, key, values in _leaves(sweep.grid):
        here = ("sweep", "grid", *path)
        if key in _kinds() and not (isinstance(values, list) and values):
            said = "an empty list" if values == [] else shown_value(values)
            found.append((here, f"sweep.grid: {_safe(key)} is {said}; expected a list of values."))
            continue
        every = values if key in _kinds() else [None]
        found += [(here, said) for value in every for said in _wrong("sweep.grid", key, value)]
    for number, run in enumerate(sweep.runs):
        for path, key, value in _leaves(run):
            found += [(("sweep", "runs", number, *path), said) for said in _wrong("sweep.runs", key, value)]
    yield from found
    if not found:
        yield from _too_many(sweep)


def _wrong(where: str, key: str, value: Any) -> Iterator[str]:
    """What is wrong with one value of one key."""
    kind = _kinds().get(key)
    if kind is None:
        close = difflib.get_close_matches(key, _kinds(), 1) or _by_last_name(key)
        yield f"{where}: {_safe(key)} is not a key that can be varied.{f' Did you mean {close[0]}?' if close else ''}"
        return
    sound = not isinstance(value, float) or math.isfinite(value)
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        sound = False
    if not sound:
        yield f"{where}: {key} is {shown_value(value)}; expected {expected_words(inspect.type_info(kind))}."


def _by_last_name(key: str) -> list[str]:
    last = key.rpartition(".")[2]
    return [known for known in _kinds() if known.rpartition(".")[2] == last]


def _too_many(sweep: Sweep) -> Iterator[tuple[KeyPath, str]]:
    count = math.prod(len(values) for _, _, values in _leaves(sweep.grid)) * max(1, len(sweep.runs))
    if count > MOST:
        yield ("sweep",), f"The sweep would be {count:,} runs; {MOST} are the most. Leave some values out."
        return
    seen: list[Point] = []
    for point in points(sweep):
        if point in seen:
            yield ("sweep",), f"Two runs of the sweep are the same: {label(point)}."
            return
        seen.append(point)


def applied(spec: Spec, point: Point) -> Spec:
    """The spec of the run that has `point` of its own; no sweep is left in it. `point` was checked by `mistakes`."""
    values = msgspec.to_builtins(spec)
    values.pop("sweep", None)
    for key, value in point.items():
        *sections, name = key.split(".")
        table = values
        for section in sections:
            table = table[section]
        table[name] = value
    return msgspec.convert(values, Spec)


def label(point: Point) -> str:
    """A run's own values in a few words: `rank 8, lr 0.001`."""
    return ", ".join(f"{short(key)} {shown(key, value)}" for key, value in point.items())


def whose(some: list[Point], every: list[Point]) -> str:
    """`some` of the runs of a sweep in words: by the one value that they and no others have, else one by one."""
    if len(some) == len(every):
        return "all runs"
    for key, value in some[0].items():
        if [point for point in every if key in point and point[key] == value] == some:
            return label({key: value})
    more = f" and {len(some) - _NAMED} more" if len(some) > _NAMED else ""
    return "; ".join(map(label, some[:_NAMED])) + more


def short(key: str) -> str:
    """A key without its section, harmless and short: names of runs are cut where there is little room."""
    last = key.rpartition(".")[2]
    return _SHORT.get(last) or _safe(last)[:40]


def shown(key: str, value: Any) -> str:
    """One value, short and harmless; files without their folders."""
    if isinstance(value, str):
        return _safe(Path(value).name if key in PATHS or key == "model.base" else value)[:40]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return str(value).lower()
    return _safe(str(value))[:40]


def comparable(spec: Spec, swept: list[Point]) -> bool:
    """Whether the held-out loss of all these runs is a loss over the same tokens, so that one can be best."""
    keys = {key for point in swept for key in point}
    varied = {key for key in keys if any(point.get(key) != swept[0].get(key) for point in swept)}
    own_rows = bool(spec.data.heldout)  # else a share of the training rows is held out, drawn by the seed
    touching = {key for key in varied if key.startswith(("data.", "model.")) and key not in _HARMLESS}
    return not touching and (own_rows or not varied & {"data.train", "training.seed"})


def located(sweep: Sweep, folder: Path, exists: Callable[[Path], bool]) -> Sweep:
    """The sweep with the files that it names made absolute, for a spec that is read from another folder."""

    def place(key: str, value: Any) -> Any:
        if isinstance(value, list):
            return [place(key, each) for each in value]
        if not isinstance(value, str) or not value or key not in PATHS | _MAYBE_PATHS:
            return value
        path = folder / Path(value).expanduser()  # an absolute path stays itself
        names_a_file = key in PATHS or value.startswith((".", "/", "~")) or (len(value) < 200 and exists(path))
        return str(path) if names_a_file else value

    def placed(table: dict[str, Any]) -> dict[str, Any]:
        return {key: place(key, value) for _, key, value in _leaves(table)}

    return msgspec.structs.replace(sweep, grid=placed(sweep.grid), runs=[placed(run) for run in sweep.runs])


def keys(members: Iterable[Summary]) -> list[str]:
    """What differs between the runs of a sweep, in the order of the spec's own keys."""
    found = {key for run in members for key in run.changes}
    order = list(_kinds())
    return sorted(found, key=lambda key: (order.index(key) if key in order else len(order), key))


def best(members: Iterable[Summary]) -> str:
    """The id of the run with the lowest held-out answer loss: of those that finished, else of all so far. May be "".

    None is best where the losses are not of the same tokens.
    """
    measured = [run for run in members if run.eval_loss is not None]
    if not all(run.comparable for run in measured):
        return ""
    ended = [run for run in measured if run.state == "finished"]
    found = min(ended or measured, key=lambda run: run.eval_loss or 0.0, default=None)
    return found.id if found else ""


@functools.cache
def _kinds() -> dict[str, Any]:
    """Every key that can be varied -> its type."""
    return dict(_kinds_of(Spec, ""))


def _kinds_of(struct: type[msgspec.Struct], prefix: str) -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(struct):
        if not prefix and field.name in _OWN:
            continue
        info = inspect.type_info(field.type)
        plain, said = unwrapped(info), _description(info)
        if isinstance(plain, inspect.StructType):
            yield from _kinds_of(plain.cls, f"{prefix}{field.name}.")
        elif not said.startswith(_FROZEN):
            yield f"{prefix}{field.name}", field.type


def _description(kind: inspect.Type) -> str:
    return str((kind.extra_json_schema or {}).get("description", "")) if isinstance(kind, inspect.Metadata) else ""


def _leaves(table: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """(where it stands, dotted key, value): `"method.rank" = 8` and `method.rank = 8` mean the same."""
    for name, value in table.items():
        here = (*path, name)
        key = ".".join(here)
        if isinstance(value, dict) and key not in _kinds() and len(here) <= _DEEPEST:
            yield from _leaves(value, here)
        else:
            yield here, key, value


def _safe(text: str) -> str:
    return safe(text[:80], keep_newlines=False)
