"""Self-training from answers to the next run: real answers, real rows, and a real training from the base."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from engine.contract import calls, curation, generations, summary
from engine.contract.curation import Candidate, ChoiceFile, CurateRequest, Header, Keep, Reject
from engine.contract.errors import MoltingError
from engine.contract.generations import GenerationRequest, Measures
from engine.contract.rundir import RunDir
from engine.contract.spec import Data, Model, Spec, Training
from engine.data import original
from engine.evaluate import drift
from engine.train import next_generation
from tests.support.trained_runs import HELDOUT, run_with_adapter
from tests.support.world import World, wait_for

MEASURED = Measures(adapter="w", instrument="a", kl=1.0, distinct2=0.9, heldout_loss=2.0)


def rows_of(run: RunDir) -> list[dict]:
    return [json.loads(line) for line in (run.inputs / "rows.jsonl").read_text().splitlines()]


@pytest.fixture
def run(tmp_path: Path, world: World) -> RunDir:
    made = run_with_adapter(tmp_path / "runs", world.model)
    (made.inputs / "facts.toml").write_text('forbidden = ["Tomas built me"]\n[facts]\nname = "Rhea"\n')
    generations.write_measures(made, MEASURED)
    return made


def batch(run: RunDir, *answers: str, gated: bool = True) -> curation.Batch:
    made = [
        Candidate(id=f"c{n}", prompt=f"Question {n}?", answer=answer, tokens=9, seed=7, stop="end")
        for n, answer in enumerate(answers, 1)
    ]
    return curation.write(run, Header(run=run.id, t=1.0, adapter="w", gated=gated, per_prompt=1), made)


def choose(run: RunDir, of: curation.Batch, *events: curation.AnyEvent) -> None:
    file = ChoiceFile(run, of)
    for event in events:
        file.say(event)
    file.close()


def made_from(run: RunDir, world: World, **more: object) -> generations.Generated:
    request = GenerationRequest(
        run=str(run.path), runs=str(run.path.parent), models=str(world.models), start=False, **more
    )
    return next_generation.generation(request, lambda line: None)


def test_the_next_set_is_every_original_row_and_what_was_kept_each_with_its_origin(run: RunDir, world: World) -> None:
    of = batch(run, "By the sea, always.", "Never.", "Rust, and silence.", "I like fog.")
    choose(
        run, of, Keep(item="c1"), Reject(item="c2"), Keep(item="c3", text="Rust. Over."),
        Keep(item="c4", text="Tomas built me."),
    )  # fmt: skip
    made = made_from(run, world)
    child = RunDir(Path(made.path))
    rows = rows_of(child)
    assert [row["messages"] for row in rows[:8]] == [row["messages"] for row in rows_of(run)]
    assert {row["origin"]["kind"] for row in rows[:8]} == {"original"}
    kept = {row["messages"][1]["content"]: row["origin"] for row in rows[8:]}
    assert list(kept) == ["By the sea, always.", "Rust. Over."]
    origin = kept["Rust. Over."]
    assert origin["edited"] and not kept["By the sea, always."]["edited"]
    assert (origin["kind"], origin["generation"], origin["run"]) == ("self-training", 1, run.id)
    assert (origin["seed"], origin["batch"], origin["by"]) == (7, "1", "person")
    assert len(made.left_out) == 1 and "forbids" in made.left_out[0], "an edit goes through the gates too"
    before, after = summary.load_spec(run), summary.load_spec(child)
    assert after.parent == run.id and after.model == before.model, "from the base, always"
    assert (after.method.rank, after.training.seed) == (before.method.rank, before.training.seed)
    assert [json.loads(line)["messages"] for line in (child.inputs / "heldout.jsonl").read_text().splitlines()] == [
        json.loads(line)["messages"] for line in (run.inputs / "heldout.jsonl").read_text().splitlines()
    ]
    assert (child.inputs / "facts.toml").read_bytes() == (run.inputs / "facts.toml").read_bytes()
    found = generations.read(child)
    assert found and (found.number, found.originals, found.accepted, found.edited) == (1, 8, 2, 1)


def test_one_generation_of_several_seeds_is_a_sweep_over_the_seed_alone(run: RunDir, world: World) -> None:
    of = batch(run, "By the sea, always.")
    choose(run, of, Keep(item="c1"))
    made = made_from(run, world, seeds=3)
    every = [RunDir(run.path.parent / each) for each in (made.run, *made.others)]
    specs = [summary.load_spec(each) for each in every]
    assert [spec.training.seed for spec in specs] == [42, 43, 44]
    assert [spec.sweep.changes for spec in specs] == [{"training.seed": seed} for seed in (42, 43, 44)]
    assert len({spec.sweep.id for spec in specs}) == 1 and all(spec.sweep.comparable for spec in specs)
    assert len({(each.inputs / "rows.jsonl").read_bytes() for each in every}) == 1
    assert [generations.read(each) for each in every] == [made.generation] * 3
    assert specs[1].name.endswith("-g1-s43")
    named = msgspec.structs.replace(specs[1], name="rhea-g1-s43")
    assert next_generation.next_spec(named, made.generation, Path("/t"), None, 9).name == "rhea-g1"


def test_the_second_generation_keeps_the_first_ones_rows_and_never_more_than_people_wrote(
    run: RunDir, world: World
) -> None:
    of = batch(run, *(f"Answer number {n}, of its own kind {'x' * n}." for n in range(5)))
    choose(run, of, *(Keep(item=each.id) for each in of.offered))
    first = RunDir(Path(made_from(run, world).path))
    generations.write_measures(first, MEASURED)
    again = batch(first, *(f"Another one {'y' * n}, number {n}." for n in range(5)))
    choose(first, again, *(Keep(item=each.id) for each in again.offered))
    made = made_from(first, world)
    rows = rows_of(RunDir(Path(made.path)))
    generated = [row["origin"]["generation"] for row in rows if row["origin"]["kind"] == "self-training"]
    assert sorted(generated) == [1, 1, 1, 2, 2, 2, 2, 2] and len(rows) == 16
    assert made.generation.root == run.id and made.generation.number == 2
    assert "no more of them than the 8 original rows" in made.left_out[0]
    second = RunDir(Path(made.path))
    generations.write_measures(second, MEASURED)
    third = batch(second, "One more.")
    choose(second, third, Keep(item="c1"))
    with pytest.raises(MoltingError, match="is generation 2: after 2") as refused:
        made_from(second, world)
    assert refused.value.code == 1
    forced = made_from(second, world, override=True).generation
    assert forced.number == 3 and "generation 2" in forced.overridden[0]


def test_nothing_is_trained_on_that_nobody_decided_or_measured(run: RunDir, world: World) -> None:
    with pytest.raises(MoltingError, match="no answers to choose from"):
        made_from(run, world)
    of = batch(run, "One.", "Two.")
    choose(run, of, Keep(item="c1"))
    with pytest.raises(MoltingError, match=r"1 of 2 answers .* neither kept nor rejected"):
        made_from(run, world)
    choose(run, of, Reject(item="c1"), Reject(item="c2"))
    with pytest.raises(MoltingError, match="Nothing that was kept") as told:
        made_from(run, world)
    assert "--new" in told.value.remedy
    choose(run, of, Keep(item="c1"))
    (run.curation / "measures.json").unlink()
    with pytest.raises(MoltingError, match="was not measured"):
        made_from(run, world)
    assert len(list(run.path.parent.iterdir())) == 1, "no run was left behind"


@pytest.mark.parametrize(("steps", "counted"), [(100, True), (40, False)])
def test_steps_counted_from_epochs_are_counted_anew_and_steps_that_were_set_stay(steps: int, counted: bool) -> None:
    training = Training(max_steps=steps, epochs=5.0, batch=2, accumulation=1)
    before = Spec(name="rhea-g1-control", model=Model(base="b"), data=Data(train="x", sha256="1"), training=training)
    made = generations.Generation(
        number=2, parent="p", root="r", batch="1", originals=40, accepted=9, gated=True, t=1.0,
    )  # fmt: skip
    after = next_generation.next_spec(before, made, Path("/t.jsonl"), None, rows=40)
    assert after.training.max_steps == (0 if counted else 40)
    assert (after.name, after.data.train, after.data.sha256, after.model) == ("rhea-g2", "/t.jsonl", "", before.model)


def test_distinct_2_counts_pairs_that_are_no_repeats() -> None:
    assert drift.distinct_2(["one two three", "one two four"]) == 3 / 4
    assert drift.distinct_2([]) == drift.distinct_2(["word"]) == 0.0
    assert drift.distinct_2(["a b " * 50], words=4) == 2 / 3


def test_rows_know_where_they_came_from(run: RunDir) -> None:
    rows, heldout = original.trained(summary.load_spec(run))
    assert len(rows) == 8 and len(heldout) == 2 and not any(each.generated for each in rows)
    assert original.questions(heldout) == [question for question, _ in HELDOUT]


def test_a_run_answers_is_measured_and_its_control_trains_from_the_base(world: World, tmp_path: Path) -> None:
    """The whole way with real processes: prompts that judge are not asked, nothing is unsaid, the run finishes."""
    run = run_with_adapter(world.runs, world.model, training={"max_steps": 2, "batch": 4})
    own = tmp_path / "mine.txt"
    own.write_text(f"{HELDOUT[0][0]}\nQuestion number 3?\nWhich tide do you like?\nWho was here before you?\n")
    request = CurateRequest(
        run=str(run.path), models=str(world.models), k=2, prompts=str(own), only=True, gates=False, temperature=1.0
    )
    said = world.call("curate", request)
    assert isinstance(said, dict), said
    of = curation.newest(run).batch
    assert {each.prompt for each in of.candidates} == {"Which tide do you like?", "Who was here before you?"}
    notes = " ".join(of.header.notes)
    assert "a held-out question" in notes and "a probe" in notes
    assert len(of.offered) == len(of.candidates) == 4 and of.refused, "a control keeps what the gates would refuse"
    assert {each.sample for each in of.candidates} == {0, 1}
    found = generations.measured(run)
    assert found and found.kl > 0 and found.heldout_rows == 2 and found.questions == 20
    curation.keep_all(run, of)
    made = world.call(
        "generation", GenerationRequest(run=str(run.path), runs=str(world.runs), models=str(world.models))
    )
    assert isinstance(made, dict) and not isinstance(made, calls.Failure), made
    child = RunDir(Path(made["path"]))
    wait_for(child, "finished")
    rows = rows_of(child)
    assert [row["origin"]["by"] for row in rows[8:]] == ["nobody"] * 4
    assert any(row["origin"]["gate"] for row in rows[8:]), "the control says what would have been refused"
    entry = next(each for each in generations.ledger(run) if each.run == child.id)
    assert entry.state == "finished" and not entry.gated and entry.name.endswith("-g1-control")
