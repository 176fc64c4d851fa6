"""What is said when a run is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.checks import preflight
from engine.contract import calls, processes
from engine.contract.errors import MoltingError
from engine.train import freeze, start
from tests.support.diagnosed import persona, shipped_rows
from tests.support.runs import Recorded, make_run
from tests.support.tiny import tiny_llama


def test_the_spec_of_a_run_outlives_the_version_that_froze_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    Recorded(run).state("queued")
    (run.path / "inputs" / "rows.jsonl").write_text("{}\n")
    text = run.spec.read_text("utf-8")
    run.spec.write_text("gone = 1\n" + text.replace("data = {", "data = { rows = 0,"))
    opened = freeze.open_spec(run.spec).spec
    assert (opened.parent, opened.data.train) == (run.id, str(run.path / "inputs/rows.jsonl"))
    other = tmp_path / "spec.toml"  # one that a person writes is held to the keys there are
    other.write_text(run.spec.read_text("utf-8"))
    with pytest.raises(MoltingError, match="gone is not a key") as error:
        freeze.open_spec(other)
    assert error.value.code == 2


@pytest.mark.parametrize(("rank", "told"), [(16, []), (1, ["warning: A LoRA rank of 1"])])
def test_a_start_tells_warnings_and_no_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int, told: list[str]
) -> None:
    monkeypatch.setattr(preflight, "_of_this_machine", lambda *_: iter(()))
    monkeypatch.setattr(processes, "survives_logout", lambda: (True, ""))
    model = tiny_llama(tmp_path / "tiny", max_position_embeddings=2048)
    spec = persona(tmp_path / "rhea", model, shipped_rows(), method={"rank": rank})
    said: list[Any] = []
    request = calls.CreateRequest(spec=str(spec), runs=str(tmp_path / "runs"), models=str(tmp_path), start=False)
    started = start.create(request, said.append)
    assert started.state == "queued" and Path(started.path).is_dir()
    notes = [line.text for line in said if isinstance(line, calls.Note)]
    assert len(notes) == len(told) and all(text.startswith(begin) for text, begin in zip(notes, told, strict=True))
