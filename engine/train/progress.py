"""Where a run stands, as a checkpoint carries it besides the weights; and the steps that must not be gone on from."""

from __future__ import annotations

import msgspec

from engine.contract.errors import MoltingError
from engine.data.stream import Position


class Progress(msgspec.Struct, kw_only=True):
    """Our own counters, the best evaluation so far, and the place of a stream in its file."""

    step: int = 0
    tokens: int = 0
    world: int = 1  # processes that trained together
    batch_tokens: int = 0  # another packing would round otherwise, and a resumed run goes on to the bit
    best_loss: float | None = None
    best_step: int | None = None
    evaluations_since_best: int = 0
    losses: float = 0.0  # summed over the `lossy` steps since the last evaluation
    lossy: int = 0
    stream: Position | None = None

    def learned(self, loss: float) -> None:
        """One more step was made, with this loss."""
        self.losses, self.lossy = self.losses + loss, self.lossy + 1

    def evaluated(self) -> float | None:
        """The mean loss of the steps since the last evaluation, which begins to count anew; None without a step."""
        mean = self.losses / self.lossy if self.lossy else None
        self.losses, self.lossy = 0.0, 0
        return mean


def nothing_learned(step: int) -> MoltingError:
    return MoltingError(
        f"Step {step} had loss 0 and gradient 0: nothing was learned from its rows.",
        remedy="Look at what is learned in each row (`molting doctor SPEC`); rows longer than data.max_length lose "
        "their answers.",
        reason="bad_data",
    )


def not_finite(what: str, step: int, saved: int) -> MoltingError:
    kept = f"The weights of step {saved} are saved." if saved else "No checkpoint was saved before it."
    return MoltingError(
        f"The {what} of step {step} is not a finite number. {kept}",
        remedy="Try a lower training.learning_rate, more warm-up, or precision bf16 instead of fp16.",
        reason="nan_loss",
    )
