"""The processes that train one run together: which of them this is, and the few words that they exchange.

Every process computes the same plan and the same rows; what they must agree on (a stop, a loss) goes through here.
With one process everything here does nothing, and torch is not touched.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Process `rank` of `world`; the first writes everything that is written."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.world > 1

    def total(self, *numbers: float, device: Any) -> list[float]:
        """The sums over all processes, the same to the bit in each."""
        if not self.several:
            return list(numbers)
        return self._reduced(numbers, device, "SUM")

    def most(self, number: float, device: Any) -> float:
        """The largest over all processes."""
        return self._reduced([number], device, "MAX")[0] if self.several else number

    def least(self, number: int) -> int:
        """The smallest over all processes; no device is touched for it."""
        return -int(self.most(-number, "cpu"))

    def any(self, *flags: bool, device: Any) -> list[bool]:
        """Of each flag whether any process raised it; asked at the same place by all."""
        if not self.several:
            return list(flags)
        return [value > 0 for value in self._reduced([float(flag) for flag in flags], device, "MAX")]

    def _reduced(self, numbers: Any, device: Any, how: str) -> list[float]:
        import torch
        from torch import distributed

        values = torch.tensor(numbers, dtype=torch.float64, device=device)
        distributed.all_reduce(values, getattr(distributed.ReduceOp, how))
        return values.tolist()

    def told(self, value: T) -> T:
        """What the first process says; the others' `value` is not looked at."""
        if not self.several:
            return value
        from torch import distributed

        said = [value if self.first else None]
        distributed.broadcast_object_list(said, src=0)
        return said[0]  # type: ignore[return-value]

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        if not self.several:
            return [value]
        from torch import distributed

        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, value)
        return found

    def wait(self) -> None:
        """Until all processes are here."""
        if self.several:
            from torch import distributed

            distributed.barrier()

    @contextlib.contextmanager
    def after_first(self) -> Iterator[None]:
        """The body runs in the first process, then in the others: what it made lies ready for them."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def leave(self) -> None:
        """Go when all are ready to: a process that ends early looks like one that died."""
        if self.several:
            from torch import distributed

            self.wait()
            distributed.destroy_process_group()


def of_environment() -> Ranks:
    """Who this process is, as torchrun says it; alone without torchrun."""
    return Ranks(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def take_device() -> None:
    """Of the GPUs that the run may use, let this process see its own alone. To be called before torch is imported.

    So "the GPU" means the same thing everywhere, whether a run has one or eight.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    visible = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each.strip()]
    if len(visible) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[local % len(visible)]
        os.environ["LOCAL_RANK"] = "0"


def meet(ranks: Ranks, patience: float) -> None:
    """Let the processes find each other. One that is not heard of for `patience` seconds ends the run."""
    if not ranks.several:
        return
    import torch
    from torch import distributed

    # What lies in the host's memory goes through it: no device is touched before there is room on it.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=datetime.timedelta(seconds=patience))
