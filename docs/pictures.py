"""Draws docs/img anew: `python docs/pictures.py`. The app itself, over recorded runs and a clock that stands still."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from molting_tui.app import MoltingApp  # noqa: E402
from molting_tui.look import Look  # noqa: E402
from tests.support.pilot import drive  # noqa: E402
from tests.support.scene import opened, standing_still, workshop  # noqa: E402

IMAGES = ROOT / "docs" / "img"
SIZE = (120, 40)
RUNS = Path("runs")  # relative, so that what is shown names no folder of this machine


def main() -> None:
    """Record the runs in a folder that goes away again, and draw each screen."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with standing_still(), workshop(RUNS):
            for screen in ("runs", "live"):
                _draw(screen)
        os.chdir(ROOT)


def _draw(screen: str) -> None:
    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await opened(app, pilot, screen)
        (IMAGES / f"{screen}.svg").write_text(_steady(app.export_screenshot(title="molting"), screen), "utf-8")

    drive(RUNS, play, size=SIZE, look=Look(rate=20.0))


def _steady(svg: str, name: str) -> str:
    """Without the number that rich makes up anew for each drawing."""
    return re.sub(r"terminal-\d+", f"molting-{name}", svg)


if __name__ == "__main__":
    main()
