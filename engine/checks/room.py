"""Whether there is room on the disk; for memory see `memory.py`."""

from __future__ import annotations

from collections.abc import Iterator

from engine.contract.calls import Finding

from .case import Case


def disk_suffices(case: Case) -> Iterator[Finding]:
    needed = 3 * case.weights if case.spec.method.kind == "full" else 500_000_000
    if case.disk_free < needed:
        yield Finding(
            id="no-disk",
            severity="error",
            message=f"Checkpoints may need {_gb(needed)}, and the disk has {_gb(case.disk_free)} free.",
            remedy="Free some space, or keep runs on another disk (`--runs DIR`).",
        )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


CHECKS = (disk_suffices,)
