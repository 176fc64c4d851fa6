"""Runs that are jobs of Slurm, on screen: from a login node, where their supervisor cannot be seen."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot

from engine.contract import processes, slurm
from molting_tui.app import MoltingApp
from molting_tui.widgets.run_table import RunTable
from tests.support.pilot import drive, shown, until
from tests.support.runs import Recorded, make_run, own


@pytest.fixture(autouse=True)
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slurm's answer is this file; a line is added to `asked` for each question."""
    folder, queue = tmp_path / "bin", tmp_path / "queue"
    folder.mkdir()
    (folder / "squeue").write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\nexec cat {queue}\n")
    (folder / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("MOLTING_RUNTIME_DIR", str(tmp_path / "local"))
    return queue


def sent(runs: Path, name: str, job: str, *states: str) -> None:
    """A run that was sent as `job`, its supervisor on a node."""
    run = make_run(runs, name)
    Recorded(run, time.time() - 100).state(*states)
    os.utime(run.lifecycle, (time.time() - 90, time.time() - 90))
    own(run, processes.Identity(host="n1", boot_id="b", pid=1, start_time=1))
    run.slurm.write_bytes(msgspec.json.encode(slurm.Sent(job=job, t=time.time() - 100)))


def test_each_run_is_shown_as_its_job_is_and_slurm_is_asked_once(tmp_path: Path, squeue: Path) -> None:
    runs = tmp_path / "runs"
    live = ("queued", "starting", "training")
    sent(runs, "waits", "41", "queued")
    sent(runs, "works", "42", *live)
    sent(runs, "fell", "43", *live)
    squeue.write_text(
        f"41|PENDING|Resources|{time.time() + 3600:.0f}|\n42|RUNNING|None|1|n[1-2]\n43|NODE_FAIL|None|1|n7\n"
    )

    async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: "✗ fell" in shown(app) or "lost" in shown(app))
        for name, expected in (("waits", "is pending: Resources"), ("fell", "of it failed"), ("works", "on n[1-2]")):
            await select(app, pilot, name)
            await until(pilot, lambda expected=expected: expected in " ".join(shown(app).split()))  # type: ignore[misc]

    drive(runs, look, size=(160, 40))
    assert (tmp_path / "asked").read_text().count("asked") <= 3, "not more than every five seconds"


async def select(app: MoltingApp, pilot: Pilot[Any], name: str) -> None:
    """Move the cursor to the run of this name."""
    table = app.screen.query_one(RunTable)
    await pilot.press("home")
    for _ in range(5):
        if app.runs.name(table.cursor or "") == name:
            return
        await pilot.press("down")
    raise AssertionError(f"no {name}: {shown(app)}")
