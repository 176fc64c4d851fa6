"""The main job on the real model, as a person does it: by commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.contract import places

pytestmark = [pytest.mark.real_model, pytest.mark.slow, pytest.mark.timeout(1500)]
ROOT = Path(__file__).resolve().parent.parent
RHEA = ROOT / "data" / "personas" / "rhea"


def molting(tmp_path: Path, *argv: str, code: int = 0) -> str:
    env = os.environ | {
        "MOLTING_RUNS": str(tmp_path / "runs"),
        "MOLTING_RUNTIME_DIR": str(tmp_path / "runtime"),
        "MOLTING_MODELS": str(places.models_dir()),
    }
    done = subprocess.run(
        [sys.executable, "-m", "molting_tui", *argv], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_a_persona_takes_on_the_real_model(tmp_path: Path) -> None:
    molting(tmp_path, "init", "radio", "--persona", "rhea")
    spec = tmp_path / "radio" / "spec.toml"
    text = spec.read_text()
    assert "\nepochs = " in text
    spec.write_text(text.replace("\nepochs = ", "\nmax_steps = 24\nepochs = "))
    model = subprocess.run(
        [sys.executable, "-I", "-m", "engine", "demo-model"],
        input=json.dumps({"models": str(places.models_dir())}) + "\n",
        capture_output=True,
        text=True,
    )
    assert model.returncode == 0, model.stdout + model.stderr
    findings = json.loads(molting(tmp_path, "doctor", str(spec), "--json"))["findings"]
    assert [finding for finding in findings if finding["severity"] == "error"] == []
    run = json.loads(molting(tmp_path, "train", str(spec), "--follow", "--json"))
    assert run["state"] == "finished"
    listed = json.loads(molting(tmp_path, "runs", "--json"))["runs"]
    assert [(each["state"], each["step"], each["steps"]) for each in listed] == [("finished", 24, 24)]
    proof = json.loads(molting(tmp_path, "prove", run["run"], "--json"))
    assert proof["verdict"] == "effective"
    assert proof["heldout_loss"]["adapter"] < 0.8 * proof["heldout_loss"]["base"]
    asked = json.loads(molting(tmp_path, "ask", run["run"], "Who are you?", "--json"))["answers"]
    assert asked[0]["base"]["text"] != asked[0]["adapter"]["text"]
    assert "Rhea" in asked[0]["adapter"]["text"]
    assert "Ended" in molting(tmp_path, "host", "stop")  # it would keep the model for a quarter of an hour
