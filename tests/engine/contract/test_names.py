"""What a run is called, on both sides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.contract import names, rundir, summary
from tests.support.runs import finished_run


def give(runs: Path, said: object) -> None:
    (runs / ".app").mkdir(exist_ok=True)
    (runs / ".app" / "view.json").write_text(json.dumps(said))


def test_a_given_name_is_the_name_everywhere(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    own = summary.name_of(run)
    give(tmp_path, {"v": 1, "names": {run.id: "the good one"}, "pinned": []})
    assert summary.name_of(run) == "the good one" != own
    assert rundir.find(tmp_path, "the good one", summary.name_of).id == run.id


@pytest.mark.parametrize("said", ["[]", "{", '{"names": {"a": 1}}', "[" * 20_000, ""])
def test_a_damaged_view_gives_no_names(tmp_path: Path, said: str) -> None:
    (tmp_path / ".app").mkdir()
    (tmp_path / ".app" / "view.json").write_text(said)
    assert names.given(tmp_path) == {}


def test_a_hostile_name_is_shown_harmlessly_on_one_line() -> None:
    said = names.shown("id", "own", {"id": "a\x1b]52;c;x\x07\nb" + "c" * 500})
    assert "\x1b" not in said and "\n" not in said
    assert names.shown("id", "", {}) == "id"
