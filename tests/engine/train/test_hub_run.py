"""A run whose base is a hub id: pinned when created, downloaded by the detached trainer, gated ones with a token."""

from __future__ import annotations

import shutil

import pytest

from engine.contract import calls, events, summary
from tests.support.hub import StandInHub, serving
from tests.support.world import World, read_events, wait_for

pytestmark = pytest.mark.slow


def test_a_gated_model_is_downloaded_by_the_run_itself(world: World) -> None:
    hub = StandInHub({"org/tiny": world.model})
    hub.gated.add("org/tiny")
    hub.tokens.add("hf_secretsecretsecretsecretsecretsecret")
    hub.cut_after["model.safetensors"] = 30_000
    before = dict(world.env)
    with serving(hub):
        world.env |= {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(world.root / "hf"),
            "HF_TOKEN": "hf_secretsecretsecretsecretsecretsecret",
        }
        try:
            spec = world.persona("hub", training={"learning_rate": "auto", "max_steps": 0, "epochs": 1})
            spec.write_text(spec.read_text().replace(str(world.model), "org/tiny"))
            run = world.train(spec)
            frozen = summary.load_spec(run)
            assert frozen.model.revision == hub.commit
            wait_for(run, "finished")
            phases = {event.name for event in read_events(run, 1) if isinstance(event, events.Phase)}
            assert "fetching" in phases
            start = next(event for event in read_events(run, 1) if isinstance(event, events.Start))
            assert start.steps == 6, "what was auto is decided once the model is here"
            said = world.call("ask", calls.AskRequest(run=str(run.path), models=str(world.models), questions=["Hi?"]))
            assert said["answers"]
        finally:
            world.env = before


def test_offline_says_so_before_anything_starts(world: World) -> None:
    before = dict(world.env)
    world.env |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(world.root / "hf-none")}
    shutil.rmtree(world.models, ignore_errors=True)
    try:
        spec = world.persona("offline")
        spec.write_text(spec.read_text().replace(str(world.model), "org/elsewhere"))
        request = calls.CreateRequest(spec=str(spec), runs=str(world.runs / "no"), models=str(world.models))
        said = world.call("create", request)
        assert isinstance(said, calls.Failure)
        assert said.code == 3
        assert "org/elsewhere" in said.message + said.remedy
        assert not (world.runs / "no").exists()
    finally:
        world.env = before
