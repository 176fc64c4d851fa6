"""What the app begins with besides the list of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.contract.rows import DataRequest
    from engine.contract.rundir import RunDir

    from .services.grades import Wanted


@dataclass(frozen=True)
class Begin:
    """A run to watch, rows, a run to chat with, answers to grade (None: asked for first), or a batch to curate."""

    show: RunDir | None = None
    data: DataRequest | None = None
    chat: RunDir | None = None
    grade: tuple[RunDir, Wanted | None] | None = None
    curate: tuple[RunDir, str] | None = None
