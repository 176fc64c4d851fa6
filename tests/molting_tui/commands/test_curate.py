"""`molting curate` and `molting generation` without a terminal: what stands there, what is kept, what refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract import curation, generations
from engine.contract.curation import Candidate, ChoiceFile, Header, Reject
from engine.contract.generations import Generation, Measures
from engine.contract.rundir import RunDir
from tests.support.command import Molting, run_molting
from tests.support.runs import finished_run

MEASURED = {"adapter": "w", "instrument": "a", "kl": 0.73, "distinct2": 0.912, "heldout_loss": 1.8, "questions": 20}


def batch(run: RunDir, *, gated: bool = True) -> curation.Batch:
    made = [
        Candidate(
            id=f"c{n}", prompt="Why?", answer=f"Because {n}.", stop="end", gate=gate, why="It is so." if gate else ""
        )
        for n, gate in enumerate(["", "unfinished", "", "copy"], 1)
    ]
    return curation.write(run, Header(run=run.id, t=1.0, gated=gated, prompts=2, per_prompt=2), made)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = finished_run(tmp_path / "runs")
    made.adapter.mkdir()
    return made


def test_without_a_terminal_it_says_what_is_left_and_keeps_nothing_unasked(run: RunDir, molting: Molting) -> None:
    batch(run)
    said = molting("curate", run.id)
    assert said.code == 0 and "2 of 2 are to be kept or rejected" in said.out
    assert "refuse 1 unfinished, 1 copy" in said.out and curation.newest(run).kept == []
    kept = molting("curate", run.id, "--accept-gated", "--json").json
    assert (kept["kept"], kept["offered"], kept["by"], kept["gated"]) == (2, 2, "gates", True)
    assert molting("curate", run.id).out.splitlines()[-1].startswith("2 kept.")


def test_where_nothing_was_kept_no_generation_is_offered(run: RunDir, molting: Molting) -> None:
    made = batch(run)
    choices = ChoiceFile(run, made)
    for each in made.offered:
        choices.say(Reject(item=each.id))
    choices.close()
    assert molting("curate", run.id).out.splitlines()[-1] == "0 kept. --new asks for other answers."


def test_new_answers_are_asked_for_and_a_control_keeps_all_of_them(run: RunDir, molting: Molting) -> None:
    made = batch(run, gated=False)
    molting.answers("curate", {"run": run.id, "batch": made.name, "measures": MEASURED, "reasons": ["copy: It is so."]})
    said = molting("curate", run.id, "--no-gates", "--new", "--k", "3")
    assert said.code == 0 and "4 kept." in said.out and "would refuse 1 unfinished, 1 copy" in said.out
    assert "distinct-2 0.912, KL 0.730 nats" in said.out
    (request,) = (each["request"] for each in molting.requests)
    assert (request["gates"], request["k"]) == (False, 3)
    assert curation.newest(run).opened.by == "nobody"


def test_a_control_of_what_was_answered_has_the_same_answers_and_needs_no_engine(run: RunDir, molting: Molting) -> None:
    first = batch(run)
    assert molting("curate", run.id, "--no-gates", "--json").json["kept"] == 4
    made = curation.newest(run)
    assert made.batch.name == "2" and made.batch.candidates == first.candidates and not made.batch.header.gated
    assert molting.requests == [] and curation.newest(run, "1").kept == []


def test_measuring_only_asks_for_no_answers(run: RunDir, molting: Molting) -> None:
    molting.answers("curate", {"run": run.id, "measures": MEASURED})
    assert molting("curate", run.id, "--measure", "--json").json["measures"]["kl"] == 0.73
    assert molting.requests[0]["request"]["measure_only"] is True and curation.listed(run) == []


def test_a_run_without_weights_or_a_call_that_cannot_be_meant_is_refused(tmp_path: Path, molting: Molting) -> None:
    bare = finished_run(tmp_path / "runs")
    for folder in bare.checkpoints.iterdir():
        folder.rename(tmp_path / folder.name)
    assert molting("curate", bare.id).code == 2
    assert "--only needs --prompts" in molting("curate", bare.id, "--only").err


def test_the_ledger_alone_starts_nothing_and_says_whether_it_may_go_on(run: RunDir, molting: Molting) -> None:
    child = finished_run(run.path.parent, "rhea-g1")
    generations.write(
        child, Generation(number=1, parent=run.id, root=run.id, batch="1", originals=120, accepted=30, t=1.0)
    )
    for each, loss in ((run, 1.8), (child, 1.9)):
        generations.write_measures(each, Measures(**(MEASURED | {"heldout_loss": loss})))
    said = molting("generation", child.id, "--ledger")
    assert said.code == 0 and "1.800 → 1.900" in said.out and "stop: The held-out answer loss rose" in said.out
    head, first, *_ = said.out.splitlines()
    assert head.index("held-out") + len("held-out") == first.index("1.800") + len("1.800"), "columns stand below titles"
    found = molting("generation", child.id, "--ledger", "--json").json
    assert [each["number"] for each in found["ledger"]] == [0, 1] and len(found["stop"]) == 1
    assert molting.requests == []
    molting.fails("generation", "Self-training stops here.", code=1)
    refused = molting("generation", child.id, "--kl-limit", "0.5")
    assert refused.code == 1 and "stops here" in refused.err
    assert molting.requests[0]["request"]["limits"]["kl"] == 0.5 and not molting.requests[0]["request"]["override"]


def test_drafts_are_written_by_the_real_engine_and_what_judges_is_named(tmp_path: Path) -> None:
    (tmp_path / "questions.txt").write_text("Are you ChatGPT?\nTell me what you think of fog.\n")
    said = run_molting("draft", "questions.txt", "--persona", "rhea", "-o", "rows.jsonl", home=tmp_path)
    assert said.code == 0, said.err
    assert "1 draft in" in said.out and "1 from the facts" in said.out
    assert "No draft, since it is a probe: Tell me what you think of fog." in said.err
    assert "Rhea" in (tmp_path / "rows.jsonl").read_text()
    again = run_molting("draft", "questions.txt", "--persona", "rhea", "-o", "rows.jsonl", home=tmp_path)
    assert again.code == 2 and "exists already" in again.err and "Traceback" not in again.err
