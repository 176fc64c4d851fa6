"""A sweep is checked as a whole, and every point of it becomes a sound spec."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import sweeps, tomlcheck
from engine.contract.spec import Data, Model, Spec, Sweep
from engine.contract.summary import Summary
from engine.contract.tomlcheck import SpecError

HEAD = 'model.base = "demo"\ndata.train = "rows.jsonl"\n[sweep]\n'


def read(text: str) -> Spec:
    return tomlcheck.load(HEAD + text, Spec, also=sweeps.mistakes)


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as refused:
        read(text)
    return [str(problem) for problem in refused.value.problems]


def test_a_grid_is_every_combination_in_either_way_of_writing_a_key() -> None:
    quoted = read('grid = { "method.rank" = [8, 16], "training.learning_rate" = [1e-4, 1e-3] }')
    dotted = read("[sweep.grid]\nmethod.rank = [8, 16]\ntraining.learning_rate = [1e-4, 1e-3]")
    found = sweeps.points(quoted.sweep)
    assert found == sweeps.points(dotted.sweep)
    assert [tuple(point.values()) for point in found] == [(8, 1e-4), (8, 1e-3), (16, 1e-4), (16, 1e-3)]
    assert sweeps.label(found[1]) == "rank 8, lr 0.001"


def test_single_runs_are_each_made_with_all_of_the_grid() -> None:
    spec = read('grid = { "method.rank" = [8, 16] }\nruns = [{ "training.seed" = 1 }, { "training.epochs" = 2 }]')
    labels = [sweeps.label(point) for point in sweeps.points(spec.sweep)]
    assert labels == ["seed 1, rank 8", "seed 1, rank 16", "epochs 2, rank 8", "epochs 2, rank 16"]


def test_a_spec_without_a_sweep_has_no_points() -> None:
    assert sweeps.points(read("").sweep) == []


def test_all_that_is_wrong_is_told_at_once_with_its_line() -> None:
    said = problems(
        'runs = [{ "method.rank" = 0 }, { "rank" = 3 }]\n'
        '[sweep.grid]\n"method.rank" = [8, "x"]\ntraining.learning_rate = 3\ndata.sha256 = ["x"]\n'
    )
    assert said == [
        "line 4: sweep.runs: method.rank is 0; expected a whole number from 1 to 1024.",
        "line 4: sweep.runs: rank is not a key that can be varied. Did you mean method.rank?",
        'line 6: sweep.grid: method.rank is "x"; expected a whole number from 1 to 1024.',
        "line 7: sweep.grid: training.learning_rate is 3; expected a list of values.",
        "line 8: sweep.grid: data.sha256 is not a key that can be varied. Did you mean data.stream?",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"grid = {{ 'training.seed' = {list(range(65))} }}", "65 runs; 64 are the most"),
        ("grid = { 'training.seed' = [1, 1] }", "Two runs of the sweep are the same: seed 1."),
        ("grid = { 'training.learning_rate' = [nan] }", "training.learning_rate is nan"),
        ("grid = { 'name' = ['x'] }", "name is not a key that can be varied"),
        ("grid = 3", "sweep.grid is 3; expected a table"),
        ("grid = { a" + ".a" * 9000 + " = 1 }", "is not a key that can be varied"),
        ("grid = { 'method.rank' = [] }", "method.rank is an empty list; expected a list of values"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(text: str, said: str) -> None:
    assert said in problems(text)[0]


def test_a_million_combinations_are_counted_not_made() -> None:
    keys = ("training.seed", "generation.seed", "data.shuffle_buffer", "training.batch")
    grid = ", ".join(f'"{key}" = {list(range(1, 200))}' for key in keys)
    assert "1,568,239,201 runs" in problems(f"grid = {{ {grid} }}")[0]


_VALUES = {
    "method.rank": st.integers(1, 1024),
    "training.learning_rate": st.floats(1e-6, 1.0),
    "training.max_steps": st.integers(0, 1000),
    "data.system": st.text(max_size=20),
    "method.target_modules": st.lists(st.sampled_from(["q_proj", "v_proj"]), min_size=1),
}


@given(st.fixed_dictionaries({}, optional=_VALUES))
def test_a_point_changes_its_keys_and_nothing_else(point: sweeps.Point) -> None:
    spec = Spec(model=Model(base="demo"), data=Data(train="rows.jsonl"))
    after = msgspec.to_builtins(sweeps.applied(spec, point))
    before = msgspec.to_builtins(spec)
    for key, value in point.items():
        section, name = key.split(".")
        assert after[section].pop(name) == value
        before[section].pop(name)
    assert after == before


@pytest.mark.parametrize(
    ("grid", "heldout", "same"),
    [
        ({"method.rank": [8, 16]}, "", True),
        ({"training.seed": [1, 2]}, "", False),  # another seed holds out other rows
        ({"training.seed": [1, 2]}, "heldout.jsonl", True),
        ({"data.train": ["a.jsonl", "b.jsonl"]}, "", False),
        ({"data.train": ["a.jsonl", "b.jsonl"]}, "heldout.jsonl", True),
        ({"data.system": ["a", "b"]}, "heldout.jsonl", False),
        ({"model.base": ["a", "b"]}, "heldout.jsonl", False),
        ({"model.base": ["a"]}, "heldout.jsonl", True),
    ],
)
def test_held_out_losses_compare_only_over_the_same_tokens(grid: dict[str, list], heldout: str, same: bool) -> None:
    spec = Spec(model=Model(base="demo"), data=Data(train="rows.jsonl", heldout=heldout), sweep=Sweep(grid=grid))
    assert sweeps.comparable(spec, sweeps.points(spec.sweep)) is same


def test_files_of_a_sweep_are_found_from_another_folder(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    grid = {"data": {"train": ["a.jsonl", "/b.jsonl"]}, "method.rank": [8], "model.base": ["demo", "tiny", "./other"]}
    found = sweeps.located(Sweep(grid=grid, runs=[{"data.heldout": ""}]), tmp_path, Path.exists)
    assert found.grid == {
        "data.train": [f"{tmp_path}/a.jsonl", "/b.jsonl"],
        "method.rank": [8],
        "model.base": ["demo", f"{tmp_path}/tiny", f"{tmp_path}/other"],
    }
    assert found.runs == [{"data.heldout": ""}]


def member(id: str, state: str, loss: float | None, comparable: bool = True) -> Summary:
    return Summary(id=id, path="", name=id, state=state, eval_loss=loss, sweep="s", comparable=comparable)  # type: ignore[arg-type]


def test_best_is_the_lowest_held_out_loss_of_those_that_finished() -> None:
    going, done, worse = member("a", "training", 0.1), member("b", "finished", 0.5), member("c", "finished", 0.9)
    assert sweeps.best([going, worse, done]) == "b"
    assert sweeps.best([going, member("d", "failed", None)]) == "a"  # so far
    assert sweeps.best([member("d", "failed", None)]) == ""
    assert sweeps.best([done, member("e", "finished", 0.1, comparable=False)]) == ""


def test_some_runs_are_named_by_what_they_have_in_common() -> None:
    spec = read('grid = { "method.rank" = [4, 8], "training.seed" = [1, 2, 3] }')
    every = sweeps.points(spec.sweep)
    assert sweeps.whose(every, every) == "all runs"
    assert sweeps.whose(every[3:], every) == "rank 8"
    assert sweeps.whose(every[1:2], every) == "rank 4, seed 2"
    assert sweeps.whose(every[:5], every) == "rank 4, seed 1; rank 4, seed 2; rank 4, seed 3 and 2 more"
