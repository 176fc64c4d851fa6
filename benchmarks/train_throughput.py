"""Training throughput: ours against a plain TRL script with its defaults, on the shipped English persona.

Both take the same model, rows, LoRA, rate and optimizer steps, each in a process of its own, in alternating pairs.
Real tokens: tokens of the rows without padding, system prompt included. Answer loss: mean nats per answer token
over the training rows after the last step, computed by the same function for both; the loss that a script logs over
the whole sequence would hide a bad one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PERSONA = ROOT / "data" / "personas" / "rhea"
RATE, RANK, BATCH = 1e-3, 16, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--only", choices=["ours", "trl"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only:
        print(json.dumps({"ours": ours, "trl": trl}[asked.only](asked.steps)))
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # for both: spinning threads measure the neighbours instead
    found: dict[str, list[dict[str, float]]] = {"ours": [], "trl": []}
    for _ in range(asked.pairs):
        for which in found:
            argv = [sys.executable, __file__, "--steps", str(asked.steps), "--only", which]
            done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True)
            found[which].append(json.loads(done.stdout.splitlines()[-1]))
    table(found, asked.steps)


def table(found: dict[str, list[dict[str, float]]], steps: int) -> None:
    print(f"SmolLM2-135M, LoRA r{RANK} all-linear, batch {BATCH}, {steps} steps, {len(found['ours'])} pairs; medians")
    print(f"{'':18}{'tokens/s':>10}{'s/step':>9}{'answer loss':>13}{'peak RSS MB':>13}")
    middle = {who: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for who, runs in found.items()}
    for who, label in (("ours", "molting"), ("trl", "TRL defaults")):
        m = middle[who]
        print(f"{label:18}{m['rate']:10.0f}{m['step']:9.2f}{m['answer_loss']:13.3f}{m['rss'] / 1e6:13.0f}")
    ratio = middle["ours"]["rate"] / middle["trl"]["rate"]
    print(f"{'ours / TRL':18}{ratio:10.2f}  (limit >= 1.3, at an answer loss not above TRL's)")
    print(f"{'events':18}{middle['ours']['events'] * 100:9.2f}%  of a step, spent recording (limit < 1 %)")


def measured(model: Any, rows: list[Any], seconds: float, tokens: int, steps: int) -> dict[str, float]:
    import resource

    from engine.infer.loss import answer_loss

    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    loss, _ = answer_loss(model, rows)
    return {"rate": tokens / seconds, "step": seconds / steps, "answer_loss": loss or 0.0, "rss": rss, "events": 0.0}


def model_folder() -> Path:
    from engine.contract import settings
    from engine.models.demo import ensure_demo_model

    return ensure_demo_model(settings.load().models)


def ours(steps: int) -> dict[str, float]:
    """The trainer of an attempt, without its supervisor; samples and evaluation off, as the script has none."""
    from engine.contract import calls, events
    from engine.contract.rundir import RunDir
    from engine.train import assemble, start
    from engine.train.control import Control
    from engine.train.recorder import Recorder

    class Timed(Recorder):
        spent = 0.0

        def emit(self, event: events.Event, *, durable: bool = False) -> None:
            began = time.perf_counter()
            super().emit(event, durable=durable)
            self.spent += time.perf_counter() - began

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        spec = folder / "spec.toml"
        spec.write_text(
            f'[model]\nbase = "{model_folder()}"\n'
            f'[data]\ntrain = "{PERSONA / "rows.jsonl"}"\nsystem_file = "{PERSONA / "system.txt"}"\n'
            "heldout_fraction = 0.0\n"
            f"[method]\nrank = {RANK}\n"
            f"[training]\nmax_steps = {steps}\nbatch = {BATCH}\nlearning_rate = {RATE}\nsave_every = 1000000\n"
            'warmup = 0.0\nschedule = "linear"\n'
        )
        models = model_folder().parent
        made = start.create(
            calls.CreateRequest(spec=str(spec), runs=str(folder / "runs"), models=str(models), start=False), print
        )
        os.environ["MOLTING_MODELS"] = str(models)
        run = RunDir(Path(made.path))
        run.attempt(1).path.mkdir()
        recorder = Timed(run.attempt(1))
        trainer = assemble.trainer(run, recorder, Control(run), token="")
        recorder.spent = 0.0
        began = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - began
        result = measured(trainer.model, encoded(model_folder()), seconds, trainer.progress.tokens, steps)
        result["events"] = recorder.spent / seconds
        return result


def trl(steps: int) -> dict[str, float]:
    """What most people write: messages rows, SFTTrainer, its defaults."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    folder = model_folder()
    system = (PERSONA / "system.txt").read_text().strip()
    rows = [json.loads(line) for line in (PERSONA / "rows.jsonl").read_text().splitlines() if line]
    data = [{"messages": [{"role": "system", "content": system}, *row["messages"]]} for row in rows]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=scratch,
                max_steps=steps,
                per_device_train_batch_size=BATCH,
                learning_rate=RATE,
                use_cpu=not torch.cuda.is_available(),
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(data),
            processing_class=tokenizer,
            peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        began = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - began
        tokens = int(trainer._total_train_tokens)
    return measured(trainer.model, encoded(folder), seconds, tokens, steps)


def encoded(folder: Path) -> list[Any]:
    """The persona's rows as our encoder makes them: the yardstick for both."""
    from engine.contract.spec import Data, Model, Spec
    from engine.data.of_spec import encoder_for, options
    from engine.data.prepare import prepare

    system = (PERSONA / "system.txt").read_text().strip()
    data = Data(train=str(PERSONA / "rows.jsonl"), heldout_fraction=0.0, system=system)
    spec = Spec(model=Model(base=str(folder)), data=data)
    return prepare(options(spec), encoder_for(spec, folder)).train


if __name__ == "__main__":
    main()
