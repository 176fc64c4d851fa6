from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract.errors import MoltingError
from molting_tui.services import trash
from tests.support.runs import Recorded, Supervisor, finished_run, make_run


def test_there_and_back_again(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    before = sorted(path.relative_to(run.path) for path in run.path.rglob("*"))
    trash.delete(run)
    assert not run.path.exists() and trash.contents(tmp_path) == [run.id]
    trash.restore(run.id, tmp_path)
    assert sorted(path.relative_to(run.path) for path in run.path.rglob("*")) == before


def test_a_run_with_a_living_owner_stays(tmp_path: Path) -> None:
    run = finished_run(tmp_path)  # its supervisor may still be packing up
    with Supervisor(run), pytest.raises(MoltingError, match="Stop it first"):
        trash.delete(run)
    assert run.path.exists()


def test_a_queued_run_that_nobody_looks_after_may_go(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    Recorded(run).state("queued")
    trash.delete(run)
    assert trash.contents(tmp_path) == [run.id]


def test_a_place_that_is_taken_is_not_overwritten(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    trash.delete(run)
    run.path.mkdir()
    with pytest.raises(MoltingError, match="stays in"):
        trash.restore(run.id, tmp_path)
    assert trash.contents(tmp_path) == [run.id]


def test_emptying_follows_no_symlink(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    runs = tmp_path / "runs"
    trash.delete(finished_run(runs))
    (runs / ".trash" / "link").symlink_to(precious)
    assert trash.empty(runs) == 2
    assert (precious / "file").exists() and trash.contents(runs) == []
