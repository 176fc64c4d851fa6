"""`molting export` and `molting import --trainer-state`, as commands."""

from __future__ import annotations

from pathlib import Path

from tests.support.command import Scripted
from tests.support.runs import finished_run


def test_the_folder_and_how_to_look_at_it_are_named(molting: Scripted, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "runs", "rhea")
    made = {"run": run.id, "to": "tensorboard", "path": str(tmp_path / "c" / run.id), "steps": 100, "evals": 2}
    molting.answers("export", made)
    said = molting("export", "rhea", "--to", "tensorboard", "--dir", str(tmp_path / "c"))
    assert said.code == 0 and "100 steps, 2 evaluations" in said.out
    assert f"tensorboard --logdir {tmp_path}/c" in said.err
    assert molting.requests[-1]["request"] == {"run": str(run.path), "to": "tensorboard", "dir": str(tmp_path / "c")}
    assert molting("export", "rhea", "--to", "tensorboard", "--dir", "c", "--json").json == made
    assert molting("export", "rhea", "--to", "paper", "--dir", "c").code == 2


def test_curves_or_scores_are_imported_never_both(molting: Scripted, tmp_path: Path) -> None:
    molting.answers(
        "import-history",
        {
            "run": "old-1",
            "path": "p",
            "name": "old",
            "steps": 3,
            "evals": 1,
            "left_out": 2,
            "problems": ["2 left [/]."],
        },
    )
    said = molting("import", "--trainer-state", "state.json", "--name", "old")
    assert said.code == 0 and "3 steps, 1 evaluation." in said.out and "2 left [/]." in said.out
    assert said.out.splitlines()[-1] == "Run old-1"
    for wrong in (["--trainer-state", "a", "--scores", "b"], ["--answers", "a"], []):
        refused = molting("import", *wrong, "--name", "old")
        assert refused.code == 2 and "--trainer-state" in refused.err
