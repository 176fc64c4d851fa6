"""Alerts say in words what a person should do something about, and only that."""

from __future__ import annotations

import random

import pytest

from engine.contract import events
from engine.contract.lifecycle import Evidence, Transition
from molting_tui.state.alerts import Alert, alerts, direction
from molting_tui.state.live import LiveRun
from tests.support.live_runs import T0, metric, start, trained

NOW = T0 + 130


def training(run: LiveRun) -> LiveRun:
    run.apply(1, Transition(state="training", attempt=1, t=T0 + 120))
    return run


def noisy(losses: list[float]) -> LiveRun:
    chance = random.Random(7)
    run = LiveRun()
    run.apply(1, start(steps=200))
    for step, loss in enumerate(losses, 1):
        run.apply(1, metric(step, loss + chance.gauss(0, 0.1)))
    return training(run)


def ids(found: list[Alert]) -> list[str]:
    return [each.id for each in found]


def test_a_healthy_run_gives_none() -> None:
    assert alerts(training(trained(60)), NOW, device_used=50, device_total=100) == []
    assert alerts(LiveRun(), NOW) == []


def test_noise_is_no_rise_but_a_rise_is() -> None:
    assert ids(alerts(noisy([1.0] * 60), NOW)) == []
    assert ids(alerts(noisy([1.0] * 40 + [1.08] * 20), NOW)) == [], "more than a twentieth, and still chance"
    (rising,) = alerts(noisy([1.0] * 40 + [1.6] * 20), NOW)
    assert rising.id == "rising" and "The loss rises: 1" in rising.message and "learning rate" in rising.remedy


def test_a_loss_that_is_not_a_number_is_an_error_and_comes_first() -> None:
    run = training(trained(60))
    run.apply(1, events.Warn(id="w", message="Something.", remedy="Do."))
    run.apply(1, metric(61, None))
    found = alerts(run, NOW)
    assert ids(found) == ["nan", "warn:w"]
    assert found[0].message == "The loss is not a number at step 61."


def test_a_gradient_of_zero_needs_three_steps() -> None:
    run = training(trained(60))
    for step in (61, 62):
        run.apply(1, metric(step, 0.4, norm=0.0))
    assert ids(alerts(run, NOW)) == []
    run.apply(1, metric(63, 0.4, norm=0.0))
    assert ids(alerts(run, NOW)) == ["gradient"]


def test_a_gradient_that_is_unknown_is_not_zero() -> None:
    run = training(trained(60))
    for step in (61, 62, 63):
        run.apply(1, metric(step, 0.4, norm=None))
    assert ids(alerts(run, NOW)) == []


def test_a_rising_evaluation_names_the_best_step() -> None:
    run = training(trained(60))
    run.apply(1, events.Eval(step=70, loss=1.2, rows=6, seconds=1.0, t=T0 + 140))
    assert alerts(run, T0 + 150) == [], "one evaluation may be chance"
    run.apply(1, events.Eval(step=80, loss=1.4, rows=6, seconds=1.0, t=T0 + 160))
    (overfit,) = alerts(run, T0 + 170)
    assert overfit.id == "overfit" and "the best was 0.699 at step 60" in overfit.message


@pytest.mark.parametrize(
    ("free", "sealed", "expected"), [(50 << 30, 0, []), (1 << 30, 0, ["disk"]), (5 << 30, 2 << 30, ["disk"])]
)
def test_disk_must_hold_the_next_checkpoints(free: int, sealed: int, expected: list[str]) -> None:
    run = training(trained(60))
    run.apply(1, events.Memory(host=1, host_peak=1, disk_free=free, t=T0 + 121))
    if sealed:
        run.apply(1, events.Checkpoint(step=60, path="x", size=sealed, seconds=1.0, t=T0 + 122))
    assert ids(alerts(run, NOW)) == expected


def test_silence_is_told_with_its_phase_unless_the_heart_beats() -> None:
    run = training(trained(60))
    run.apply(1, events.Phase(name="sampling", t=T0 + 125))
    late = T0 + 125 + 200
    (silent,) = alerts(run, late)
    assert silent.message == "The engine has been silent for 3 min (phase sampling)."
    assert alerts(run, late, heartbeat=late - 5) == []
    assert alerts(run, T0 + 185, heartbeat=T0) == [], "what it said last counts as well"
    run.apply(1, Transition(state="finished", attempt=1, t=T0 + 126))
    assert alerts(run, late) == []


def test_slow_steps_are_not_silence() -> None:
    run = training(trained(60))
    run.apply(2, start(step=60, t=T0 + 130))
    run.apply(2, metric(61, 0.4, seconds=60.0))
    assert ids(alerts(run, T0 + 122 + 400)) == []


def test_a_device_nearly_full() -> None:
    (device,) = alerts(training(trained(60)), NOW, device_used=97 * 10**7, device_total=10**9)
    assert "97 % full: 970 MB of 1 GB" in device.message


def test_why_a_run_failed_or_is_lost() -> None:
    run = training(trained(60))
    run.owned = False
    (lost,) = alerts(run, NOW)
    assert lost.severity == "error" and "step 60 is saved" in lost.remedy
    evidence = Evidence(message="Out of memory.", remedy="Halve the batch.")
    run.apply(1, Transition(state="failed", attempt=1, t=NOW, reason="oom_cuda", evidence=evidence))
    (failed,) = alerts(run, NOW)
    assert (failed.message, failed.remedy) == ("The run failed: Out of memory.", "Halve the batch.")


def test_damage_is_a_note() -> None:
    run = training(trained(60))
    run.damage(1, 3, "events.jsonl")
    (damage,) = alerts(run, NOW)
    assert damage.severity == "note" and damage.message.startswith("3 events")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([4.0, 3.9, 2.1, 2.0], "↓"),
        ([1.0, 1.1, 2.0, 2.1], "↑"),
        ([1.0, 2.0, 1.0, 2.0], "→"),
        ([1.0], ""),
        ([], ""),
        ([float("nan")] * 8, ""),
    ],
)
def test_direction(values: list[float], expected: str) -> None:
    assert direction(values) == expected
