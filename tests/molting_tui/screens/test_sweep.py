"""Sweeps and families of runs in the app: started, told as a tree, as one table, as one plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.contract import events
from engine.contract.rundir import RunDir
from engine.contract.spec import Data, Method, Model, Spec, Sweep, Training
from molting_tui.app import MoltingApp
from molting_tui.screens.dialog import Ask
from molting_tui.screens.live import Live
from molting_tui.screens.new_run import NewRun
from molting_tui.screens.runs import Runs
from molting_tui.screens.sweep import Sweep as SweepTable
from molting_tui.widgets.run_table import RunTable
from tests.support.pilot import drive, settle, shown, until
from tests.support.runs import Recorded, make_run
from tests.support.world import World, told


def made(runs: Path, name: str, *, parent: str = "", rank: int = 8, loss: float = 0.5, sweep: str = "") -> RunDir:
    """A finished run of four steps."""
    spec = Spec(
        name=name,
        parent=parent,
        model=Model(base="demo", precision="fp32"),
        data=Data(train="inputs/rows.jsonl"),
        method=Method(rank=rank),
        training=Training(max_steps=4),
        sweep=Sweep(id=sweep, changes={"method.rank": rank} if sweep else {}),
    )
    run = make_run(runs, name, spec=spec)
    recorded = Recorded(run, 1_760_000_000.0 + 100 * rank).state("queued", "starting").start(steps=4).state("training")
    recorded.steps(range(1, 5)).say(events.Eval(step=4, loss=loss, rows=3, seconds=0.1, best=True)).state("finished")
    return run


def rows(app: MoltingApp) -> list[str]:
    """What the table shows, without what stands beside it."""
    table = app.screen.query_one(RunTable)
    return [app.runs.title(row) for row in table.rows]


def test_runs_stand_below_those_they_came_from(tmp_path: Path) -> None:
    first = made(tmp_path / "runs", "first", rank=4)
    second = made(tmp_path / "runs", "second", parent=first.id, rank=8)
    made(tmp_path / "runs", "third", parent=second.id, rank=16)
    made(tmp_path / "runs", "stranger", parent="gone-20260101-0000", rank=2)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert rows(app) == ["third", "second", "first", "stranger"]
        await pilot.press("T")
        await settle(app, pilot)
        assert rows(app) == ["first", "  second", "    third", "stranger"]
        await pilot.press("home", "down")
        await until(pilot, lambda: "method.rank 4 → 8" in shown(app))
        assert f"child of {first.id}" in shown(app)
        await pilot.press("T")
        await settle(app, pilot)
        assert rows(app) == ["third", "second", "first", "stranger"]

    drive(tmp_path / "runs", play, size=(160, 40))


def test_a_sweep_is_a_line_of_the_tree_that_stands_for_all_its_runs(tmp_path: Path) -> None:
    runs = [made(tmp_path / "runs", f"run {rank}", rank=rank, loss=1 / rank, sweep="s-sweep-1") for rank in (4, 8, 16)]
    made(tmp_path / "runs", "other", rank=2)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("T", "home")
        await settle(app, pilot)
        assert rows(app) == ["3 runs · s-sweep-1", "  rank 16", "  rank 8", "  rank 4", "other"]
        assert str(app.screen.query_one("#count").render()) == "4 of 4"  # the sweep itself is no run
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SweepTable))
        page = app.screen.copyable()  # type: ignore[attr-defined]
        lines = page.splitlines()
        assert lines[0].split() == ["rank", "state", "step", "left", "loss", "held-out"]
        assert [line.split()[1] for line in lines[1:]] == ["4", "8", "16"]
        assert [line.endswith(" best") for line in lines[1:]] == [False, False, True]
        await pilot.press("escape", "b")
        await until(pilot, lambda: isinstance(app.screen, Live))
        await until(pilot, lambda: len(app.screen.runs) == 3)  # type: ignore[attr-defined]
        assert app.screen.run.id == runs[2].id  # type: ignore[attr-defined]
        await until(pilot, lambda: all(name in shown(app) for name in ("rank 16", "rank 8", "rank 4")))

    drive(tmp_path / "runs", play, size=(160, 40))


def test_selected_runs_go_into_one_plot(tmp_path: Path) -> None:
    for rank in range(2, 10):
        made(tmp_path / "runs", f"run {rank}", rank=rank, loss=rank / 10)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("b")  # one run alone has nothing to lie beside
        await settle(app, pilot)
        assert isinstance(app.screen, Runs)
        await pilot.press("a", "b")
        await until(pilot, lambda: isinstance(app.screen, Live))
        assert len(app.screen.runs) == Live.MOST  # type: ignore[attr-defined]
        names = {app.runs.name(run_id) for run_id in app.screen.runs}  # type: ignore[attr-defined]
        assert names == {f"run {rank}" for rank in range(2, 2 + Live.MOST)}
        assert any("lowest held-out loss" in each.message for each in app._notifications)

    drive(tmp_path / "runs", play)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_six_runs_are_driven_from_the_app_and_one_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rate, hang = "training.learning_rate", "training.hang_minutes"
    swept = [{rate: 5e-3}, {rate: 2e-3}, {rate: 5e-3, hang: 1e-4}, {rate: 1e-6}, {rate: 3e-3}, {rate: 4e-3}]
    spec = world.persona(
        "six",
        method={"kind": "full"},
        training={"max_steps": 6, "save_every": 6, "warmup": 0.0, "batch": 6},
        evaluation={"every": 2, "sample_every": 0},
        sweep={"runs": swept, "stop_worse": True},
    )
    for name, value in world.env.items():
        monkeypatch.setenv(name, value)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        app.screen.query_one("Input").value = str(spec)  # type: ignore[attr-defined]
        await settle(app, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, NewRun))
        await settle(app, pilot)
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(app.screen, Runs), 120)
        await until(pilot, lambda: len(app.runs.known) == 6 and all(app.runs.known.values()), 120)
        await until(pilot, lambda: not app.runs.live(), 400)
        await pilot.press("T", "home")
        await settle(app, pilot)
        assert rows(app)[0].startswith("6 runs · six-sweep-") and len(rows(app)) == 7
        await pilot.press("M")
        await until(pilot, lambda: isinstance(app.screen, SweepTable))
        table = app.screen.copyable().splitlines()  # type: ignore[attr-defined]
        states = [" ".join(line.split()[3:5]) for line in table[1:7]]
        logs = "\n".join(told(RunDir(each)) for each in world.runs.glob("six-*"))
        assert [state.split()[0] for state in states] == [
            "finished", "finished", "failed", "interrupted", "finished", "finished",
        ], f"{table}\n{logs}"  # fmt: skip
        assert states[2] == "failed (hang)"
        best = [line for line in table[1:7] if line.endswith(" best")]
        assert len(best) == 1 and "finished" in best[0]
        assert any("Clearly worse than six: lr" in line for line in table[7:])

    drive(world.runs, play, size=(200, 40))
