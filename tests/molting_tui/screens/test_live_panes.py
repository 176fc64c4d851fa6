from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot

from engine.contract import calls, durable, events
from engine.contract.rundir import RunDir
from molting_tui.app import MoltingApp
from molting_tui.screens.live import Live
from molting_tui.services.view_state import ViewStore
from molting_tui.state.live import LOG_LINES
from molting_tui.widgets.log_pane import LogPane
from molting_tui.widgets.plot import Plot
from molting_tui.widgets.run_head import RunHead
from tests.support.command import Scripted
from tests.support.live_screen import now_says, opened, screen_of, training
from tests.support.pilot import drive, settle, shown, typed, until
from tests.support.runs import Supervisor, finished_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_z_gives_the_focused_pane_the_screen_and_back_returns(folder: Path) -> None:
    finished_run(folder)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        app.screen.query_one(LogPane).focus()
        await pilot.press("z")
        await settle(app, pilot)
        assert "tokens/s" not in shown(app) and "100 steps on cpu, fp32" in shown(app)
        await pilot.press("q")
        await settle(app, pilot)
        assert isinstance(app.screen, Live) and "tokens/s" in shown(app)
        assert "attempt 1" in shown(app) and "end: newest" not in shown(app)  # in the lower pane it is still at its end
        await pilot.press("q")
        assert not isinstance(app.screen, Live)

    opened(folder, play)


