"""The verb `demo-model`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.contract import calls

from .demo import ensure_demo_model


def demo_model(request: calls.DemoModelRequest, tell: Callable[[calls.Line], None]) -> calls.DemoModel:
    """Fetch and convert the demo model, telling how far it is."""

    def progress(phase: str, done: float | None = None, total: float | None = None) -> None:
        tell(calls.Progress(phase=phase, done=done or 0.0, total=total or 0.0))

    return calls.DemoModel(path=str(ensure_demo_model(Path(request.models), progress)))
