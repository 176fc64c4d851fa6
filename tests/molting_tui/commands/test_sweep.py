"""`molting sweep`: the plan, the table of its runs, and which sweep is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract import events
from engine.contract.rundir import RunDir
from engine.contract.spec import Data, Model, Spec, Sweep
from tests.support.command import Scripted
from tests.support.runs import Recorded, make_run

PLANNED = {
    "sweep": "rhea-sweep-1",
    "runs": [
        {"name": "rhea: rank 8", "changes": {"method.rank": 8}, "steps": 40, "seconds": 30.0, "run": "rhea-rank-8-1"},
        {
            "name": "rhea: rank 16",
            "changes": {"method.rank": 16},
            "steps": 40,
            "seconds": 35.0,
            "run": "rhea-rank-16-1",
        },
    ],
    "seconds": 65.0,
}


def member(runs: Path, rank: int, loss: float, *, sweep: str = "rhea-sweep-1", state: str = "finished") -> RunDir:
    spec = Spec(
        name=f"rhea: rank {rank}",
        model=Model(base="demo"),
        data=Data(train="inputs/rows.jsonl"),
        sweep=Sweep(id=sweep, changes={"method.rank": rank}),
    )
    run = make_run(runs, spec.name, spec=spec)
    recorded = Recorded(run, 1_760_000_000.0 + rank).state("queued", "starting").start(steps=4).state("training")
    recorded.steps(range(1, 5)).say(events.Eval(step=4, loss=loss, rows=3, seconds=0.1))
    recorded.state(state, why="Clearly worse than another." if state == "interrupted" else "")
    return run


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    file = tmp_path / "spec.toml"
    file.write_text("")
    return file


def test_the_runs_are_shown_with_what_they_will_take(molting: Scripted, spec: Path) -> None:
    molting.answers("sweep", PLANNED)
    said = molting("sweep", str(spec))
    assert said.code == 0
    assert "rhea: rank 16" in said.out and "rhea-rank-16-1" in said.out
    assert "2 runs, one after another, about 1:05." in said.out
    assert said.out.splitlines()[-1] == "rhea-sweep-1"
    assert molting.requests[-1]["request"]["start"] is True


def test_a_plan_starts_nothing(molting: Scripted, spec: Path) -> None:
    molting.answers("sweep", PLANNED | {"sweep": "", "seconds": None})
    said = molting("sweep", str(spec), "--plan")
    assert "how long is not known yet" in said.out and "without this terminal" not in said.err
    assert molting.requests[-1]["request"]["start"] is False
    assert molting("sweep", str(spec), "--plan", "--json").json["runs"][0]["changes"] == {"method.rank": 8}


def test_the_table_marks_the_best_and_says_why_others_ended(molting: Scripted, tmp_path: Path) -> None:
    first, best = member(tmp_path / "runs", 8, 0.9), member(tmp_path / "runs", 16, 0.5)
    member(tmp_path / "runs", 32, 0.4, state="interrupted")
    member(tmp_path / "runs", 64, 0.1, sweep="other-sweep-1")
    said = molting("sweep", "show", "rhea-s")
    lines = said.out.splitlines()
    assert lines[0].split() == ["rank", "state", "step", "left", "loss", "held-out", "id"]
    assert [line.split()[1] for line in lines[1:4]] == ["8", "16", "32"]
    assert [" best " in line for line in lines[1:4]] == [False, True, False]
    assert lines[4] == "rank 32: Clearly worse than another."
    found = molting("sweep", "show", first.id, "--json").json  # one of its runs stands for it
    assert (found["sweep"], found["best"]) == ("rhea-sweep-1", best.id)
    assert [run["changes"] for run in found["runs"]] == [{"method.rank": rank} for rank in (8, 16, 32)]


def test_which_sweep_is_meant_must_be_clear(molting: Scripted, tmp_path: Path) -> None:
    for name in ("rhea-sweep-1", "rhea-sweep-2"):
        member(tmp_path / "runs", 8, 0.9, sweep=name)
    several, none, nothing = (
        molting("sweep", "show", "rhea"),
        molting("sweep", "show", "zeca"),
        molting("sweep", "show"),
    )
    assert (several.code, none.code, nothing.code) == (2, 2, 2)
    assert "2 sweeps are meant" in several.err
    assert "There are: rhea-sweep-1, rhea-sweep-2." in none.err
    assert "molting sweep show NAME" in nothing.err
