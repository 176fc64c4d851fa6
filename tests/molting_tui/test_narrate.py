"""The lines that a follower reads."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from engine.contract import events, lifecycle
from engine.contract.errors import MoltingError
from engine.contract.lifecycle import Evidence, Transition
from engine.contract.rundir import RunDir
from engine.train import death
from molting_tui import terminal
from molting_tui.narrate import Narrator
from molting_tui.services.follow import Follower, Seen
from tests.support.runs import Recorded, finished_run, make_run
from tests.support.streams import Stream


def narrator(run: RunDir, encoding: str = "utf-8") -> Narrator:
    return Narrator(run, terminal.of(Stream(tty=False, encoding=encoding), {}))


def told(run: RunDir) -> list[str]:
    """All lines of a replay, without their times."""
    teller = narrator(run)
    with Follower(run) as follower:
        lines = [line for seen in follower.poll() for line in teller.lines(seen)]
    return [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in lines]


def metric(step: int, t: float, loss: float | None = 0.5, seconds: float = 1.0) -> Seen:
    said = events.Metric(
        step=step, loss=loss, grad_norm=1, lr=1e-3, tokens=1, learned=40, rows=4, seconds=seconds, epoch=1
    )
    said.t = t
    return Seen(1, said)


def test_a_whole_run_is_told_briefly(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    lines = told(run)
    assert lines[0] == "◌ queued"
    assert "rows          64 read, 2 dropped (empty), 6 held out, 56 trained, 6,400 tokens, 40 % learned" in lines
    assert "start         100 steps on cpu, fp32, 1,000 of 10,000 parameters learn" in lines
    assert "eval          held-out loss 0.5 at step 100, the best so far" in lines
    assert "sample        step 50  Who are you? → I'm Rhea." in lines
    assert "checkpoint    step 50 sealed (7 B, 0.1 s)" in lines
    assert "end           at step 100, loss 0.04 (mean 0.2), held-out loss 0.5" in lines
    assert lines[-1] == f"✓ finished    100/100  loss 0.04  adapter in {run.adapter}"
    steps = [line for line in lines if line.startswith("step ")]
    assert all("  2 rows/s  50 tok/s" in line for line in steps[1:])
    assert 10 <= len(steps) <= 12 and steps[-1].startswith("step          100/100  loss 0.04")


def test_a_stream_is_not_told_as_no_rows(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    begun = events.Funnel(t=0.0, read=0, heldout=0, trained=0, format="title_content", stream=True)
    (line,) = narrator(run).lines(Seen(1, begun))
    assert line.endswith("read while it trains, as title_content")


def test_live_steps_come_at_a_readable_rate_and_the_last_always(tmp_path: Path) -> None:
    teller = narrator(make_run(tmp_path))
    start = events.Start(step=0, steps=100, device="cpu", precision="fp32", path="", trainable=1, parameters=2, t=0.0)
    teller.lines(Seen(1, start))
    teller.live = True
    shown = [n for n in range(1, 101) if teller.lines(metric(n, t=float(n)))]
    assert shown == list(range(5, 101, 5))


def test_a_loss_that_is_not_finite_is_always_told(tmp_path: Path) -> None:
    teller = narrator(make_run(tmp_path))
    teller.live = True
    teller.lines(metric(1, t=100.0))
    assert "loss not finite" in teller.lines(metric(2, t=100.1, loss=None))[0]


def test_phases_that_take_turns_are_told_once(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    phases = [events.Phase(name=name) for name in ("loading", "training", "evaluating", "training", "evaluating")]
    Recorded(run).state("queued", "starting").say(*phases)
    assert [line.split()[1] for line in told(run) if line.startswith("phase")] == ["loading", "training", "evaluating"]


def test_a_resumed_attempt_says_where_it_goes_on_and_what_is_repeated(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    recorded = Recorded(run).state("queued", "starting").start().state("training").steps(range(1, 31))
    recorded.state("interrupted").state("queued", "starting").start(step=20)
    lines = told(run)
    assert "◌ queued      attempt 2" in lines
    assert any("continues at step 20, 10 steps done again" in line for line in lines)


def test_a_failure_shows_reason_evidence_and_remedy(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    evidence = Evidence(
        message="m",
        remedy="Use a smaller batch.",
        exit_code=1,
        step=12,
        device_free=10_000_000,
        disk_free=5_000_000_000,
        traceback="Traceback\n  File x\nOutOfMemoryError: CUDA",
    )
    recorded = Recorded(run).state("queued", "starting", "training")
    recorded.state("failed", reason="oom_cuda", why="The GPU has no memory left.", evidence=evidence)
    assert told(run)[-7:] == [
        "✗ failed      (oom_cuda)  The GPU has no memory left.",
        "  evidence: exit status 1, at step 12, 10 MB free on the device, 5 GB of disk free",
        "  | Traceback",
        "  | File x",
        "  | OutOfMemoryError: CUDA",
        f"  log: {run.attempt(1).log}",
        "  try: Use a smaller batch.",
    ]


def test_a_failure_that_was_foreseen_shows_no_traceback(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    try:
        raise MoltingError("The rows have changed.", remedy="Put them back.", reason="bad_data")
    except MoltingError as error:
        evidence = death.of_exception(error).evidence
    recorded = Recorded(run).state("queued", "starting")
    recorded.state("failed", reason="bad_data", why=evidence.message, evidence=evidence)
    assert evidence.traceback and told(run)[-3:] == [
        "✗ failed      (bad_data)  The rows have changed.",
        f"  log: {run.attempt(1).log}",
        "  try: Put them back.",
    ]


HOSTILE = "\x1b]52;c;eA==\x07[@click=app.quit]x[/]\r\n\x9b2J\u202e" + "e" + "\u0301" * 500


@pytest.mark.parametrize(
    "said",
    [
        events.Sample(step=1, question=HOSTILE, answer=HOSTILE * 50, tokens=1, stop="end"),
        events.Warn(id="x", message=HOSTILE, remedy=HOSTILE),
        events.Log(message=HOSTILE),
        events.Phase(name=HOSTILE),
        events.Funnel(read=1, heldout=0, trained=0, dropped={HOSTILE: 1}, format=HOSTILE),
        events.Start(step=0, steps=1, device=HOSTILE, precision=HOSTILE, path="", trainable=1, parameters=2),
        events.End(step=1, outcome="finished", why=HOSTILE),
        Transition(
            state="failed",
            attempt=1,
            t=1.0,
            why=HOSTILE,
            evidence=Evidence(message=HOSTILE, remedy=HOSTILE, signal=HOSTILE, traceback=HOSTILE * 3),
        ),
    ],
)
def test_hostile_text_reaches_no_terminal(tmp_path: Path, said: events.Event | lifecycle.Transition) -> None:
    teller = narrator(make_run(tmp_path))
    shown = "\n".join([*teller.lines(Seen(1, said)), teller.status()])  # type: ignore[arg-type]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
    assert len(shown) < 6000 and "\u0301" * 6 not in shown


def test_absurd_times_do_not_crash(tmp_path: Path) -> None:
    teller = narrator(make_run(tmp_path))
    for t in (-1.0, 1e300, float("nan")):
        assert teller.lines(Seen(1, Transition(state="queued", attempt=1, t=t)))[0].startswith("--:--:--")


def test_status_names_the_phase_or_the_steps_left(tmp_path: Path) -> None:
    teller = narrator(make_run(tmp_path))
    teller.lines(Seen(1, Transition(state="starting", attempt=1, t=1.0)))
    assert teller.status() == "◐ starting"
    teller.lines(Seen(1, events.Phase(name="loading", done=1, total=4, eta=30.0)))
    assert teller.status() == "◐ starting  loading  25 %  0:30 left"
    teller.lines(Seen(1, Transition(state="training", attempt=1, t=2.0)))
    teller.lines(Seen(1, events.Phase(name="training", total=100)))
    start = events.Start(step=0, steps=100, device="cpu", precision="fp32", path="", trainable=1, parameters=2)
    teller.lines(Seen(1, start))
    teller.lines(metric(50, t=3.0, loss=0.25, seconds=2.0))
    assert teller.status() == "● training  ██████████░░░░░░░░░░  50/100  loss 0.25  1:40 left"


def test_a_start_says_that_layers_are_compiled(tmp_path: Path) -> None:
    plain = events.Start(step=0, steps=9, device="cpu", precision="fp32", path="", trainable=1, parameters=2)
    compiled = msgspec.structs.replace(plain, plan={"compiled": 1})
    begun = narrator(make_run(tmp_path)).lines(Seen(1, compiled))[0]
    assert (
        "layers compiled" in begun and "compiled" not in narrator(make_run(tmp_path, "other")).lines(Seen(1, plain))[0]
    )


def test_the_time_left_is_not_that_of_a_first_step_which_compiled(tmp_path: Path) -> None:
    recorded = Recorded(make_run(tmp_path)).state("queued", "starting").start().state("training")
    recorded.say(events.Phase(name="compiling"), events.Phase(name="training"))
    lines = told(recorded.steps([1], seconds=60.0).steps(range(2, 31), seconds=2.0).run)
    steps = [line for line in lines if line.startswith("step ")]
    assert not steps[0].endswith("left") and steps[1].endswith("2:58 left")
