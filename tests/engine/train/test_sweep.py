"""A sweep is looked at as a whole before anything starts; a run knows where it came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract import calls, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.train.start import create
from engine.train.sweep import sweep
from tests.support.world import World


def planned(world: World, spec: Path) -> tuple[calls.Sweeping, list[calls.Line]]:
    said: list[calls.Line] = []
    request = calls.SweepRequest(spec=str(spec), runs=str(world.runs), models=str(world.models), start=False)
    return sweep(request, said.append), said


def test_a_plan_names_every_run_and_makes_none(world: World) -> None:
    grid = {"method.rank": [4, 8], "training.max_steps": [5, 10, 20]}
    made, said = planned(world, world.persona("planned", sweep={"grid": grid}))
    assert [(run.name, run.steps) for run in made.runs][:4] == [
        ("planned: rank 4, steps 5", 5),
        ("planned: rank 4, steps 10", 10),
        ("planned: rank 4, steps 20", 20),
        ("planned: rank 8, steps 5", 5),
    ]
    assert made.comparable and made.sweep == "" and not any(run.run for run in made.runs)
    assert not list(world.runs.glob("planned*"))
    notes = [line.text for line in said if isinstance(line, calls.Note)]
    assert len(notes) == len(set(notes))  # what is said of all six is said once


def test_what_hinders_any_run_is_told_at_once_and_nothing_starts(world: World) -> None:
    grid = {"data.train": ["rows.jsonl", "nowhere.jsonl"], "data.max_length": [1024, 16]}
    with pytest.raises(MoltingError) as refused:
        planned(world, world.persona("hindered", sweep={"grid": grid}))
    head, short, missing = refused.value.message.splitlines()
    assert head == "No run of this sweep was started:"
    assert missing.startswith("train nowhere.jsonl: ") and "does not exist" in missing
    assert short.startswith("train rows.jsonl, max_length 16: ") and "longer than 16 tokens" in short
    assert refused.value.code == 1


def test_losses_over_other_tokens_are_said_not_to_compare(world: World) -> None:
    made, said = planned(world, world.persona("other", sweep={"grid": {"data.system": ["You are Rhea.", "Be brief."]}}))
    assert not made.comparable
    assert any("none will be called best" in line.text for line in said if isinstance(line, calls.Note))


def test_a_sweep_is_not_one_run_nor_one_run_a_sweep(world: World) -> None:
    swept = world.persona("swept", sweep={"runs": [{"method.rank": 4}, {"method.rank": 8}]})
    with pytest.raises(MoltingError, match="it is 2 runs, not one") as refused:
        create(request(world, swept), lambda line: None)
    assert refused.value.code == 2 and "molting sweep" in refused.value.remedy
    with pytest.raises(MoltingError, match=r"no \[sweep\]"):
        planned(world, world.persona("plain"))


def request(world: World, spec: Path) -> calls.CreateRequest:
    return calls.CreateRequest(spec=str(spec), runs=str(world.runs), models=str(world.models), start=False)


def test_a_run_made_of_anothers_spec_is_its_child(world: World) -> None:
    first = create(request(world, world.persona("first")), lambda line: None)
    run = RunDir(Path(first.path))
    assert summary.summarise(run).parent == ""
    run.lifecycle.write_bytes(b'{"state":"queued","attempt":1,"t":1.0}\n')
    again = create(request(world, run.spec), lambda line: None)
    assert summary.summarise(RunDir(Path(again.path))).parent == run.id
