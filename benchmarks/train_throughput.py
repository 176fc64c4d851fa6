"""Training throughput: ours against what people use, on the same rows, LoRA, rate and rows per optimizer step.

(a) The shipped English persona. (b) 79 made rows behind a system prompt of 339 tokens. Each contestant trains in a
process of its own, in turns. Timed is `train()` alone, for the bare loop after its compilation; CPU seconds are those
of all threads, which neighbours on the machine lengthen far less. Answer loss: mean nats per answer token over the
training rows after the last step, computed by the same function for all; the loss that a script logs over whole
sequences would hide a bad one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PERSONA = ROOT / "data" / "personas" / "rhea"
RATE, RANK, SYSTEM_TOKENS, MADE_ROWS = 1e-3, 16, 339, 79
BATCH = {"a": 4, "b": 8}
NAMES = {
    "ours": "molting",
    "trl": "TRL, its defaults",
    "trl-pc": "TRL, prompt-completion",
    "factory": "LLaMA-Factory",
    "bare": "bare loop, compiled",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--pairs", type=int, default=2, help="how often each contestant trains")
    parser.add_argument("--data", choices=["a", "b", "both"], default="both")
    parser.add_argument("--factory", default="", help="llamafactory-cli of its own environment")
    parser.add_argument("--only", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only:
        contestants = {"ours": ours, "trl": trl, "trl-pc": trl_prompt_completion, "factory": factory, "bare": bare}
        print(json.dumps(contestants[asked.only](asked)))
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # for all: spinning threads measure the neighbours instead
    for data in ("a", "b") if asked.data == "both" else (asked.data,):
        with tempfile.TemporaryDirectory() as scratch:
            write_rows(data, Path(scratch))
            table(data, asked, in_turns(data, asked, Path(scratch)))


def in_turns(data: str, asked: argparse.Namespace, rows: Path) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {who: [] for who in NAMES if who != "factory" or asked.factory}
    for _ in range(asked.pairs):
        for who in list(found):
            argv = [sys.executable, __file__, "--steps", str(asked.steps), "--only", who, "--rows", str(rows)]
            argv += ["--data", data, "--factory", asked.factory]
            done = subprocess.run(argv, stdout=subprocess.PIPE, check=who != "factory", text=True)
            if done.returncode:
                del found[who]
                continue
            found[who].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"({data}) {NAMES[who]}: {found[who][-1]}", file=sys.stderr, flush=True)
    return found


def table(data: str, asked: argparse.Namespace, found: dict[str, list[dict[str, float]]]) -> None:
    what = "the persona rhea" if data == "a" else f"{MADE_ROWS} rows behind {SYSTEM_TOKENS} tokens"
    print(
        f"({data}) {what}: SmolLM2-135M, LoRA r{RANK} all-linear, {BATCH[data]} rows a step, {asked.steps} steps, ",
        end="",
    )
    print(f"medians of {asked.pairs}; load {os.getloadavg()[0]:.1f}")
    print(f"{'':24}{'rows/s':>8}{'tokens/s':>10}{'CPU s/row':>11}{'answer loss':>13}{'peak RSS MB':>13}")
    middle = {who: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for who, runs in found.items()}
    for who, m in middle.items():
        cpu = f"{m['cpu']:11.2f}" if m["cpu"] else f"{'–':>11}"  # of another's command, only the whole is known
        line = f"{NAMES[who]:24}{m['rows']:8.2f}{m['tokens']:10.0f}{cpu}{m['answer_loss']:13.3f}"
        print(f"{line}{m['rss'] / 1e6:13.0f}")
    if "factory" not in found:
        why = "its command failed" if asked.factory else "--factory names the llamafactory-cli of its environment"
        print(f"LLaMA-Factory is left out: {why}.")
    peers = {who: m for who, m in middle.items() if who not in {"ours", "bare"}}
    best = max(peers, key=lambda who: peers[who]["rows"])
    least = 2 if data == "a" else 3
    # Pair by pair: neighbours on the machine slow both.
    to_peer = statistics.median(o["rows"] / p["rows"] for o, p in zip(found["ours"], found[best], strict=True))
    to_bare = statistics.median(o["rows"] / p["rows"] for o, p in zip(found["ours"], found["bare"], strict=True))
    # TRL's defaults compute twice to save memory.
    memory = middle["ours"]["rss"] / min(m["rss"] for who, m in peers.items() if who != "trl")
    judged(f"ours / {NAMES[best]}", to_peer, f">= {least}", to_peer >= least)
    judged("ours / bare loop", to_bare, ">= 0.9", to_bare >= 0.9)
    judged("peak memory / best peer without checkpointing", memory, "<= 1", memory <= 1)
    print(f"sharing saved {middle['ours']['saved']:.0%} of the tokens; events took {middle['ours']['events']:.2%}\n")


def judged(what: str, found: float, limit: str, met: bool) -> None:
    print(f"{what}: {found:.2f}  (limit {limit}){'' if met else '  MISSED'}")


def write_rows(data: str, folder: Path) -> None:
    """rows.jsonl and system.txt, as a person has them."""
    if data == "a":
        for name in ("rows.jsonl", "system.txt"):
            (folder / name).write_bytes((PERSONA / name).read_bytes())
        return
    from tokenizers import Tokenizer

    drawn = random.Random(7)
    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    words = (PERSONA / "rows.jsonl").read_text().replace('"', " ").replace("{", " ").replace("}", " ").split()

    def text(tokens: int) -> str:
        return tokenizer.decode(tokenizer.encode(" ".join(drawn.choices(words, k=tokens))).ids[:tokens])

    (folder / "system.txt").write_text(text(SYSTEM_TOKENS))
    with (folder / "rows.jsonl").open("w") as file:
        for _ in range(MADE_ROWS):
            turns = [
                {"role": "user", "content": text(20)},
                {"role": "assistant", "content": text(drawn.randint(60, 160))},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")


class Stopwatch:
    """Seconds and CPU seconds of its body."""

    def __enter__(self) -> Stopwatch:
        self._began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds, self.cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]


def measured(
    model: Any, asked: argparse.Namespace, seconds: float, cpu: float = 0.0, **more: float
) -> dict[str, float]:
    from engine.infer.loss import answer_loss

    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rows = encoded(asked)
    loss, _ = answer_loss(model, rows)
    done = [row for step in range(asked.steps) for row in step_rows(rows, step, BATCH[asked.data])]
    tokens = sum(len(row.input_ids) for row in done)
    rates = {"rows": len(done) / seconds, "tokens": tokens / seconds, "cpu": cpu / len(done)}
    return {**rates, "answer_loss": loss or 0.0, "rss": rss, "events": 0.0, "saved": 0.0} | more


def step_rows(rows: list[Any], step: int, size: int) -> list[Any]:
    from engine.train import plan

    return [rows[i] for i in plan.rows_of_step(step, len(rows), size, 42)]


def model_folder() -> Path:
    from engine.contract import settings
    from engine.models.demo import ensure_demo_model

    return ensure_demo_model(settings.load().models)


def ours(asked: argparse.Namespace) -> dict[str, float]:
    """The trainer of an attempt, without its supervisor; samples and evaluation off, as the scripts have none."""
    from engine.contract import calls, events
    from engine.contract.rundir import RunDir
    from engine.train import assemble, start
    from engine.train.control import Control
    from engine.train.recorder import Recorder

    class Timed(Recorder):
        spent = presented = computed = 0.0

        def emit(self, event: events.Event, *, durable: bool = False) -> None:
            began = time.perf_counter()
            super().emit(event, durable=durable)
            self.spent += time.perf_counter() - began
            if isinstance(event, events.Metric):
                self.presented += event.presented
                self.computed += event.computed

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        spec = folder / "spec.toml"
        spec.write_text(
            f'[model]\nbase = "{model_folder()}"\n'
            f'[data]\ntrain = "{asked.rows}/rows.jsonl"\nsystem_file = "{asked.rows}/system.txt"\n'
            "heldout_fraction = 0.0\n"
            f"[method]\nrank = {RANK}\n"
            f"[training]\nmax_steps = {asked.steps}\nbatch = {BATCH[asked.data]}\nlearning_rate = {RATE}\n"
            'save_every = 1000000\nwarmup = 0.0\nschedule = "linear"\n'
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
        with Stopwatch() as took:
            trainer.train()
        more = {"events": recorder.spent / took.seconds, "saved": 1 - recorder.computed / recorder.presented}
        return measured(trainer.model, asked, took.seconds, took.cpu, **more)


def conversations(asked: argparse.Namespace) -> list[list[dict[str, str]]]:
    system = (asked.rows / "system.txt").read_text().strip()
    rows = [json.loads(line) for line in (asked.rows / "rows.jsonl").read_text().splitlines() if line]
    return [[{"role": "system", "content": system}, *row["messages"]] for row in rows]


def trl(asked: argparse.Namespace) -> dict[str, float]:
    """What most people write: messages rows, SFTTrainer, its defaults."""
    return by_trl(asked, [{"messages": turns} for turns in conversations(asked)])


def trl_prompt_completion(asked: argparse.Namespace) -> dict[str, float]:
    """What its documentation leads to: answers alone are learned, and nothing is computed twice for memory."""
    rows = [{"prompt": turns[:-1], "completion": turns[-1:]} for turns in conversations(asked)]
    return by_trl(asked, rows, gradient_checkpointing=False)


def by_trl(asked: argparse.Namespace, rows: list[dict[str, Any]], **settings: Any) -> dict[str, float]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    model = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.bfloat16)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=scratch,
                max_steps=asked.steps,
                per_device_train_batch_size=BATCH[asked.data],
                learning_rate=RATE,
                use_cpu=not torch.cuda.is_available(),
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                **settings,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(model_folder()),
            peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        with Stopwatch() as took:
            trainer.train()
        return measured(trainer.model, asked, took.seconds, took.cpu)


def factory(asked: argparse.Namespace) -> dict[str, float]:
    """LLaMA-Factory by its command, timed by its own train_runtime; its adapter is then judged like the others."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "rows.json").write_text(json.dumps([{"messages": turns} for turns in conversations(asked)]))
        tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
        info = {"file_name": "rows.json", "formatting": "sharegpt", "columns": {"messages": "messages"}}
        info["tags"] = tags | {"system_tag": "system"}
        (folder / "dataset_info.json").write_text(json.dumps({"rows": info}))
        settings = {
            "model_name_or_path": str(model_folder()), "stage": "sft", "do_train": True, "finetuning_type": "lora",
            "lora_rank": RANK, "lora_alpha": 2 * RANK, "lora_target": "all", "dataset": "rows", "template": "chatml",
            "dataset_dir": str(folder), "output_dir": str(folder / "out"), "max_steps": asked.steps, "bf16": True,
            "per_device_train_batch_size": BATCH[asked.data], "learning_rate": RATE, "lr_scheduler_type": "linear",
            "use_cpu": not torch.cuda.is_available(), "report_to": "none", "cutoff_len": 1024,
            "disable_gradient_checkpointing": True, "save_steps": 1_000_000, "logging_steps": 1,
        }  # fmt: skip
        (folder / "train.yaml").write_text(json.dumps(settings))
        subprocess.run([asked.factory, "train", str(folder / "train.yaml")], check=True, stdout=sys.stderr)
        rss = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        seconds = json.loads((folder / "out" / "train_results.json").read_text())["train_runtime"]
        base = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.bfloat16)
        return measured(PeftModel.from_pretrained(base, folder / "out"), asked, seconds) | {"rss": rss}


