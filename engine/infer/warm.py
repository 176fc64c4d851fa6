"""What is in memory: base models with the adapters on them, loaded once and used by whoever asks next."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch

from engine.contract.errors import MoltingError
from engine.contract.spec import Spec
from engine.data.encode import Encoder
from engine.data.of_spec import encoder_for
from engine.models.adapters import AttachReport, attach_adapter
from engine.models.build import LoadOptions, build
from engine.models.files import Progress
from engine.models.fingerprint import fingerprint
from engine.models.load import LoadedModel, load_base

from . import fit
from .prefix import Prefixes
from .voices import Voices

ADAPTERS = 8  # on one base; the one that was not used for longest makes room
ENCODERS = 8  # each has a process of its own that renders its template

_Stamp = tuple[tuple[str, int, int, int], ...]  # name, inode, size and time of files: a changed one has another


@dataclass
class Resident:
    """One model in memory. `model` is a PeftModel once it has adapters; `used` is monotonic time."""

    folder: Path
    options: LoadOptions
    loaded: LoadedModel
    model: Any
    used: float = 0.0
    adapters: dict[tuple[Path, _Stamp], tuple[str, AttachReport]] = field(default_factory=dict)
    made: int = 0
    prefixes: Prefixes = field(default_factory=Prefixes)


class Warm:
    """Models by what they were made of. Not for several threads at once."""

    def __init__(self) -> None:
        self._models: dict[tuple[Any, ...], Resident] = {}
        self._encoders: dict[tuple[Path, bytes], Encoder] = {}

    @property
    def residents(self) -> list[Resident]:
        return list(self._models.values())

    def base(self, folder: Path, options: LoadOptions, cache: Path, progress: Progress, *, use: str = "") -> Resident:
        """A base model, loaded when it is not there yet. `use` sets models apart that must not be the same object.

        Raises MoltingError where it does not fit or cannot be loaded.
        """
        return self._resident(
            (use, folder, fingerprint(folder), repr(options)),
            folder,
            options,
            lambda: load_base(folder, options, progress, cache=cache),
        )

    def whole(self, learned: Path, options: LoadOptions, like: LoadedModel, progress: Progress) -> Resident:
        """A fully fine-tuned model. Not by `load_base`: our weights have no tokenizer, and their seal was checked."""

        def load() -> LoadedModel:
            progress("loading the trained model", None, None)
            try:
                model, quantization = build(learned, options, like.device, like.precision)
            except (torch.OutOfMemoryError, MemoryError) as error:
                raise MoltingError(
                    f"The base and the trained model do not fit into memory together on {like.device}.",
                    remedy="Full fine-tuning is compared with both in memory: end what else uses it, or use the CPU.",
                    reason="oom_host" if like.device == "cpu" else "oom_cuda",
                ) from error
            return LoadedModel(
                model=model,
                precision=like.precision,
                quantization=quantization,
                device=like.device,
                seconds=0.0,
                peak_bytes=0,
                final_bytes=0,
                reserved_bytes=0,
                weight_bytes=model.get_memory_footprint(),
                warnings=[],
            )

        return self._resident(("whole", learned, stamp(learned)), learned, options, load)

    def merged(self, folder: Path, options: LoadOptions, learned: Path, cache: Path, progress: Progress) -> Resident:
        """A copy of the base, never a quantised one, with an adapter merged into it."""

        def load() -> LoadedModel:
            loaded = load_base(folder, options, progress, cache=cache)
            progress("merging the adapter", None, None)
            tuned, _ = attach_adapter(loaded.model, learned)
            loaded.model = tuned.merge_and_unload(safe_merge=True).eval()
            return loaded

        return self._resident(("merged", folder, repr(options), learned, stamp(learned)), folder, options, load)

    def adapter(self, base: Resident, learned: Path) -> tuple[str, AttachReport]:
        """The name, on that base, of the adapter in `learned`. Raises MoltingError where it does not fit."""
        key = (learned, stamp(learned))
        if key in base.adapters:
            base.adapters[key] = base.adapters.pop(key)  # the newest stands last
            return base.adapters[key]
        while len(base.adapters) >= ADAPTERS:
            oldest = next(iter(base.adapters))
            base.model.delete_adapter(base.adapters.pop(oldest)[0])
        base.made += 1
        name = f"adapter-{base.made}"
        base.model, report = attach_adapter(base.model, learned, name=name)
        base.adapters[key] = name, report
        return name, report

    def knows(self, learned: Path) -> bool:
        """Whether exactly these weights are in memory, so that their hashes were judged already."""
        key = (learned, stamp(learned))
        return any(key in resident.adapters for resident in self._models.values()) or ("whole", *key) in self._models

    def encoder(self, spec: Spec, folder: Path) -> Encoder:
        """The encoder of a run, made once: tokenizer and template take tenths of a second."""
        key = (folder, msgspec.json.encode(spec))
        if key not in self._encoders:
            while len(self._encoders) >= ENCODERS:
                del self._encoders[next(iter(self._encoders))]
            self._encoders[key] = encoder_for(spec, folder)
        return self._encoders[key]

    def clear(self) -> None:
        """Let go of everything, and give the memory back to the machine."""
        self._models.clear()
        self._encoders.clear()
        _give_back()

    def _resident(
        self, key: tuple[Any, ...], folder: Path, options: LoadOptions, load: Callable[[], LoadedModel]
    ) -> Resident:
        if key not in self._models:
            self._make_room(folder, options)
            loaded = load()
            self._models[key] = Resident(folder, options, loaded, loaded.model)
        self._models[key].used = time.monotonic()
        return self._models[key]

    def _make_room(self, folder: Path, options: LoadOptions) -> None:
        """What was not used for longest goes first; what this question has loaded already stays."""
        while True:
            try:
                return fit.require_room(folder, options)
            except MoltingError:
                idle = [key for key, resident in self._models.items() if time.monotonic() - resident.used > 5.0]
                if not idle:
                    raise
                del self._models[min(idle, key=lambda key: self._models[key].used)]
                _give_back()


def stamp(learned: Path) -> _Stamp:
    """Changes whenever a file in the folder does: weights may be written anew under an old seal."""
    files = sorted(file for file in learned.iterdir() if file.is_file())
    return tuple((file.name, (found := file.stat()).st_ino, found.st_size, found.st_mtime_ns) for file in files)


def voices_of(resident: Resident, name: str) -> Voices:
    """Base and one adapter of a resident model, the adapter active."""
    voices = Voices(resident.model, name=name)
    voices.activate()
    return voices


def _give_back() -> None:
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
