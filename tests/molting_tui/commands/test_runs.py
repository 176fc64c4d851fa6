"""`molting runs`: the table and its JSON."""

from __future__ import annotations

import time
from pathlib import Path

from engine.contract import events
from tests.support.command import Scripted
from tests.support.runs import Recorded, Supervisor, finished_run, make_run

PROMISED = {
    "id", "name", "state", "reason", "step", "steps", "loss", "eval_loss", "score", "resumable", "parent", "path"
}  # fmt: skip


def test_the_table_and_the_json(molting: Scripted, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    done = finished_run(runs, "rhea", start=time.time() - 3 * 3600)
    live = make_run(runs, "zeca")
    Recorded(live, time.time() - 60).state("queued", "starting").start().state("training").steps(
        range(1, 31), seconds=2.0
    )
    broken = make_run(runs, "claudio")
    recorded = Recorded(broken, time.time() - 7300).state("queued", "starting").start().state("training")
    recorded.checkpoint(1).steps([1, 2]).state("failed", reason="nan_loss", why="The loss is not finite.")
    with Supervisor(live):
        table, as_json = molting("runs"), molting("runs", "--json")
    lines = [" ".join(line.split()) for line in table.out.splitlines()]
    assert lines[0] == "name state step eta rows/s tok/s shared loss eval age id"
    assert lines[1].startswith("● zeca training 30/100 2:20 2 50 40 % 0.133 – ") and lines[1].endswith(live.id)
    assert lines[2] == f"✗ claudio failed (nan_loss) 2/100 – – – – 2 – 2 h {broken.id}"
    assert lines[3].startswith("✓ rhea finished 100/100 – – – – 0.04 0.5 ")
    first, second, third = as_json.json["runs"]
    assert set(first) >= PROMISED
    assert (first["id"], first["state"], first["eta"], first["score"]) == (live.id, "training", 140.0, None)
    assert (first["rows_rate"], first["token_rate"], round(first["shared"], 9)) == (2.0, 50.0, 0.4)
    assert (second["reason"], second["resumable"], second["checkpoint"]) == ("nan_loss", True, 1)
    assert (third["id"], third["loss"], third["eval_loss"], third["path"]) == (done.id, 0.04, 0.5, str(done.path))


def test_no_runs_yet(molting: Scripted) -> None:
    assert "No runs in" in molting("runs").out
    assert molting("runs", "--json").json == {"runs": []}


def test_the_option_wins_over_the_environment(molting: Scripted, tmp_path: Path) -> None:
    finished_run(tmp_path / "other", "elsewhere")
    assert molting("--runs", str(tmp_path / "other"), "runs", "--json").json["runs"][0]["name"] == "elsewhere"
    assert molting("runs", "--json").json == {"runs": []}


def test_a_damaged_run_stays_in_the_table_with_its_problem(molting: Scripted, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "runs")
    run.spec.write_bytes(b"\xff\x00")
    said = molting("runs")
    assert said.code == 0 and run.id in said.out
    assert said.err.startswith(f"warning: {run.id}: ") and "damaged" in said.err


def test_a_loss_that_is_not_finite_is_shown_as_nan(molting: Scripted, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    recorded = Recorded(run).state("queued", "starting").start().state("training").steps([1])
    nan = events.Metric(step=2, loss=None, grad_norm=None, lr=0, tokens=1, learned=1, rows=1, seconds=1, epoch=0)
    recorded.say(nan).state("failed", reason="nan_loss")
    assert " nan " in molting("runs").out
    assert molting("runs", "--json").json["runs"][0]["loss"] is None