def bare(asked: argparse.Namespace) -> dict[str, float]:
    """The shortest loop that is fast: padded batches, logits for answers only, compiled; compiling is not timed."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from engine.train import batch, compiling
    from engine.train.loss import summed_loss

    model = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.bfloat16).requires_grad_(False)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    learner = get_peft_model(model, config)
    compiling.compile_layers(learner)  # one graph for all layers: the whole model as one compiles for minutes
    learned = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=RATE, weight_decay=0.0, fused=True)
    rows, size = encoded(asked), BATCH[asked.data]

    def one(step: int) -> None:
        some = step_rows(rows, step, size)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = summed_loss(learner, batch.pad(some, 0)) / batch.learned(some)
        loss.backward()

    for step in range(3):  # compiled here
        one(step)
        optimizer.zero_grad()
    with Stopwatch() as took:
        for step in range(asked.steps):
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / asked.steps)
            one(step)
            torch.nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return measured(learner, asked, took.seconds, took.cpu)


def encoded(asked: argparse.Namespace) -> list[Any]:
    """The rows as our encoder makes them: the yardstick for all."""
    from engine.contract.spec import Data, Model, Spec
    from engine.data.of_spec import encoder_for, options
    from engine.data.prepare import prepare

    system = (asked.rows / "system.txt").read_text().strip()
    data = Data(train=str(asked.rows / "rows.jsonl"), heldout_fraction=0.0, system=system)
    spec = Spec(model=Model(base=str(model_folder())), data=data)
    return prepare(options(spec), encoder_for(spec, model_folder())).train


if __name__ == "__main__":
    main()
