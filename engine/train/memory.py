"""The memory of a run: what it will need, what is free, what it took, and what that teaches later forecasts."""

from __future__ import annotations

import contextlib
import hashlib
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import psutil

from engine.contract import durable, events
from engine.contract.errors import MoltingError
from engine.contract.spec import Spec
from engine.models.files import read_json_object
from engine.models.fingerprint import fingerprint
from engine.models.inspect import weight_files
from engine.models.memory import host_free, resident
from engine.models.safetensors_header import read_header

from . import batch, calibration, duration, plan
from .forecast import RUNTIME, Counted, Device, Forecast, Sizes, estimated, forecast, sizes

ROOM = 0.85  # share of free memory that a forecast may fill before gradient checkpointing is switched on
STEPS_READ = 2000  # of a run, to find its heaviest batch
BATCH_TOKENS = (batch.AUTO_TOKENS, 2048, 1024)  # tokens that pass through together, where the spec says "auto"
KEPT = 400  # counts that are kept on disk
# Resident on the host while a GPU trains: the libraries of CUDA come on top. Not measured here; runs correct it.
HOST_OF_CUDA = 1 << 30


def event(folder: Path, device: Any) -> events.Memory:
    """Bytes now; `folder` names the disk whose free space counts. `device` is a torch device."""
    host = psutil.Process().memory_info().rss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    said = events.Memory(host=host, host_peak=peak, disk_free=durable.free_bytes(folder))
    if device.type == "cuda":
        import torch

        said.device = torch.cuda.memory_allocated(device)
        said.device_peak = torch.cuda.max_memory_allocated(device)
        said.device_reserved = torch.cuda.memory_reserved(device)
    return said


def of_all(said: Sequence[events.Memory]) -> events.Memory:
    """Of the processes of one run: what the host holds for all of them, and the fullest device."""
    made = said[0]
    made.host, made.host_peak = sum(each.host for each in said), sum(each.host_peak for each in said)
    for name in ("device", "device_peak", "device_reserved"):
        known = [value for each in said if (value := getattr(each, name)) is not None]
        setattr(made, name, max(known, default=None))
    return made


def free(device: str) -> int:
    """Bytes free on `device`; of the host, what this process's control group still allows."""
    if device == "cpu":
        return host_free()
    import torch

    return int(torch.cuda.mem_get_info(device)[0])


@dataclass(frozen=True)
class Line:
    """A row of which only its length matters."""

    input_ids: Sequence[int]
    labels: Sequence[int]


Worst = Callable[[Spec], Sequence[batch.Row]]
"""The rows of the heaviest batch that a spec will make."""


