"""What is shown of a run follows from its events, however and whenever they are read."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import events
from engine.contract.lifecycle import Transition
from molting_tui.services import run_reader
from molting_tui.services.run_reader import decode
from molting_tui.state import live as live_module
from molting_tui.state.live import LiveRun
from molting_tui.state.records import Metrics
from tests.support.live_runs import T0, facts, falling, metric, rows, start, trained

_step = st.integers(-2, 40) | st.sampled_from([0, 2**53, 10**400])
_maybe = st.none() | st.floats(0, 10)
_metric = st.builds(
    events.Metric,
    step=_step,
    loss=_maybe,
    grad_norm=_maybe,
    lr=st.floats(0, 1),
    tokens=st.integers(-1, 5000) | st.just(10**400),
    learned=st.just(1),
    rows=st.just(1),
    seconds=st.floats(-1, 5),
    epoch=st.floats(0, 2),
    t=st.floats(-1, T0 * 4),
)
_other = st.one_of(
    st.builds(start, step=_step, steps=st.integers(0, 100), tokens=st.integers(0, 99)),
    st.builds(events.Eval, step=_step, loss=_maybe, rows=st.just(1), seconds=st.just(1.0)),
    st.builds(events.Sample, step=_step, question=st.text(), answer=st.text(), tokens=st.just(1), stop=st.just("end")),
    st.builds(events.Warn, id=st.sampled_from(["a", "b"]), message=st.text(), step=_step),
    st.builds(events.Phase, name=st.sampled_from(["training", "evaluating"]), eta=_maybe),
    st.builds(events.Memory, host=st.integers(), host_peak=st.just(1), disk_free=st.integers(), device=st.none()),
    st.builds(events.Log, message=st.text()),
)
_runs = st.lists(st.integers(9, 60), max_size=3)


def _story(lengths: list[int], odd: list[tuple[int, events.AnyEvent]]) -> list[tuple[int, events.AnyEvent]]:
    """Attempts of ordinary steps, each beginning a little before the last ended, with odd events in between."""
    told: list[tuple[int, events.AnyEvent]] = []
    step = 0
    for attempt, length in enumerate(lengths, 1):
        told.append((attempt, start(step=step, tokens=100 * step)))
        told += [(attempt, metric(n, falling(n) if n % 11 else None)) for n in range(step + 1, step + length)]
        step = max(0, step + length - 5)
    for place, event in odd:
        at = place % (len(told) + 1)
        told.insert(at, (told[at - 1][0] if at else 1, event))
    return told


@settings(max_examples=150, deadline=None)
@given(_runs, st.lists(st.tuples(st.integers(0, 200), _metric | _other), max_size=12))
def test_a_replay_in_blocks_equals_each_event_as_it_came(lengths: list[int], odd: list) -> None:
    one_by_one, replayed = LiveRun(), LiveRun()
    blocks: dict[int, list[bytes]] = {}
    for attempt, event in _story(lengths, odd):
        line = events.encode(event).rstrip(b"\n")
        blocks.setdefault(attempt, []).append(line)
    for attempt, lines in blocks.items():
        for line in lines:
            try:
                event = events.decode(line)
            except ValueError:
                continue
            one_by_one.apply(attempt, event)
        run_reader.apply(replayed, [(attempt, what) for what in decode(lines)[0]])
    assert facts(one_by_one) == facts(replayed)


def test_a_resumed_run_keeps_what_it_does_again_apart() -> None:
    run = trained(62)
    run.apply(2, start(step=40, tokens=4000))
    assert run.step == 40 and len(run.steps) == 40
    (past,) = run.rewound
    assert list(past.steps.axes["step"]) == list(range(41, 63))
    assert past.evals is not None and list(past.evals.axes["step"]) == [60]
    assert list(run.evals.axes["step"]) == [20, 40]
    assert [(mark.kind, mark.step, mark.rewound) for mark in run.markers][-3:] == [
        ("checkpoint", 60, True),
        ("rewind", 40, False),
        ("attempt", 40, False),
    ]
    run.apply(2, metric(41, 0.5))
    assert run.series("loss").at(41) == (41, 0.5)
    assert run.series("rate").at(41).y == 50.0


def test_a_resume_whose_start_was_damaged_rewinds_all_the_same() -> None:
    run = trained(30)
    run.apply(2, metric(21, 0.5))
    assert list(run.steps.axes["step"]) == list(range(1, 22))
    assert len(run.rewound) == 1


def test_a_step_out_of_order_within_an_attempt_is_damage() -> None:
    run = trained(30)
    run.apply(1, metric(7, 0.5))
    run.apply(1, start(step=3))
    assert (run.step, len(run.steps), run.damaged) == (30, 30, 2)


def test_the_eta_is_of_this_attempt_alone() -> None:
    run = trained(50)
    assert run.eta == pytest.approx(2.0 * 50)
    run.apply(2, start(step=50))
    assert run.pace is None and run.eta is None
    run.apply(2, metric(51, seconds=90.0))  # compiles and warms up
    assert run.eta == pytest.approx(90.0 * 49)
    run.apply(2, metric(52, seconds=4.0))
    assert run.eta == pytest.approx(4.0 * 48)
    run.apply(2, events.Phase(name="evaluating", total=6, unit="rows", eta=12.0, t=T0 + 200))
    assert run.phase_eta(T0 + 205) == pytest.approx(7.0)
    assert run.phase_eta(T0 + 900) == 0.0
    assert run.eta == pytest.approx(4.0 * 48)


def test_what_sharing_saved_is_of_all_steps_however_they_are_read() -> None:
    one, many = LiveRun(), LiveRun()
    for run in (one, many):
        run.apply(1, start())
        assert run.shared is None
    for step, computed in ((1, 60), (2, 20)):
        said = msgspec.structs.replace(metric(step), presented=100, computed=computed)
        one.apply(1, said)
    kept = ("step", "loss", "grad_norm", "lr", "tokens", "seconds", "t", "epoch", "rows")
    columns = {name: [getattr(metric(step), name) for step in (1, 2)] for name in kept}
    many.apply_metrics(1, Metrics(**columns, presented=200, computed=80))
    assert one.shared == many.shared == pytest.approx(0.6)
    padded = LiveRun()
    padded.apply(1, msgspec.structs.replace(metric(1), presented=100, computed=130))
    assert padded.shared is None


def test_behind_a_hole_no_rate_is_made_up_however_the_steps_are_read() -> None:
    one, many = trained(3), trained(3)
    kept = ("step", "loss", "grad_norm", "lr", "tokens", "seconds", "t", "epoch", "rows")
    for step in (8, 9):
        one.apply(1, metric(step))
    many.apply_metrics(1, Metrics(**{name: [getattr(metric(step), name) for step in (8, 9)] for name in kept}))
    for run in (one, many):
        assert math.isnan(run.series("rate").at(8).y)
        assert run.series("rate").at(9).y == 50.0


def test_a_loss_that_is_not_finite_is_a_gap_and_never_a_bound() -> None:
    run = trained(10)
    run.apply(1, metric(11, None))
    assert math.isnan(run.series("loss").at(11).y)
    low, high = run.series("loss").bounds()
    assert 0.3 < low < high < 4.3


def test_the_best_evaluation_is_of_those_that_still_count() -> None:
    run = trained(60)
    assert run.best_eval is not None and run.best_eval.step == 60
    run.apply(2, start(step=40))
    assert run.best_eval.step == 40
    run.apply(2, events.Eval(step=45, loss=None, rows=6, seconds=1.0))
    assert run.best_eval.step == 40
    assert LiveRun().best_eval is None


def test_hostile_text_is_shown_and_does_nothing() -> None:
    run = LiveRun()
    evil = "\x1b]52;c;AAAA\x07[@click=app.quit]x[/]\u202e"
    run.apply(1, events.Sample(step=1, question=evil, answer=evil + "\nline", tokens=1, stop=evil))
    run.apply(1, events.Log(message=evil))
    run.apply(1, events.Warn(id=evil, message=evil, remedy=evil))
    run.apply(1, events.Phase(name=evil))
    run.damage(1, 1, evil)
    texts = [*run.samples, *(each.text + each.stop for said in run.samples.values() for each in said)]
    texts += [line.text for line in run.log] + [each.message + each.id for each in run.warnings.values()]
    texts += [marker.text for marker in run.markers]
    assert len(texts) > 6
    assert not any(control in each for each in texts for control in ("\x1b", "\x07", "\u202e"))
    assert any("␛]52" in each for each in texts)


def test_impossible_numbers_are_damage_not_a_crash() -> None:
    run = trained(10)
    for step in (-1, 2**60):
        run.apply(1, events.Eval(step=step, loss=1.0, rows=1, seconds=1.0))
        run.apply(1, metric(step))
    run.apply(1, events.Memory(host=10**400, host_peak=1, disk_free=1, device=-1))
    assert run.damaged == 4 and run.step == 10
    assert rows(run.memory)[-1].endswith("nan, -1.0, nan)")


def test_a_clock_that_jumps_does_not_bend_the_time_axis() -> None:
    run = LiveRun()
    run.apply(1, start())
    for step, t in ((1, T0 + 2), (2, 0.0), (3, 1e300), (4, T0 - 50), (5, T0 + 10)):
        event = metric(step)
        event.t = t
        run.apply(1, event)
    assert list(run.steps.axes["time"]) == [2.0, 2.0, 2.0, 2.0, 10.0]


def test_states_follow_the_lifecycle() -> None:
    run = LiveRun()
    run.apply(1, Transition(state="training", attempt=1, t=T0))
    assert run.live and run.ended is None
    run.owned = False
    assert run.state == "lost" and not run.live
    run.apply(1, Transition(state="failed", attempt=1, t=T0 + 1, reason="oom_cuda", why="Out of memory."))
    assert run.state == "failed" and run.ended is not None
    assert run.log[-1].severity == "error" and "Out of memory." in run.log[-1].text
    run.apply(2, Transition(state="queued", attempt=2, t=T0 + 2))
    assert run.live and run.ended is None


def test_everything_but_the_steps_is_bounded() -> None:
    run = LiveRun()
    for n in range(6000):
        run.apply(1, events.Log(message=f"line {n}"))
        run.apply(1, events.Warn(id=f"w{n}", message="m" * 2000))
        if n < 1000:
            question = f"q{n % 100}" if n % 2 else "always"
            said = events.Sample(step=n, question=question, answer="a" * 9000, tokens=1, stop="end")
            run.apply(1, said)
    assert len(run.log) == live_module.LOG_LINES and run.logged > 12_000
    assert len(run.warnings) <= live_module.WARNINGS
    assert len(run.markers) <= live_module.MARKERS
    assert len(run.samples) <= live_module.QUESTIONS
    assert all(len(each) <= live_module.ANSWERS for each in run.samples.values())
    assert all(len(said.text) <= 4000 for each in run.samples.values() for said in each)


def test_the_answers_that_are_kept_span_the_whole_run() -> None:
    run = LiveRun()
    for n in range(500):
        run.apply(1, events.Sample(step=n, question="q", answer=str(n), tokens=1, stop="end"))
    steps = [said.step for said in run.samples["q"]]
    assert steps == sorted(steps)
    assert steps[0] == 0 and steps[-1] == 499
    assert any(100 < step < 300 for step in steps)


def test_a_warning_that_comes_again_is_counted() -> None:
    run = LiveRun()
    for step in (3, 9):
        run.apply(1, events.Warn(id="slow", message="Slow.", step=step))
    (warned,) = run.warnings.values()
    assert (warned.times, warned.step) == (2, 9)
