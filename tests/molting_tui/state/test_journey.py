"""Where a run stands, what comes next, and that it fits into one line."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len

from engine.contract.summary import Summary
from molting_tui import actions
from molting_tui.state.journey import STEPS, Traces, before, journey, strip

TRAINED = {"weights": True, "proof": "effective"}


def run(state: str = "finished", **about: Any) -> Summary:
    return Summary(id="rhea-1", path="/runs/rhea-1", name="rhea", state=state, **about)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "traces", "child", "now", "action"),
    [
        (run("queued", owned=True), {}, "", "train", "open"),
        (run("training", owned=True), {}, "", "train", "open"),
        (run("failed"), {}, "", "train", "resume"),
        (run("training", owned=False), {}, "", "train", "resume"),
        (run(), {"weights": True}, "", "proof", "prove"),
        (run(), {"weights": True, "proof": "too_weak"}, "", "proof", "why"),
        (run(), {"weights": True, "proof": "not_applied", "chatted": True}, "", "proof", "why"),
        (run(), TRAINED, "", "chat", "chat"),
        (run(), TRAINED | {"chatted": True}, "", "grade", "grade"),
        (run(), TRAINED | {"chatted": True, "grading": True}, "", "grade", "grade"),
        (run(score=6.0), TRAINED, "", "report", "report"),  # chat was passed over
        (run(score=6.0), TRAINED | {"report": True}, "", "next cycle", "edit"),
        (run(score=6.0), {"weights": True, "report": True}, "", "next cycle", "edit"),
        (run(score=6.0), TRAINED | {"report": True}, "rhea two", "", ""),
        (run(score=2.9), {}, "", "report", "report"),  # imported: nothing was trained here
        (run(), {}, "", "grade", "grade"),
    ],
)
def test_the_next_step(seen: Summary, traces: dict[str, Any], child: str, now: str, action: str) -> None:
    found = journey(seen, Traces(**traces), child)
    assert (found.now, found.action) == (now, action)
    assert {"init", "rows", "doctor"} <= found.done <= set(STEPS) and found.now not in found.done
    assert not action or action in actions.BY_ID


def test_what_it_says() -> None:
    assert journey(run("interrupted", resumable=True), Traces()).said == "interrupted: continue it"
    assert journey(run("failed"), Traces()).said == "failed: start it again"
    assert journey(run(), Traces(**TRAINED, chatted=True, grading=True)).said == "go on grading"
    assert journey(run(score=1.0), Traces(), "rhea two").said == "it goes on as rhea two"


@pytest.mark.parametrize("width", [40, 60, 80, 110, 200])
def test_the_strip_is_one_line_with_the_next_step_and_its_key(width: int) -> None:
    found = journey(run(), Traces(**TRAINED))
    said = "".join(part for part, _ in strip(found, "J", width))
    assert "▸ chat" in said and said.endswith("J talk to it")
    assert cell_len(said) <= width
    assert ("✓ init" in said) == (width >= 110)  # done steps lose their names before open ones
    assert ("· report" in said) == (width >= 80)


def test_without_a_key_it_only_says_where_the_run_stands() -> None:
    said = "".join(part for part, _ in strip(journey(run("training", owned=True), Traces()), "", 120))
    assert "▸ train" in said and said.endswith("  training: watch it") and "J" not in said


def test_before_a_run_there_are_rows_the_doctor_and_the_start() -> None:
    assert (before(False, True).now, before(False, None).action) == ("rows", "")
    assert (before(True, None).now, before(True, None).action) == ("doctor", "check")
    assert before(True, False).now == "doctor" and "error" in before(True, False).said
    ready = before(True, True)
    assert (ready.now, ready.action) == ("train", "start") and ready.done == {"init", "rows", "doctor"}


@pytest.mark.parametrize("width", [10, 40])
def test_a_long_name_does_not_break_the_line(width: int) -> None:
    found = journey(run(score=1.0), Traces(), "界" * 100)
    assert sum(cell_len(said) for said, _ in strip(found, "", width)) <= width