@dataclass
class Forecaster:
    """Forecasts of one model and its variants: `forecaster(spec, checkpointing=…)`.

    With `counting`, activations are counted where they are not known yet (imports torch, then tenths of a second a
    shape); else they are estimated. `name` is "cpu" or the name of the GPU.
    """

    folder: Path
    worst: Worst
    device: Device = "cpu"
    name: str = "cpu"
    counting: bool = True
    world: int = 1  # processes that train together
    _known: dict[str, Counted] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sizes = sizes_of(self.folder)
        self._print = fingerprint(self.folder)
        self._config = _Config(read_json_object(self.folder / "config.json"))
        self._runs = calibration.load()
        self._known |= _kept_counts()

    def __call__(self, spec: Spec, *, checkpointing: bool) -> Forecast:
        rows = self.worst(spec)
        counted, exact = self._counted(spec, rows, checkpointing)
        made = forecast(
            self.sizes,
            spec,
            counted,
            device=self.device,
            checkpointing=checkpointing,
            longest=max((len(row.input_ids) for row in rows), default=0),
            exact=exact,
            runtime=calibration.runtime(self._runs, self.name),
            world=self.world,
        )
        learned = calibration.correction(self._runs, self.name, spec.method.kind, made.raw)
        return msgspec.structs.replace(made, correction=learned)

    def settled(self, spec: Spec, free: int) -> tuple[Spec, Forecast]:
        """What "auto" becomes where `free` bytes are free: as many tokens at once as fit, then checkpointing.

        Where several processes train and none of these fits, the model is split. The last is given where nothing fits.
        """
        spec = with_training(spec, packing=self.packs(spec))
        training = spec.training
        sizes = BATCH_TOKENS if training.batch_tokens == "auto" else (int(training.batch_tokens),)
        sizes = sizes if training.packing else sizes[:1]  # they count for packed rows alone
        ways = [] if training.gradient_checkpointing is True else [(each, False) for each in sizes]
        ways += [(sizes[-1], True)] if training.gradient_checkpointing else []
        for tokens, checkpointing in ways:
            tried = with_training(spec, batch_tokens=tokens)
            made = self(tried, checkpointing=checkpointing)
            if made.peak <= ROOM * free:
                break
        if made.peak > free and self._may_split(spec):
            return self.settled(with_training(spec, shard=True), free)
        return tried, made

    def _may_split(self, spec: Spec) -> bool:
        """Whether the model may be split over processes: only frozen weights can."""
        return self.world > 1 and spec.training.shard == "auto" and spec.method.kind != "full"

    def packs(self, spec: Spec) -> bool:
        """Whether rows will lie in one sequence."""
        if not spec.training.packing:
            return False
        longest = max((len(row.input_ids) for row in self.worst(with_training(spec, packing=False))), default=0)
        return not batch.unpackable(self._config, longest)

    def _counted(self, spec: Spec, rows: Sequence[batch.Row], checkpointing: bool) -> tuple[Counted, bool]:
        layout = laid_out(spec, rows)
        key = self._key(spec, layout, checkpointing)
        if key in self._known:
            return self._known[key], True
        if self.counting:
            with contextlib.suppress(Exception):  # an architecture that looks into its tensors cannot be counted
                from . import activations

                self._known[key] = activations.count(self.folder, spec, layout, checkpointing=checkpointing)
                _keep_counts(self._known)
                return self._known[key], True
        return estimated(self.sizes, layout.computed, len(layout.targets), checkpointing=checkpointing), False

    def _key(self, spec: Spec, layout: batch.Layout, checkpointing: bool) -> str:
        """Everything that the count depends on."""
        method = spec.method
        what = (
            *(self._print, spec.model.precision, method.kind == "full", method.rank, method.target_modules),
            *(method.dropout > 0, checkpointing, len(layout.lines), len(layout.lines[0]), len(layout.targets)),
            *layout.segments,
        )
        return hashlib.sha256(repr(what).encode()).hexdigest()[:24]


