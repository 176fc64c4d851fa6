"""Training from one JSON array of 1.4 million records: readers, a run that is killed and resumed, time to resume.

    python benchmarks/huge_data.py [--records 1400000] [--peers] [--factory PYTHON] [--only readers|run|resume]

readers  records a second and extra memory, shuffled with a seeded buffer of 2,000: ours beside, with --peers,
         `datasets` streaming and LLaMA-Factory's streaming loader (by the python of its own environment)
run      a tiny random Llama: 100 steps undisturbed, and killed after step 40 and resumed. The losses must be equal to
         the bit; the extra memory is the trainer's peak over that of the same run over an array of 1,000 records
resume   the same checkpoint with its stream at 1 %, 50 % and 99 % of the file: seconds from `molting resume` to the
         first step, and of these the seconds that the place in the file took

Every reader runs alone in a fresh process, every run is a real one. Exits with 1 where a loss differs, or where the
extra memory exceeds 300 MB.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from read_array import measure, write_array

BUFFER, STEPS, KILLED_AT, ROWS_A_STEP, SEED = 2000, 100, 40, 8, 42
LIMIT_MB = 300
SHARES = (0.01, 0.5, 0.99)


def ours(path: Path) -> Iterator[Any]:
    """Our stream up to where rows would be encoded: read, converted, held out, shuffled."""
    stream = _stream(path)
    yield
    yield from iter(stream)._waiting


def datasets_streaming(path: Path) -> Iterator[Any]:
    import datasets

    yield
    rows = datasets.load_dataset("json", data_files=str(path), split="train", streaming=True)
    yield from rows.shuffle(seed=SEED, buffer_size=BUFFER)


def llamafactory(path: Path) -> Iterator[Any]:
    """Its loader in streaming mode, up to where rows would be encoded."""
    from llamafactory.data.loader import _load_single_dataset
    from llamafactory.data.parser import DatasetAttr
    from llamafactory.hparams import DataArguments, ModelArguments, TrainingArguments

    yield
    attributes = DatasetAttr("file", dataset_name=path.name, prompt="title", query=None, response="content")
    data = DataArguments(dataset_dir=str(path.parent), streaming=True, buffer_size=BUFFER)
    training = TrainingArguments(output_dir="unused", dataloader_num_workers=1)  # its stream has a shard for each
    rows = _load_single_dataset(attributes, ModelArguments("unused"), data, training)
    yield from rows.shuffle(seed=SEED, buffer_size=BUFFER)


READERS = {"ours": ours, "datasets streaming": datasets_streaming, "LLaMA-Factory streaming": llamafactory}


def _stream(path: Path) -> Any:
    from engine.data.encode import Encoder
    from engine.data.prepare import DataOptions
    from engine.data.stream import RowStream
    from tests.support.tiny import tiny_tokenizer

    options = DataOptions(train=path, shuffle_buffer=BUFFER, seed=SEED)
    return RowStream(options, Encoder(tiny_tokenizer(), None, eos_ids=[2]))


def readers(path: Path, peers: bool, factory_python: str) -> None:
    print(f"{'reader':<26}{'first record s':>16}{'records/s':>12}{'extra MB':>10}", flush=True)
    for name in list(READERS) if peers else ["ours"]:
        python = factory_python if READERS[name] is llamafactory else sys.executable
        command = [python, __file__, "--one", name, "--file", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            print(f"{name:<26}skipped: {done.stderr.strip().splitlines()[-1][:90]}", flush=True)
            continue
        result = json.loads(done.stdout.splitlines()[-1])
        print(f"{name:<26}{result['first']:>16.2f}{result['rate']:>12,.0f}{result['extra']:>10.0f}", flush=True)


def spec_of(world: Any, name: str, path: Path) -> Path:
    return world.persona(
        name,
        data={"train": str(path), "heldout": "", "system": "", "stream": True, "shuffle_buffer": BUFFER},
        training={"max_steps": STEPS, "batch": ROWS_A_STEP, "save_every": 10, "seed": SEED},
        evaluation={"every": 50, "sample_every": 0},
    )


def run(world: Any, path: Path) -> bool:
    """Whether a run that was killed ends as one that was not, and within its memory."""
    from engine.contract import events
    from tests.support import world as w

    small = world.root / "small.json"
    write_array(small, 1000)
    own = host_peak(world.finished(spec_of(world, "small", small)))
    spec = spec_of(world, "huge", path)
    undisturbed = world.finished(spec)
    killed = world.train(spec)
    w.wait_for_step(killed, KILLED_AT)
    w.kill(w.trainer_pid(killed))
    w.wait_for(killed, "failed")
    shutil.copytree(killed.path, world.root / "killed" / killed.id)
    world.resume(killed)
    w.wait_for(killed, "finished")
    same = [m.loss for m in w.metrics(killed).values()] == [m.loss for m in w.metrics(undisturbed).values()]
    extra = max(map(host_peak, (undisturbed, killed))) - own
    counted = [event for event in w.read_events(undisturbed, 1) if isinstance(event, events.Stream)][-1]
    began = next(event.step for event in w.read_events(killed, 2) if isinstance(event, events.Start))
    seen = STEPS * ROWS_A_STEP / counted.records
    print(f"{STEPS} of {STEPS} steps, {seen:.2%} of {counted.records:,} records seen (counted: {counted.exact})")
    print(f"killed after step {KILLED_AT}, resumed at {began}: losses {'equal to the bit' if same else 'DIFFER'}")
    print(f"trainer's peak {own / 1e6:,.0f} MB over 1,000 records, {extra / 1e6:+,.0f} MB with the whole array")
    return same and extra < LIMIT_MB * 1e6


def host_peak(run: Any) -> int:
    from engine.contract import events
    from tests.support.world import read_events

    attempts = [read_events(run, attempt.number) for attempt in run.attempts()]
    return max(event.host_peak for said in attempts for event in said if isinstance(event, events.Memory))


def resume(world: Any, path: Path, records: int) -> None:
    """What the place in the file costs a resumed run."""
    rows = iter(_stream(path))
    places, taken = {}, 0
    for share in SHARES:
        for _ in islice(rows._waiting, round(records * share * 0.9) - taken):  # a tenth is held out
            taken += 1
        places[share] = rows.position()
    print(f"{'at':>6}{'record':>12}{'to the first step s':>22}{'of these, for the place s':>27}")
    for share, at in places.items():
        (killed,) = (world.root / "killed").iterdir()
        whole, place = _resumed(world, killed, at)
        print(f"{share:>6.0%}{at.record:>12,}{whole:>22.1f}{place:>27.2f}", flush=True)


def _resumed(world: Any, killed: Path, at: Any) -> tuple[float, float]:
    import msgspec

    from engine.contract import durable, events
    from engine.contract.rundir import RunDir
    from engine.train.progress import Progress
    from tests.support import world as w

    made = RunDir(world.runs / f"{killed.name[:-4]}{at.record & 0xFFFF:04x}")
    shutil.copytree(killed, made.path)
    newest = made.checkpoint(next(iter(made.checkpoint_steps())))
    manifest = durable.read_manifest(newest)
    progress = msgspec.json.decode((newest / "progress.json").read_bytes(), type=Progress)
    progress.stream = at
    (newest / durable.MANIFEST).unlink()
    (newest / "progress.json").write_bytes(msgspec.json.encode(progress))
    staging = newest.with_name(".moved")
    newest.rename(staging)
    durable.seal(staging, newest, **manifest.meta)
    began = time.time()
    world.resume(made)
    w.wait_for_step(made, progress.step + 1)
    while not (said := [e for e in w.read_events(made, 2) if isinstance(e, events.Metric)]):
        time.sleep(0.02)
    phases = [event for event in w.read_events(made, 2) if isinstance(event, events.Phase)]
    start = next(event.t for event in phases if event.name == "indexing")
    end = next(event.t for event in phases if event.name == "training")
    w.kill(w.trainer_pid(made))
    w.wait_for(made, "failed")
    return said[0].t - began, end - start


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--records", type=int, default=1_400_000)
    parser.add_argument("--peers", action="store_true", help="also the others' loaders: a minute, 2.5 GB each")
    parser.add_argument("--factory", default=sys.executable, help="python of LLaMA-Factory's environment")
    parser.add_argument("--only", choices=["readers", "run", "resume"], help="resume needs the run, and makes it")
    parser.add_argument("--one", choices=list(READERS), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(READERS[options.one](options.file))))
        return 0
    from tests.support.world import world as world_at

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "array.json"
        write_array(path, options.records)
        print(f"{options.records:,} records, {path.stat().st_size / 1e6:,.0f} MB, one JSON array\n", flush=True)
        if options.only in (None, "readers"):
            readers(path, options.peers, options.factory)
        if options.only == "readers":
            return 0
        with world_at(Path(folder) / "world") as world:
            good = run(world, path)
            if options.only != "run":
                resume(world, path, options.records)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
