"""Real processes that grade, killed by SIGKILL at any moment: what was shown as saved is there, and goes on."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.contract import grades, slots
from engine.contract.rundir import RunDir
from molting_tui.services.grades import sheet_to_grade
from molting_tui.state.grading_form import Form
from tests.support import killed_grading
from tests.support.graded import graded_run
from tests.support.terminal import ROOT, molting

KILLS, APPS = 200, 5
_SAVED = re.compile(r"item (\d+)/12.*saved (\d\d:\d\d:\d\d)")


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return graded_run(tmp_path / "runs")[0]


def test_two_hundred_processes_killed_while_they_grade_lose_nothing(run: RunDir) -> None:
    argv = [sys.executable, killed_grading.__file__, str(run.path), str(KILLS), "7"]
    done = subprocess.run(argv, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=240)
    assert done.returncode == 0, done.stderr
    keys = int(re.fullmatch(r"200 kills, (\d+) keys\n", done.stdout)[1])
    assert keys > KILLS  # they were killed while they wrote, not before


def test_the_app_killed_on_a_terminal_goes_on_at_the_same_cell(run: RunDir) -> None:
    lot = random.Random(7)
    for turn in range(APPS):
        with molting("grade", "rhea", "--rater", "Ana", runs=run.path.parent, TZ="UTC") as terminal:
            terminal.wait_for("item ")
            if turn:
                terminal.wait_for(cells_of(form_of(run)))
            for _ in range(lot.randrange(4, 14)):
                terminal.press(lot.choice(["0", "1", "2", "2", "1", "\r", "\x7f", "f"]))
                terminal.read(lot.uniform(0.0, 0.06))
            terminal.process.kill()
            terminal.process.wait()
            seen = _SAVED.search(terminal.text())
        form = form_of(run)
        if seen:
            last = time.strftime("%H:%M:%S", time.gmtime(form.events[-1].t))
            assert int(seen[1]) <= form.settled + 1 and seen[2] <= last


def form_of(run: RunDir) -> Form:
    """The form as the file on the disk makes it."""
    recorded = grades.read(run.grades / "ana-1.jsonl")
    return Form(recorded.opened, slots.slots(sheet_to_grade(run), recorded.opened), events=recorded.events)


def cells_of(form: Form) -> str:
    """The levels as the form shows them: what comes next is `_`."""
    here = form.dimension.id if form.dimension else ""
    levels = ((each.id, form.grade.levels.get(each.id)) for each in form.rubric.dimensions)
    return "  ".join(
        f"{name} {'_' if name == here else '·'}" if level is None else f"{name} {level}" for name, level in levels
    )
