"""The forecast of a run's memory against what it took: peak resident set on a CPU, for three sizes of model.

    python benchmarks/memory_forecast.py            # all; about five minutes on two cores
    python benchmarks/memory_forecast.py --only 30M

Each case is a real training run of four steps over a shipped persona, in a fresh process with a state folder of its
own, so the forecasts are raw: nothing that earlier runs on this machine taught corrects them, and the share of the
libraries is the constant that ships. "30M" and "350M" are random Llamas, "135M" is SmolLM2 (`molting demo` fetches
it). Exits with 1 where a forecast is off by more than 15 %.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

LIMIT = 0.15
PERSONA = ROOT / "data" / "personas" / "rhea"
SHAPES: dict[str, dict[str, Any]] = {
    "30M": {"vocab": 16_000, "hidden": 512, "layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4},
    "350M": {"vocab": 32_000, "hidden": 1024, "layers": 20, "num_attention_heads": 16, "num_key_value_heads": 8},
}
CASES: list[tuple[str, str, str, bool, int]] = [  # model, method, precision, checkpointing, batch
    ("30M", "lora", "bf16", False, 8),
    ("30M", "lora", "bf16", True, 8),
    ("30M", "lora", "fp32", False, 8),
    ("30M", "full", "bf16", False, 8),
    ("30M", "qlora", "bf16", False, 8),
    ("135M", "lora", "bf16", False, 8),
    ("135M", "lora", "bf16", True, 8),
    ("135M", "lora", "fp32", False, 4),
    ("135M", "full", "fp32", False, 4),
    ("135M", "qlora", "bf16", False, 4),
    ("350M", "lora", "bf16", False, 8),
    ("350M", "lora", "bf16", True, 8),
    ("350M", "lora", "fp32", False, 4),
]


def build(name: str, folder: Path) -> None:
    import torch

    from tests.support.tiny import tiny_llama

    torch.set_default_dtype(torch.bfloat16)
    shape = SHAPES[name]
    tiny_llama(folder, dtype="bfloat16", intermediate_size=4 * shape["hidden"], max_position_embeddings=4096, **shape)


def train(spec: str, root: str) -> None:
    """One run in this process, then its forecast and its peak as JSON."""
    from engine.contract import calls, events, rundir
    from engine.train import attempt, start

    os.environ["MOLTING_MODELS"] = str(Path(root) / "models")
    request = calls.CreateRequest(
        spec=spec, runs=str(Path(root) / "runs"), models=os.environ["MOLTING_MODELS"], start=False
    )
    run = rundir.RunDir(Path(start.create(request, lambda _: None).path))
    run.attempt(1).path.mkdir(parents=True)
    sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115 (where the hub's token would come from)
    assert attempt.main(str(run.path), "1") == 0, run.attempt(1).death.read_text()
    said = [events.decode(line) for line in run.attempt(1).events.read_bytes().splitlines()]
    began = next(each for each in said if isinstance(each, events.Start))
    memory = [each for each in said if isinstance(each, events.Memory)][-1]
    print(json.dumps({"forecast": began.plan["host_forecast"], "measured": memory.host_peak}))


def measure(root: Path, folder: Path, method: str, precision: str, checkpointing: bool, batch: int) -> dict[str, int]:
    """A run in a process of its own."""
    spec = root / "spec.toml"
    spec.write_text(
        f'[model]\nbase = "{folder}"\nprecision = "{precision}"\n'
        f'[data]\ntrain = "{PERSONA / "rows.jsonl"}"\nheldout = "{PERSONA / "heldout.jsonl"}"\n'
        f'system_file = "{PERSONA / "system.txt"}"\n[method]\nkind = "{method}"\n'
        f"[training]\nmax_steps = 4\nbatch = {batch}\ngradient_checkpointing = {str(checkpointing).lower()}\n"
        "learning_rate = 1e-4\n[evaluation]\nsample_every = 0\n"
    )
    env = os.environ | {"XDG_STATE_HOME": str(root / "state"), "MOLTING_RUNTIME_DIR": str(root / "runtime")}
    argv = [sys.executable, __file__, "--train", str(spec), str(root)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="a model, as 30M")
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--build", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.train:
        train(*asked.train)
        return 0
    if asked.build:
        build(asked.build[0], Path(asked.build[1]))
        return 0
    print("| model | method | precision | checkpointing | batch | forecast MB | measured MB | forecast / measured |")
    print("|---|---|---|---|---:|---:|---:|---:|")
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        built: dict[str, Path] = {"135M": _demo()}
        for number, (model, *case) in enumerate(CASES):
            if asked.only not in (None, model):
                continue
            if model not in built:
                built[model] = Path(name) / model
                subprocess.run([sys.executable, __file__, "--build", model, str(built[model])], check=True)
            root = Path(name) / f"case{number}"
            root.mkdir()
            found = measure(root, built[model], *case)  # type: ignore[arg-type]
            ratio = found["forecast"] / found["measured"]
            worst = max(worst, abs(ratio - 1))
            method, precision, checkpointing, batch = case
            sizes = f"{found['forecast'] / 1e6:.0f} | {found['measured'] / 1e6:.0f} | {ratio:.2f}"
            print(
                f"| {model} | {method} | {precision} | {'on' if checkpointing else 'off'} | {batch} | {sizes} |",
                flush=True,
            )
    print(f"worst: {worst:.0%} off (limit {LIMIT:.0%})")
    return int(worst > LIMIT)


def _demo() -> Path:
    from engine.contract import places
    from engine.models.demo import DEMO_NAME

    return places.models_dir() / DEMO_NAME


if __name__ == "__main__":
    sys.exit(main())
