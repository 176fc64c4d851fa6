"""Every method trains, saves, is loaded again and answers; settings mean what they say."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from safetensors.torch import load_file

from engine.contract import calls, durable, events
from engine.contract.rundir import RunDir
from engine.train.progress import Progress
from tests.support.world import World, kill, metrics, read_events, told, trainer_pid, wait_for, wait_for_step

pytestmark = pytest.mark.slow
FAST = {"max_steps": 12, "learning_rate": 0.02, "save_every": 100}


def prove(world: World, run: RunDir) -> dict:
    said = world.call("prove", calls.RunRequest(run=str(run.path), models=str(world.models)))
    assert isinstance(said, dict), said
    return said


def assert_forecast_was_near(world: World, run: RunDir, kind: str) -> None:
    """The run tells forecast and peak, and leaves both for later forecasts on this machine."""
    said = read_events(run, 1)
    start = next(event for event in said if isinstance(event, events.Start))
    peak = [event for event in said if isinstance(event, events.Memory)][-1].host_peak
    assert 0.8 * peak < start.plan["host_forecast"] < peak + 400 * 2**20  # of a toy, nearly all is libraries
    kept = (Path(world.env["XDG_STATE_HOME"]) / "molting" / "memory.jsonl").read_text().splitlines()
    last = json.loads(kept[-1])
    assert (last["device"], last["method"], last["measured"]) == ("cpu", kind, peak)


@pytest.mark.parametrize(
    "method",
    [
        {"kind": "qlora"},
        {"kind": "qlora", "double_quant": False, "rslora": True},
        {"kind": "lora", "dora": True},
        {"kind": "full"},
    ],
    ids=["qlora", "qlora without double quantisation, rslora", "dora", "full"],
)
def test_train_save_reload_answer(world: World, method: dict) -> None:
    run = world.finished(world.persona("method", training=FAST, method=method))
    assert durable.check_seal(run.adapter) == []
    made = metrics(run)
    assert made[12].loss < made[1].loss
    assert_forecast_was_near(world, run, method["kind"])
    proof = prove(world, run)
    assert proof["verdict"] in {"effective", "too_weak"}
    assert proof["kl"] > 0
    assert proof["heldout_loss"]["adapter"] < proof["heldout_loss"]["base"]
    asked = world.call("ask", calls.AskRequest(run=str(run.path), models=str(world.models), questions=["Who are you?"]))
    assert asked["answers"][0]["adapter"]["tokens"] > 0
    assert asked["mode"] == (
        "batched" if method["kind"] in {"lora", "qlora"} and not method.get("dora") else "two-pass"
    )


def test_layers_that_cannot_be_compiled_are_trained_uncompiled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    caches = {"TORCHINDUCTOR_CACHE_DIR": str(world.root / "compiled"), "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    monkeypatch.setattr(world, "env", world.env | caches | {"CXX": "no-such-compiler"})
    run = world.finished(world.persona("compiled", training=FAST | {"max_steps": 2, "compile": True}))
    said = read_events(run, 1)
    phases = [event.name for event in said if isinstance(event, events.Phase)]
    assert phases[phases.index("compiling") - 1] == phases[phases.index("compiling") + 1] == "training"
    (warning,) = [event for event in said if isinstance(event, events.Warn) and event.id == "not-compiled"]
    assert "compiler" in warning.message
    assert durable.check_seal(run.adapter) == []


def test_a_learning_rate_that_does_next_to_nothing_is_called_too_weak(world: World) -> None:
    run = world.finished(world.persona("weak", training=FAST | {"max_steps": 1, "learning_rate": 1e-7}))
    assert prove(world, run)["verdict"] == "too_weak"


def test_accumulation_and_packing_never_change_the_gradient(world: World) -> None:
    whole = world.finished(world.persona("whole", training=FAST | {"batch": 4, "accumulation": 1}))
    parts = world.finished(world.persona("parts", training=FAST | {"batch": 1, "accumulation": 4, "packing": False}))
    assert {e.path for run in (whole, parts) for e in read_events(run, 1) if isinstance(e, events.Start)} == {
        "packed",
        "padded",
    }
    for step, metric in metrics(whole).items():
        assert metrics(parts)[step].loss == pytest.approx(metric.loss, rel=1e-4)
        assert metrics(parts)[step].learned == metric.learned
    ours, theirs = (load_file(run.adapter / "adapter_model.safetensors") for run in (whole, parts))
    for name, tensor in ours.items():
        assert (tensor - theirs[name]).abs().max() < 5e-3, name


def test_a_stream_resumes_exactly(world: World) -> None:
    plan = {"max_steps": 16, "save_every": 3, "batch": 2}
    abilities = world.root / "abilities.jsonl"
    abilities.write_text('{"prompt": "2 + 2?", "expected": "4"}\n{"prompt": "A word that rhymes with sea"}\n')
    spec = world.persona(
        "stream",
        count=9,
        training=plan,
        data={"stream": True, "heldout": "heldout.jsonl", "shuffle_buffer": 4},
        evaluation={"every": 4, "sample_every": 8, "ability_probes": str(abilities)},
    )
    undisturbed = world.finished(spec)
    run = world.train(spec)
    wait_for_step(run, 8)
    kill(trainer_pid(run))
    wait_for(run, "failed")
    world.resume(run)
    wait_for(run, "finished")
    assert [m.loss for m in metrics(run).values()] == [m.loss for m in metrics(undisturbed).values()], told(run)
    funnel = [event for event in read_events(undisturbed, 1) if isinstance(event, events.Funnel)][-1]
    assert funnel.stream
    assert funnel.trained > 0
    for said in (read_events(undisturbed, 1), read_events(run, 2)):
        assert [(event.records, event.exact) for event in said if isinstance(event, events.Stream)][-1] == (9, True)
    at = msgspec.json.decode((undisturbed.checkpoint(15) / "progress.json").read_bytes(), type=Progress).stream
    assert at is not None and at.epoch == 3
    watched = [event for event in read_events(undisturbed, 1) if isinstance(event, events.Ability)]
    assert [event.step for event in watched] == [4, 8, 12, 16]
    assert all(event.prompts == 2 and event.loss and event.base and event.kl > 0 for event in watched)
    assert watched[-1].kl > watched[0].kl
    assert [event.copied for event in read_events(undisturbed, 1) if isinstance(event, events.Sample)] != []
    evaluations = [event for event in read_events(undisturbed, 1) if isinstance(event, events.Eval)]
    losses = [metric.loss for metric in metrics(undisturbed).values()]
    assert [event.train for event in evaluations] == pytest.approx(
        [sum(losses[i : i + 4]) / 4 for i in range(0, 16, 4)]
    )


def test_early_stopping_ends_with_the_best_weights(world: World) -> None:
    spec = world.persona(
        "early",
        training={"max_steps": 200, "learning_rate": 0.05, "early_stopping": 2, "keep_best": True, "save_every": 1000},
        evaluation={"every": 4, "sample_every": 0},
    )
    run = world.finished(spec)
    said = read_events(run, 1)
    evaluations = [event for event in said if isinstance(event, events.Eval)]
    best = min(evaluations, key=lambda event: event.loss)
    assert evaluations[-1].step < 200
    assert evaluations[-1].step == best.step + 8
    kept = load_file(run.checkpoint(best.step) / "adapter_model.safetensors")
    final = load_file(run.adapter / "adapter_model.safetensors")
    assert all(bool((kept[name] == final[name]).all()) for name in final)


def test_a_frozen_spec_is_a_spec_and_its_inputs_stay(world: World, tmp_path: Path) -> None:
    spec = world.persona("again", training=FAST)
    first = world.finished(spec)
    (spec.parent / "rows.jsonl").write_text(json.dumps({"text": "something else"}) + "\n")
    second = world.finished(first.spec)
    assert [m.loss for m in metrics(second).values()] == [m.loss for m in metrics(first).values()]
