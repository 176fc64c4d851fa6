"""Real Python processes to kill."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start(code: str, *args: object, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Run `code` in a new interpreter that can import the project; its arguments are sys.argv[1:]."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | (env or {}),
    )


def line(process: subprocess.Popen[str]) -> str:
    """The next line it prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    """Kill -9, wait, and close its pipes."""
    process.kill()
    process.communicate()


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether `condition` comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