class _Config:
    """What `batch.unpackable` asks of a configuration, from its JSON."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.model_type = values.get("model_type", "")
        self.attention_dropout = values.get("attention_dropout", 0.0)
        self.layer_types = values.get("layer_types")
        self.use_bidirectional_attention = values.get("use_bidirectional_attention", False)
        self.rope_parameters = values.get("rope_parameters") or values.get("rope_scaling")
        self.max_position_embeddings = values.get("max_position_embeddings")
        self.original_max_position_embeddings = values.get("original_max_position_embeddings")
        uses = values.get("use_sliding_window", True)
        self.sliding_window = values.get("sliding_window") if uses else None


def with_training(spec: Spec, **changed: Any) -> Spec:
    """The spec with other values in [training]."""
    return msgspec.structs.replace(spec, training=msgspec.structs.replace(spec.training, **changed))


def laid_out(spec: Spec, rows: Sequence[batch.Row]) -> batch.Layout:
    """One batch as the trainer lays it out."""
    return batch.pack(rows) if spec.training.packing else batch.pad(rows, 0)


def sizes_of(folder: Path) -> Sizes:
    """What of the model in a sound folder decides its memory."""
    tensors = {name: each for file in weight_files(folder) for name, each in read_header(folder / file).items()}
    return sizes(read_json_object(folder / "config.json"), tensors)


def worst_of(rows: Sequence[batch.Row]) -> Worst:
    """The heaviest batch among those that training will make of `rows`; with none (a stream), full rows."""

    def worst(spec: Spec) -> Sequence[batch.Row]:
        if not rows:
            return _full_rows(spec)
        cut = [_cut(row, spec.data.max_length) for row in rows]
        per_step, seed = spec.rows_per_step, spec.training.seed
        return _heaviest(spec, lambda step: [cut[i] for i in plan.rows_of_step(step, len(cut), per_step, seed)])

    return worst


def worst_of_steps(of_step: Callable[[int], Sequence[batch.Row]]) -> Worst:
    """The same from the rows of each step, as a trainer has them."""
    return lambda spec: _heaviest(spec, of_step)


def _heaviest(spec: Spec, of_step: Callable[[int], Sequence[batch.Row]]) -> Sequence[batch.Row]:
    steps = min(int(spec.training.max_steps) or 1, STEPS_READ)
    return max((part for step in range(steps) for part in batch.parts(of_step(step), spec.training)), key=_tokens)


def _tokens(rows: Sequence[batch.Row]) -> int:
    return sum(len(row.input_ids) for row in rows)


def _cut(row: batch.Row, length: int) -> batch.Row:
    return row if len(row.input_ids) <= length else Line(row.input_ids[-length:], row.labels[-length:])


def _full_rows(spec: Spec) -> Sequence[batch.Row]:
    """Of a stream any row may be as long as it may be."""
    length = spec.data.max_length
    labels = [-100] * (length // 2) + [0] * (length - length // 2)
    count = max(spec.training.batch, min(spec.rows_per_step, batch.AUTO_TOKENS // length + 1))
    return batch.parts([Line([number] * length, labels) for number in range(count)], spec.training)[0]


@dataclass(frozen=True)
class Foreseen:
    """What a trainer foresaw: its forecast, the device's `name`, and what was resident before it loaded anything."""

    forecast: Forecast
    name: str
    spec: Spec
    host: int
    runtime: int
    parameters: int

    def plan(self) -> dict[str, int]:
        """For the Start event, in bytes."""
        said = {"host_forecast": self.host, "checkpointing": int(self.forecast.checkpointing)}
        return said | ({"device_forecast": self.forecast.peak} if self.forecast.device == "cuda" else {})

    def learn(self, said: events.Memory, pace: duration.Pace) -> None:
        """Keep forecast and measurement for later forecasts; a disk that refuses them is no reason to fail."""
        measured = said.host_peak
        if self.forecast.device == "cuda":
            # What torch reserved at its highest, and the context beside it, which is not torch's to count.
            measured = _reserved() + self.forecast.runtime
        # Runtime is of the host, so a GPU's forecast learns nothing from it.
        runtime = self.runtime if self.forecast.device == "cpu" else 0
        run = calibration.Run(
            device=self.name,
            method=self.spec.method.kind,
            forecast=self.forecast.raw,
            measured=measured,
            runtime=runtime,
            model=self.spec.model.fingerprint,
            parameters=self.parameters,
            settings=duration.settings(self.spec, checkpointing=self.forecast.checkpointing),
            tokens=pace.tokens,
            seconds=pace.seconds,
            beside=max(0.0, time.time() - psutil.Process().create_time() - pace.seconds),
        )
        with contextlib.suppress(OSError, MoltingError):
            calibration.append(run)


def foresee(
    folder: Path, spec: Spec, worst: Worst, device: str, *, free: int, runtime: int, world: int = 1
) -> tuple[Spec, Foreseen]:
    """In the trainer, once the spec is resolved: what batch_tokens and checkpointing become, and the forecast.

    `free` and `runtime` are bytes from before the model was loaded.
    """
    name = device_name(device)
    forecaster = Forecaster(folder, worst, device="cpu" if device == "cpu" else "cuda", name=name, world=world)
    spec, made = forecaster.settled(spec, free)
    host = host_forecast(made, forecaster.sizes)
    return spec, Foreseen(made, name, spec, host, runtime, forecaster.sizes.numbers)


def device_name(device: str) -> str:
    """ "cpu", or the name of the GPU as its driver says it."""
    if device == "cpu":
        return device
    import torch

    return str(torch.cuda.get_device_name(device))


def _reserved() -> int:
    import torch

    return int(torch.cuda.max_memory_reserved())


def host_forecast(run: Forecast, model: Sizes) -> int:
    """Bytes of host memory that the trainer will have at its highest."""
    return run.peak if run.device == "cpu" else RUNTIME["cpu"] + HOST_OF_CUDA + 8 * model.largest


def _counts_file() -> Path:
    return calibration.file().with_name("activations.json")


def _kept_counts() -> dict[str, Counted]:
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(_counts_file().read_bytes(), type=dict[str, Counted])
    return {}


def _keep_counts(counts: dict[str, Counted]) -> None:
    newest = dict(islice(reversed(counts.items()), KEPT))
    with contextlib.suppress(OSError):
        durable.make_private_dir(_counts_file().parent)
        durable.write_replace(_counts_file(), msgspec.json.encode(dict(reversed(newest.items()))))


def before_loading() -> int:
    """Bytes resident in this process now, with the libraries that training needs already imported."""
    return resident("VmRSS")
