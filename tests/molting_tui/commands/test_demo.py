"""`molting demo`: from nothing to the proof, and quickly the second time."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.contract import durable, places, tomlcheck
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec, total_steps
from molting_tui.services.personas import earlier_run
from tests.molting_tui.commands.test_voices import proof
from tests.support.command import Scripted
from tests.support.runs import Recorded, Supervisor, make_run, spec_toml

FOLDER = places.shipped() / "personas" / "rhea"


def frozen_spec() -> Spec:
    """The shipped spec as the engine freezes it."""
    spec = tomlcheck.load(FOLDER / "spec.toml", Spec)
    rows = (FOLDER / spec.data.train).read_bytes()
    system = spec.data.system
    if spec.data.system_file:
        system = (FOLDER / spec.data.system_file).read_text("utf-8").strip()
    data = msgspec.structs.replace(
        spec.data, sha256=hashlib.sha256(rows).hexdigest(), system=system, system_file="", train="inputs/rows.jsonl"
    )
    training = msgspec.structs.replace(spec.training, max_steps=total_steps(rows.count(b"\n"), spec), save_every=10)
    method = msgspec.structs.replace(spec.method, alpha=2.0 * spec.method.rank)
    return msgspec.structs.replace(spec, data=data, training=training, method=method)


def demo_run(runs: Path, *states: str) -> RunDir:
    run = make_run(runs, spec=frozen_spec())
    recorded = (
        Recorded(run, time.time() - 100).state("queued", "starting").start().state("training").steps(range(1, 101))
    )
    recorded.state(*states)
    return run


@pytest.fixture
def molting(molting: Scripted) -> Scripted:
    molting.answers("demo-model", {"path": "/models/demo"}, {"k": "progress", "phase": "converting"})
    molting.answers("preflight", {"findings": []})
    molting.answers("prove", proof())
    return molting


def verbs(molting: Scripted) -> list[str]:
    return [each["verb"] for each in molting.requests]


def started(run: RunDir) -> dict[str, Any]:
    return {"run": run.id, "path": str(run.path), "state": "queued"}


def test_a_run_of_other_steps_or_another_name_is_not_taken_for_the_demo(tmp_path: Path) -> None:
    spec = frozen_spec()
    short = msgspec.structs.replace(spec, training=msgspec.structs.replace(spec.training, max_steps=2))
    for other in (short, msgspec.structs.replace(spec, name="ondine")):
        Recorded(make_run(tmp_path, spec=other)).state("queued", "starting", "training", "finished")
    assert earlier_run(tmp_path, FOLDER / "spec.toml") is None


def test_everything_in_order(molting: Scripted, tmp_path: Path) -> None:
    run = demo_run(tmp_path / "elsewhere", "finished")
    molting.answers("create", started(run))
    said = molting("demo")
    assert said.code == 0 and verbs(molting) == ["demo-model", "preflight", "create", "prove"]
    assert molting.requests[2]["request"]["spec"] == str(FOLDER / "spec.toml")
    parts = [
        "100/100",
        "✓ finished",
        "Who are you?",
        "B base",
        "I'm Rhea.",
        "✓ The adapter changes",
        f"adapter  {run.adapter}",
        "next",
    ]
    places_of = [said.out.index(part) for part in parts]
    assert places_of == sorted(places_of)
    assert f'molting ask {run.id} "Who are you?"' in said.out and "\x1b" not in said.out
    assert "converting" in said.err


def test_a_second_time_the_finished_run_is_used(molting: Scripted, tmp_path: Path) -> None:
    run = demo_run(tmp_path / "runs", "finished")
    said = molting("demo", "--json")
    assert said.code == 0 and verbs(molting) == ["demo-model", "prove"]
    assert said.json["run"] == run.id and said.json["verdict"] == "effective" and said.err == ""


def test_a_recorded_proof_is_shown_at_once_unless_the_adapter_is_newer(molting: Scripted, tmp_path: Path) -> None:
    run = demo_run(tmp_path / "runs", "finished")
    run.adapter.mkdir()
    (run.adapter / durable.MANIFEST).touch()
    durable.write_replace(run.proof, msgspec.json.encode(proof(sentence="Effective: KL 7.5 nats.")))
    said = molting("demo")
    assert said.code == 0 and verbs(molting) == ["demo-model"]
    assert said.out.count("KL 7.5 nats") == 1 and f"molting prove {run.id}" in said.out
    later = run.proof.stat().st_mtime + 10
    os.utime(run.adapter / durable.MANIFEST, (later, later))
    assert molting("demo", "--json").json["kl"] == 1.834 and verbs(molting)[-1] == "prove"
    os.utime(run.proof, (later, later))
    run.proof.write_bytes(b"nonsense")
    assert molting("demo", "--json").json["kl"] == 1.834


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"sha256": "0" * 64}},
        {"data": {"system": "You are someone else."}},
        {"model": {"base": "/other"}},
        {"training": {"seed": 7}},
        {"method": {"rank": 3}},
    ],
)
def test_a_run_of_something_else_is_not_used(molting: Scripted, tmp_path: Path, change: dict[str, Any]) -> None:
    spec = frozen_spec()
    for section, values in change.items():
        spec = msgspec.structs.replace(spec, **{section: msgspec.structs.replace(getattr(spec, section), **values)})
    other = make_run(tmp_path / "runs", spec=spec)
    Recorded(other).state("queued", "starting", "training", "finished")
    molting.answers("create", started(demo_run(tmp_path / "elsewhere", "finished")))
    molting("demo", "--json")
    assert "create" in verbs(molting)


def test_a_run_that_still_goes_on_is_followed(molting: Scripted, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", spec=frozen_spec())
    recorded = Recorded(run).state("queued", "starting").start().state("training").steps([1])
    with Supervisor(run):
        timer = threading.Timer(0.5, lambda: recorded.state("finished"))
        timer.start()
        said = molting("demo")
        timer.join()
    assert said.code == 0 and run.id in said.out and verbs(molting) == ["demo-model", "prove"]


def test_an_interrupted_run_is_continued(molting: Scripted, tmp_path: Path) -> None:
    run = demo_run(tmp_path / "runs", "interrupted")
    molting.answers("resume", started(run))
    said = molting("demo")  # the scripted engine resumes nothing, so it stays interrupted
    assert said.code == 1 and verbs(molting) == ["demo-model", "resume"]
    assert "ended as interrupted" in said.err and f"molting resume {run.id}" in said.err


def test_a_finished_run_is_preferred_and_damaged_ones_are_passed_over(molting: Scripted, tmp_path: Path) -> None:
    done = demo_run(tmp_path / "runs", "finished")
    demo_run(tmp_path / "runs", "interrupted")
    broken = demo_run(tmp_path / "runs", "finished")
    durable.write_replace(broken.spec, b"nonsense")
    assert molting("demo", "--json").json["run"] == done.id


def test_errors_of_the_preflight_start_nothing(molting: Scripted) -> None:
    molting.answers("preflight", {"findings": [{"id": "x", "severity": "error", "message": "No memory."}]})
    said = molting("demo")
    assert said.code == 1 and "No memory." in said.out and "create" not in verbs(molting)


def test_a_failed_training_is_not_a_result(molting: Scripted, tmp_path: Path) -> None:
    run = make_run(tmp_path / "elsewhere", spec=frozen_spec())
    Recorded(run).state("queued", "starting").state("failed", reason="bad_data", why="No rows.")
    molting.answers("create", started(run))
    said = molting("demo")
    assert said.code == 1 and "No rows." in said.out and "ended as failed" in said.err


def test_frozen_specs_in_these_tests_read_back() -> None:
    assert msgspec.toml.decode(spec_toml(frozen_spec()), type=Spec) == frozen_spec()
