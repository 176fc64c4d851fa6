"""Whether the model loads and trains in the memory that is free now, and what would make it fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.contract.calls import Change, Finding
from engine.contract.errors import MoltingError
from engine.contract.spec import Spec
from engine.models.memory import host_free
from engine.train import device, memory, ours
from engine.train.batch import Row
from engine.train.forecast import ESTIMATE_MAY_BE, Forecast

NEAR = 0.9  # share of what is free from which on a forecast is worth a warning
SHORTER = (0.75, 0.5, 0.25)

Settle = Callable[[Spec], "tuple[Spec, Forecast]"]
"""What the "auto"s of a spec become, and the forecast that follows."""


@dataclass(frozen=True)
class Room:
    """`free` bytes on each device that will train, named as in a sentence."""

    free: int
    device: str
    more: int = 1  # devices of this kind that a run could take


@dataclass(frozen=True)
class Way:
    """Changes that might make a run fit, and what they cost in words."""

    changes: tuple[tuple[str, object], ...]
    cost: str


def suffices(spec: Spec, room: Room, settle: Settle, longest: int) -> Iterator[Finding]:
    """`no-memory` where loading or training will not fit, `little-memory` where it nearly does not.

    Every change that is offered was forecast too: it fits.
    """
    settled, made = settle(spec)
    if made.peak <= NEAR * room.free:
        return
    fits = made.peak <= room.free
    ways = [] if fits else list(_that_fit(settled, room, settle, longest))
    what = "Loading the model" if made.load_peak >= made.train_peak else "Training"
    near = f"{what} will take {_gb(made.peak)} of the {_gb(room.free)} that are free on {room.device}."
    yield Finding(
        id="little-memory" if fits else "no-memory",
        severity="warning" if fits else "error",
        message=near if fits else f"{what} needs {_gb(made.peak)}, and {_gb(room.free)} are free on {room.device}.",
        evidence=by_component(made),
        why="It fits with little to spare; whatever starts beside it may end it." if fits else "",
        remedy=_remedy(ways, room) if not fits else "Leave the device alone while it trains.",
        fix=[Change(key=key, value=value) for key, value in ways[0][0].changes] if ways else [],
    )


def by_component(made: Forecast) -> str:
    """The forecast in words, largest first; what is less than a hundredth is left out."""
    kept = " with gradient checkpointing" if made.checkpointing else ""
    parts = {
        "libraries" if made.device == "cpu" else "CUDA": made.runtime,
        "weights": made.weights,
        "adapter": made.adapter,
        "gradients": made.gradients,
        "optimizer": made.optimizer,
        f"activations{kept}": made.activations,
        "logits": made.logits,
        "the largest layer out of 4 bits": made.dequantised,
        "lost between allocations": made.fragmentation,
    }
    if made.load_peak >= made.train_peak:
        parts = {"libraries": made.runtime, "weights": made.weights, "while they are converted": made.loading}
    largest = sorted(parts.items(), key=lambda part: -part[1])
    said = ", ".join(f"{name} {_gb(size)}" for name, size in largest if size > made.raw / 100)
    how = "" if made.counted else "; estimated, not counted"
    learned = f"; x {made.correction:.2f} from earlier runs here" if abs(made.correction - 1) > 0.005 else ""
    return f"{said}{learned}{how}"


def ways_to_fit(spec: Spec, longest: int, gpus: int = 1) -> Iterator[Way]:
    """Changes to a settled spec, those that cost least first: time, then exactness, then data and capacity."""
    training, method = spec.training, spec.method
    if method.kind == "qlora" and not method.double_quant:
        yield Way((("method.double_quant", True),), "costs next to nothing")
    checkpoint = ("training.gradient_checkpointing", True)
    small = _smaller_batches(spec)
    if training.gradient_checkpointing is not True:
        yield Way((checkpoint,), "a third slower")
    yield from (Way(each, "the same gradient, somewhat slower") for each in small)
    if training.gradient_checkpointing is not True:
        yield from (Way((checkpoint, *each), "the same gradient, a third slower") for each in small)
    if method.kind != "full":
        for count in range(_processes(spec) + 1, gpus + 1):
            yield Way((("devices", count),), f"the model split over {count} GPUs")
    slowest: tuple[tuple[str, object], ...] = () if training.gradient_checkpointing is True else (checkpoint,)
    slowest += small[-1] if small else ()
    if method.kind == "full":
        yield Way((("method.kind", "lora"),), "an adapter instead of all weights")
        yield Way((("method.kind", "lora"), *slowest), "an adapter instead of all weights, slower")
    if method.kind != "qlora":
        yield Way((("method.kind", "qlora"),), "the base rounded to 4 bits")
        yield Way((("method.kind", "qlora"), *slowest), "the base rounded to 4 bits, slower")
    quantised = () if method.kind == "qlora" else (("method.kind", "qlora"),)
    for share in SHORTER:
        length = max(16, int(share * longest) // 16 * 16)
        if length < longest:
            yield Way((*quantised, *slowest, ("data.max_length", length)), f"rows longer than {length} tokens are cut")
    if method.kind != "full" and method.rank > 4:
        yield Way((*quantised, *slowest, ("method.rank", 4)), "an adapter of less capacity")


def _smaller_batches(spec: Spec) -> list[tuple[tuple[str, object], ...]]:
    """As many rows a step as before, fewer of them at once."""
    training = spec.training
    if training.packing:
        now = int(training.batch_tokens)
        return [(("training.batch_tokens", tokens),) for tokens in (1024, 512, 256) if tokens < now]
    batches = (size for size in range(training.batch // 2, 0, -1) if training.batch % size == 0)
    return [
        (("training.batch", size), ("training.accumulation", training.accumulation * training.batch // size))
        for size in batches
    ]


def changed(spec: Spec, changes: Sequence[tuple[str, object]]) -> Spec:
    """The spec with other values, keys as `training.batch`."""
    for key, value in changes:
        section, _, name = key.rpartition(".")
        if not section:
            spec = msgspec.structs.replace(spec, **{name: value})
            continue
        part = msgspec.structs.replace(getattr(spec, section), **{name: value})
        spec = msgspec.structs.replace(spec, **{section: part})
    return spec


def _that_fit(spec: Spec, room: Room, settle: Settle, longest: int) -> Iterator[tuple[Way, Forecast]]:
    for way in ways_to_fit(spec, longest, room.more):
        _, made = settle(changed(spec, way.changes))
        if made.peak <= NEAR * room.free:
            yield way, made


def _remedy(ways: list[tuple[Way, Forecast]], room: Room) -> str:
    if not ways:
        return f"No setting makes it fit: take a smaller model, or free memory on {room.device}."
    told = [
        f"{' and '.join(f'{key} = {_toml(value)}' for key, value in way.changes)}: {_gb(made.peak)} ({way.cost})"
        for way, made in ways[:4]
    ]
    return "Any of these fits. " + "; ".join(told) + "."


def check(spec: Spec, folder: Path, rows: Sequence[Row]) -> Iterator[Finding]:
    """The same for a run on this machine: `rows` are those it trains on, none for a stream. The spec is resolved.

    Activations are estimated first, and counted (which imports torch, some seconds) only where that could matter.
    """
    gpus = device.visible_gpus()
    try:
        team = device.team(spec.devices)
    except MoltingError as error:
        yield Finding(id="no-such-device", severity="error", message=error.message, remedy=error.remedy)
        return
    gpu = gpus[0] if gpus else None
    room = _room(team, gpus)
    longest = max((len(row.input_ids) for row in rows), default=spec.data.max_length)
    forecaster = memory.Forecaster(
        folder,
        memory.worst_of(rows),
        device="cuda" if gpu else "cpu",
        name=gpu.name if gpu else "cpu",
        counting=False,
    )

    def settle(wanted: Spec) -> tuple[Spec, Forecast]:
        forecaster.world = _processes(wanted)
        return forecaster.settled(wanted, room.free)

    split, rough = settle(spec)
    if split.training.shard is True and spec.training.shard == "auto":
        yield _split(team.processes, room, rough)
    if rough.counted or rough.raw + (ESTIMATE_MAY_BE - 1) * rough.activations > memory.ROOM * room.free:
        forecaster.counting = True
    yield from suffices(spec, room, settle, longest)


def _room(team: device.Team, gpus: Sequence[device.Gpu]) -> Room:
    """What each process may fill: of the GPU with least, or its part of the host."""
    # Runs wait for one another, and a host gives way.
    if not team.gpus:
        free = (host_free() + ours.held("")) // team.processes
        return Room(free, "this machine" if team.processes == 1 else f"this machine for each of {team.processes}")
    taken = [gpu for gpu in gpus if gpu.uuid in team.names]
    least = min(taken, key=lambda gpu: gpu.free)
    name = least.name or "the GPU"
    return Room(least.free + ours.held(least.uuid), name if len(taken) == 1 else f"each {name}", more=len(gpus))


def _processes(spec: Spec) -> int:
    return len(spec.devices) if isinstance(spec.devices, list) else 1 if spec.devices == "auto" else int(spec.devices)


def _split(processes: int, room: Room, made: Forecast) -> Finding:
    return Finding(
        id="split-model",
        severity="note",
        message=f"The model does not fit on {room.device} whole, so it is split over the {processes} (FSDP): "
        f"{_gb(made.peak)} of {_gb(room.free)} there.",
        evidence=by_component(made),
        why="Each holds a part of every layer and fetches the rest while it computes; steps take longer.",
    )


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"
