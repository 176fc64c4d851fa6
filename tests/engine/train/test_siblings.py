"""When a run of a sweep is clearly worse than another."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from engine.contract import events
from engine.contract.rundir import RunDir
from engine.contract.spec import Data, Model, Spec, Sweep, Training
from engine.train.siblings import Other, Siblings, worse
from tests.support.runs import Recorded, make_run

LOSSES = st.dictionaries(st.integers(1, 8), st.floats(0.01, 10.0))


def test_worse_means_by_a_tenth_at_two_evaluations_in_a_row() -> None:
    good = Other("good", {5: 2.0, 10: 1.0, 15: 0.9})
    assert "Clearly worse than good: held-out loss 1.2 against 1 at step 10" in worse({5: 2.3, 10: 1.2}, [good])
    assert worse({5: 2.3, 10: 1.05}, [good]) == ""  # it catches up
    assert worse({5: 2.1, 10: 1.2}, [good]) == ""  # worse for the first time
    assert worse({10: 1.2}, [good]) == ""
    assert worse({5: 2.3, 12: 3.0}, [good]) == ""  # no such step there
    assert worse({5: 2.3, 10: 1.2}, []) == ""


@given(LOSSES, LOSSES)
def test_of_two_runs_at_most_one_is_worse(one: dict[int, float], other: dict[int, float]) -> None:
    last = sorted(one.keys() & other.keys())[-2:]
    ours, theirs = ({step: run[step] for step in last} for run in (one, other))
    assert not (worse(ours, [Other("b", theirs)]) and worse(theirs, [Other("a", ours)]))
    assert not worse(ours, [Other("itself", ours)])


def made(runs: Path, name: str, losses: list[float], *, sweep: str = "s", steps: int = 20, stop: bool = True) -> RunDir:
    spec = Spec(
        name=name,
        model=Model(base="demo", precision="fp32"),
        data=Data(train="inputs/rows.jsonl"),
        training=Training(max_steps=steps),
        sweep=Sweep(id=sweep, stop_worse=stop),
    )
    run = make_run(runs, name, spec=spec)
    recorded = Recorded(run).state("queued", "starting").start(steps=steps).state("training")
    for number, loss in enumerate(losses, start=1):
        recorded.say(events.Eval(step=5 * number, loss=loss, rows=3, seconds=0.1))
    return run


def judged(run: RunDir, **sweep: object) -> str:
    spec = Spec(
        model=Model(base="demo"),
        data=Data(train="x"),
        training=Training(max_steps=20),
        sweep=Sweep(id="s", stop_worse=bool(sweep.get("stop", True))),
    )
    return Siblings(run, spec).clearly_worse()


def test_only_siblings_that_go_as_far_are_asked(tmp_path: Path) -> None:
    run = made(tmp_path, "worse", [2.0, 2.0])
    made(tmp_path, "of another sweep", [1.0, 1.0], sweep="t")
    made(tmp_path, "shorter", [1.0, 1.0], steps=10)
    (tmp_path / "broken-1").mkdir()
    (tmp_path / "broken-1" / "spec.toml").write_text("[")
    assert judged(run) == ""
    made(tmp_path, "better", [1.0, 1.0])
    assert "Clearly worse than better" in judged(run)
    assert judged(run, stop=False) == ""


def test_who_resumes_a_run_wants_it_to_go_on(tmp_path: Path) -> None:
    run = made(tmp_path, "worse", [2.0, 2.0])
    made(tmp_path, "better", [1.0, 1.0])
    Recorded(run).state("interrupted")
    run.attempt(2).path.mkdir()
    assert judged(run) == ""
