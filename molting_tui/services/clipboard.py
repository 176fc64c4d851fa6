"""Copying from a program on another machine: through the terminal where it listens, and to a file always."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from engine.contract import durable

_PATIENCE = 2.0


def keep(text: str, folder: Path) -> Path:
    """Write `text` to `copied.txt` in `folder`, and into tmux's own buffer inside tmux. MoltingError if it cannot.

    OSC 52 needs a terminal that allows it and does not pass tmux by itself; a file is always there.
    """
    path = folder / "copied.txt"
    try:
        durable.make_private_dir(folder)
        durable.write_replace(path, text.encode("utf-8", "replace"))
    except OSError as error:
        raise durable.explain(error, f"write the copy to {path}") from None
    if os.environ.get("TMUX") and (tmux := shutil.which("tmux")):
        # -w hands it on to the terminal's clipboard as well.
        run = [tmux, "load-buffer", "-w", "-"]
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(run, input=path.read_bytes(), timeout=_PATIENCE, check=False, capture_output=True)
    return path