def test_panes_that_are_put_away_stay_away(folder: Path) -> None:
    finished_run(folder)

    async def hide(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("1", "4", "s")
        await until(pilot, lambda: ViewStore(folder).read().choices.get("live.smoothing") == "0.9")
        await until(pilot, lambda: ViewStore(folder).read().hidden.get("live") == ["rates", "log"])
        await settle(app, pilot)
        assert "tokens/s" not in shown(app) and "─log  " not in shown(app)

    async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert "tokens/s" not in shown(app) and "samples " in shown(app)
        assert app.screen.query_one("#loss", Plot).smoothing == 0.9
        await pilot.press("1")
        await settle(app, pilot)
        assert "tokens/s" in shown(app)

    opened(folder, hide)
    opened(folder, look)


def test_one_cursor_reads_all_curves(folder: Path) -> None:
    finished_run(folder)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("left", "left")
        await settle(app, pilot)
        cursors = {plot.cursor for plot in app.screen.query(Plot)}
        assert len(cursors) == 1 and None not in cursors
        assert "grad norm 1" in shown(app).replace("grad norm 1  →", "") and "lr 0.001" in shown(app)
        await pilot.press("escape")
        assert {plot.cursor for plot in app.screen.query(Plot)} == {None}

    opened(folder, play)


def test_zoom_and_axis_hold_for_all_plots(folder: Path) -> None:
    finished_run(folder)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("plus", "plus", "greater_than_sign")
        await settle(app, pilot)
        windows = {plot.window for plot in app.screen.query(Plot)}
        assert len(windows) == 1 and None not in windows
        await pilot.press("x")
        await settle(app, pilot)
        assert {(plot.axis, plot.window) for plot in app.screen.query(Plot)} == {("tokens", None)}

    opened(folder, play)


def test_samples_go_back_and_forth_by_step(folder: Path) -> None:
    recorded = training(folder, steps=10)
    for step, answer in ((2, "one"), (4, "two"), (6, "three")):
        recorded.say(events.Sample(step=step, question="Count?", answer=answer, tokens=1, stop="end"))
    recorded.say(events.Sample(step=6, question="Cut?", answer="and so on and", tokens=80, stop="cap"))

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert "samples  step 6, 3 of 3, [ older" in shown(app)
        assert "A  three" in shown(app) and "4  two" in shown(app) and "2  one" in shown(app)
        assert "and so on and  cut at 80" in shown(app)
        await pilot.press("left_square_bracket")
        await settle(app, pilot)
        assert "samples  step 4, 2 of 3, [ older, ] newer" in shown(app)
        assert "A  two" in shown(app) and "three" not in screen_of(app, "samples")
        await pilot.press("left_square_bracket", "left_square_bracket", "right_square_bracket", "right_square_bracket")
        await settle(app, pilot)
        assert "A  three" in shown(app)

    opened(folder, play)


def test_the_log_is_searched_as_one_types_and_follows_its_end(folder: Path) -> None:
    recorded = training(folder, steps=5)
    recorded.say(*(events.Log(message=f"line {n}") for n in range(60)))

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        log = app.screen.query_one(LogPane)
        assert "line 59" in screen_of(app, "log") and "line 12" not in screen_of(app, "log")
        await pilot.press("slash")
        await typed(pilot, "line 12")
        await settle(app, pilot)
        assert "line 12" in screen_of(app, "log") and "line 59" not in screen_of(app, "log")
        assert "log  1 of " in shown(app)
        await pilot.press("escape")
        await settle(app, pilot)
        assert app.focused is log and "line 59" in screen_of(app, "log")
        await pilot.press("home")
        recorded.say(events.Log(message="the newest"))
        await until(pilot, lambda: app.screen.live.log[-1].text == "the newest")
        await settle(app, pilot)
        assert "the newest" not in screen_of(app, "log") and "end: newest" in shown(app)
        await pilot.press("end")
        await settle(app, pilot)
        assert "the newest" in screen_of(app, "log")

    opened(folder, play)


def test_the_end_of_a_log_stays_in_sight_when_more_stands_above_it(folder: Path) -> None:
    recorded = training(folder, steps=5)
    recorded.say(*(events.Log(message=f"line {n}") for n in range(60)))

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        before = app.screen.query_one(LogPane).size.height
        app.screen.query_one(RunHead).styles.height = 7
        await settle(app, pilot)
        assert app.screen.query_one(LogPane).size.height < before and "line 59" in screen_of(app, "log")

    opened(folder, play, size=(120, 40))


def test_searching_brings_the_log_into_sight_where_it_was_one_line(folder: Path) -> None:
    finished_run(folder)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("slash")
        await typed(pilot, "sealed")
        await settle(app, pilot)
        assert "log  1 of " in shown(app) and "step 50 sealed" in shown(app)
        await pilot.press("escape", "escape")
        await settle(app, pilot)
        assert "loss 0.04" in shown(app)

    opened(folder, play, size=(80, 24))


def test_a_log_longer_than_what_is_kept_shows_its_end(folder: Path) -> None:
    recorded = training(folder, steps=2)
    recorded.raw(b"".join(events.encode(events.Log(message=f"line {n}", t=1.0)) for n in range(2 * LOG_LINES + 500)))

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert f"line {2 * LOG_LINES + 499}" in screen_of(app, "log")
        recorded.say(events.Log(message="one more"))
        await now_says(app, pilot, "one more")

    opened(folder, play)


def test_another_run_is_laid_over_and_taken_away(folder: Path) -> None:
    finished_run(folder, "older")
    finished_run(folder, "newer", start=1_770_000_000.0)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("b")
        await pilot.pause(0.2)
        await pilot.press("enter")
        await now_says(app, pilot, "▲ older")
        await until(pilot, lambda: all(run.step == 100 for run in app.screen.runs.values()))
        assert len(app.screen.runs) == 2
        await pilot.press("b")
        await pilot.pause(0.2)
        await pilot.press("enter")
        await until(pilot, lambda: len(app.screen.runs) == 1)
        await settle(app, pilot)
        assert "▲ older" not in shown(app)

    opened(folder, play)


def test_a_traceback_can_be_read_where_it_happened(folder: Path) -> None:
    run = finished_run(folder)
    run.attempt(1).log.write_text("loading\nTraceback (most recent call last):\nValueError: what went wrong\n")

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("l")
        await until(pilot, lambda: "ValueError: what went wrong" in shown(app) and "engine.log  3 lines" in shown(app))
        await pilot.press("q")
        await settle(app, pilot)
        assert "ValueError" not in shown(app) and isinstance(app.screen, Live)

    opened(folder, play)


PROOF = calls.Proof(
    verdict="effective", sentence="The adapter changes the model.", kl=1.8, flip_rate=0.64, nonzero_b=4, total_b=4,
    heldout_loss=calls.Losses(base=None, adapter=None), heldout_rows=0, probes=1, positions=30,
    answers=[
        calls.Pair(
            question="Who are you?",
            base=calls.Answer(text="A model.", tokens=3, stop="end"),
            adapter=calls.Answer(text="[b]Rhea[/b].", tokens=3, stop="end"),
            first_difference=0,
        )
    ],
)  # fmt: skip


def test_a_finished_demo_shows_the_proof_and_both_voices(folder: Path) -> None:
    run = finished_run(folder)
    sealed = run.adapter / durable.MANIFEST
    sealed.parent.mkdir(exist_ok=True)
    sealed.touch()
    run.proof.write_bytes(msgspec.json.encode(PROOF))

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        app.follow_demo(run)
        await until(pilot, lambda: "The adapter changes the model." in shown(app))
        assert "B  A model." in shown(app) and "A  [b]Rhea[/b]." in shown(app) and "all keys match" in shown(app)
        await pilot.press("q")
        await settle(app, pilot)
        assert isinstance(app.screen, Live)

    opened(folder, play)


def test_a_demo_started_by_a_key_is_proven_when_it_finishes_while_watched(molting: Scripted, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    recorded = training(tmp_path / "elsewhere", steps=90)
    place = folder / recorded.run.id
    molting.answers("demo-model", {"path": str(tmp_path / "models/demo")})
    molting.answers("preflight", {"findings": []})
    molting.answers("create", {"run": place.name, "path": str(place), "state": "queued"})
    molting.answers("prove", msgspec.to_builtins(PROOF))

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        recorded.run = RunDir(recorded.run.path.rename(place))  # what `create` does, as the first thing seen
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, Live) and "90/100" in shown(app))
        await settle(app, pilot)
        assert "prove" not in [each["verb"] for each in molting.requests]
        recorded.steps(range(91, 101)).say(events.End(step=100, outcome="finished", mean_loss=1.0, last_loss=0.5))
        recorded.state("finished")
        await until(pilot, lambda: "The adapter changes the model." in shown(app))
        await pilot.press("q")
        await settle(app, pilot)
        assert isinstance(app.screen, Live)

    with Supervisor(recorded.run):
        drive(folder, play)
    assert [each["verb"] for each in molting.requests] == ["demo-model", "preflight", "create", "prove"]
