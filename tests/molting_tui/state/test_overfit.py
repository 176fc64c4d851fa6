"""The watch for over-fitting, as the Live screen, the table of runs and `attach` show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract import events
from engine.contract.rundir import RunDir
from engine.contract.summary import summarise
from molting_tui import narrate, terminal
from molting_tui.commands.runs import row
from molting_tui.services.follow import Seen
from molting_tui.state.live import LiveRun
from molting_tui.state.overfit import Overfit, seen
from molting_tui.widgets.run_detail import _seen
from molting_tui.widgets.run_head import about_line
from molting_tui.widgets.samples_pane import SamplesPane
from tests.support.live_runs import metric, start
from tests.support.runs import Recorded, make_run


def evaluated(step: int, loss: float, train: float | None) -> events.Eval:
    return events.Eval(step=step, loss=loss, rows=9, seconds=1.0, train=train)


def sampled(step: int, copied: float | None) -> events.Sample:
    return events.Sample(step=step, question="q", answer="a", tokens=1, stop="end", copied=copied)


def able(step: int, kl: float, loss: float | None = None) -> events.Ability:
    return events.Ability(step=step, prompts=4, kl=kl, loss=loss, base=None if loss is None else 2.0)


def shown(watch: Overfit, width: int = 120) -> list[str]:
    return ["".join(part for part, _ in line) for line in watch.lines(width)]


def test_every_measure_is_one_line_over_time() -> None:
    run = LiveRun()
    for step, held, train in ((10, 2.0, 1.9), (20, 1.5, 1.0), (30, 1.8, 0.4)):
        for event in (
            evaluated(step, held, train),
            sampled(step, step / 40),
            sampled(step, 0.0),
            able(step, step / 1e3),
        ):
            run.apply(1, event)

    gap, copied, kl = shown(run.overfit)
    assert gap.startswith("held-out gap  +0.10 → +0.50 → +1.40  over the training loss;")
    assert "best 1.5 at step 20, now 1.8" in gap
    assert "12 % → 25 % → 38 %" in copied
    assert "not trained" in kl and "0.01 → 0.02 → 0.03" in kl


def test_what_is_done_again_is_forgotten() -> None:
    watch = Overfit()
    for step in (10, 20, 30):
        for event in (evaluated(step, 2.0, 1.0), sampled(step, 0.5), able(step, 0.1, loss=3.0)):
            watch.take(event)
    watch.rewind(20)
    assert ([each.step for each in watch.evals], [each.step for each in watch.abilities]) == ([10, 20], [10, 20])
    assert list(watch.copied) == [10, 20]
    assert "2 before training" in shown(watch)[2]


def test_nothing_measured_is_nothing_shown() -> None:
    watch = Overfit()
    watch.take(evaluated(10, 2.0, None))
    watch.take(sampled(10, None))
    assert shown(watch) == []


def test_a_long_run_keeps_its_first_and_last() -> None:
    watch = Overfit()
    for step in range(2000):
        for event in (evaluated(step, 2.0, 1.0), sampled(step, 0.5), able(step, 0.1)):
            watch.take(event)
    for steps in ([each.step for each in watch.evals], [each.step for each in watch.abilities], list(watch.copied)):
        assert len(steps) <= 257 and (steps[0], steps[-1]) == (0, 1999)


@pytest.mark.parametrize(
    ("records", "exact", "rows", "said"),
    [
        (1_400_000, True, 800, "0.057 % of 1,400,000 records seen"),
        (1_390_000, False, 800, "0.058 % of about 1,390,000 records seen"),
        (1000, True, 340, "34 % of 1,000 records seen"),
        (0, False, 800, ""),
    ],
)
def test_how_much_of_a_stream_was_seen(records: int, exact: bool, rows: int, said: str) -> None:
    assert seen(events.Stream(records=records, exact=exact), rows) == said
    assert seen(None, rows) == ""


def test_a_stream_is_told_on_every_way(tmp_path: Path) -> None:
    begun = start(steps=100)
    begun.plan = {"rows_per_step": 8}
    told = [
        begun,
        events.Stream(records=1_390_000, exact=False),
        metric(99),
        events.Stream(records=1_400_000, exact=True),
    ]
    run, teller = LiveRun(), narrate.Narrator(RunDir(tmp_path / "x"), terminal.out())
    lines: list[str] = []
    for event in [*told, metric(100)]:
        run.apply(1, event)
        lines += teller.lines(Seen(1, event))

    assert "0.057 % of 1,400,000 records seen" in about_line(run, None, 160).plain
    assert any("rows" in line and "about 1,390,000 records in the file" in line for line in lines)
    assert "100/100" in lines[-1] and "0.057 % of 1,400,000 records seen" in lines[-1]


def test_the_samples_pane_begins_with_the_watch() -> None:
    run, pane = LiveRun(), SamplesPane("samples")
    pane.show(run)
    run.apply(1, evaluated(10, 2.0, 1.5))
    assert ["".join(part for part, _ in line) for line in pane.lines(80)] == shown(run.overfit, 80)
    run.apply(1, sampled(10, 0.25))
    said = ["".join(part for part, _ in line) for line in pane.lines(80)]
    assert said[0].startswith("held-out gap") and said[1].startswith("copied") and said[2] == "" and "q" in said[3]


def test_the_table_of_runs_tells_how_much_was_seen(tmp_path: Path) -> None:
    told = Recorded(make_run(tmp_path)).state("queued", "starting").start().state("training")
    told.say(events.Stream(records=9_000, exact=False)).steps(range(1, 31)).say(
        events.Stream(records=10_000, exact=True)
    )
    summary = summarise(told.run)
    assert summary.seen == pytest.approx(30 * 4 / 10_000)
    assert "30/100 (1.2 % seen)" in row(summary, terminal.out())
    assert _seen(summary) == "  1.2 % of 10,000 records seen"

    plain = Recorded(make_run(tmp_path, "other")).state("queued", "starting").start().state("training").steps([1, 2])
    assert (summarise(plain.run).records, summarise(plain.run).seen) == (None, None)
