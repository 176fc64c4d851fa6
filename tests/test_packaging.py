"""What is installed, and what is loaded."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "transformers", "peft", "trl", "datasets", "bitsandbytes", "scipy"}


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        ("engine.__main__ engine.train.start engine.train.supervisor engine.checks.preflight", HEAVY | {"textual"}),
        ("engine.data.encode engine.data.prepare engine.data.stream engine.data.of_spec", HEAVY | {"textual"}),
        ("molting_tui.__main__ molting_tui.cli molting_tui.app molting_tui.screens.live", HEAVY | {"numpy"}),
        ("engine.train.assemble engine.infer.prove engine.infer.session", {"textual", "molting_tui"}),
    ],
)
def test_what_must_stay_light_does(modules: str, forbidden: set[str]) -> None:
    code = (
        f"import sys\nfor name in {modules.split()}: __import__(name)\nprint(*{{m.split('.')[0] for m in sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & forbidden == set()


@pytest.mark.slow
def test_the_wheel_brings_what_ships(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(argv, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("molting-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "engine/_shipped/personas/rhea/rows.jsonl",
        "engine/_shipped/personas/zeca/spec.toml",
        "engine/_shipped/prompts/reasoning-pt.toml",
        "engine/data/templates/chatml.jinja",
        "molting_tui/styles/live.tcss",
    } <= names
    assert not [name for name in names if "models/" in name and not name.startswith("engine/models/")]
    assert not [name for name in names if name.startswith(("tests/", "runs/", "benchmarks/"))]
