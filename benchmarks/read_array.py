"""Streaming one big JSON array of {title, content}: ours beside bare ijson and, if asked, `datasets`.

    python benchmarks/read_array.py [--records 1400000] [--datasets]

Each reader runs alone in a fresh process. Extra memory is the growth of peak RSS over the moment before the
file is opened, with the reader's libraries imported.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WORDS = (
    "river",
    "lamp",
    "copper",
    "silent",
    "harbour",
    "engine",
    "winter",
    "coração",
    "música",
    "noite",
    "café",
)


def write_array(path: Path, records: int, seed: int = 0) -> None:
    """A JSON array of `records` objects of about 220 bytes; the same arguments give the same bytes."""
    rng = random.Random(seed)
    sentences = [" ".join(rng.choices(WORDS, k=28)) for _ in range(4096)]
    with path.open("w", encoding="utf-8") as file:
        file.write("[\n")
        for i in range(records):
            row = {"title": f"{rng.choice(WORDS)} {i}", "content": rng.choice(sentences)}
            file.write(json.dumps(row, ensure_ascii=False) + (",\n" if i < records - 1 else "\n"))
        file.write("]\n")


def bare_ijson(path: Path) -> Iterator[Any]:
    """ijson over the file, nothing else."""
    import ijson

    yield  # imports are done
    with path.open("rb") as file:
        yield from ijson.items(file, "item")


def ours(path: Path) -> Iterator[Any]:
    """The reader under test."""
    from engine.data.read import open_records

    yield
    yield from open_records(path)


def datasets_streaming(path: Path) -> Iterator[Any]:
    """The usual way: `datasets` with streaming=True."""
    import datasets

    yield
    yield from datasets.load_dataset("json", data_files=str(path), split="train", streaming=True)


READERS = {"bare ijson": bare_ijson, "ours": ours, "datasets streaming": datasets_streaming}


def peak_rss() -> int:
    """Peak resident bytes of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def measure(rows: Iterable[Any]) -> dict[str, float]:
    """First record in s, records/s over the whole file, extra peak memory in MB."""
    iterator = iter(rows)
    next(iterator)
    memory = peak_rss()
    start = time.perf_counter()
    next(iterator)
    first = time.perf_counter() - start
    count = 1 + sum(1 for _ in iterator)
    seconds = time.perf_counter() - start
    return {"records": count, "first": first, "rate": count / seconds, "extra": (peak_rss() - memory) / 1e6}


def run_alone(name: str, path: Path) -> dict[str, float]:
    """`measure` in a fresh process."""
    command = [sys.executable, __file__, "--one", name, "--file", str(path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result


def main() -> None:
    """Make the file, measure every reader, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--records", type=int, default=1_400_000)
    parser.add_argument("--datasets", action="store_true", help="also `datasets`: 20 s, 2.4 GB")
    parser.add_argument("--one", choices=list(READERS), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.path.insert(0, str(ROOT))
        print(json.dumps(measure(READERS[options.one](options.file))))
        return
    names = [name for name in READERS if options.datasets or name != "datasets streaming"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "array.json"
        write_array(path, options.records)
        print(f"{options.records:,} records, {path.stat().st_size / 1e6:,.0f} MB, one JSON array\n")
        print(f"{'reader':<20}{'first record s':>16}{'records/s':>14}{'extra MB':>18}{'of bare ijson':>15}")
        base = 0.0
        for name in names:
            result = run_alone(name, path)
            base = base or result["rate"]
            figures = f"{result['first']:>16.4f}{result['rate']:>14,.0f}{result['extra']:>18.1f}"
            print(f"{name:<20}{figures}{result['rate'] / base:>14.0%}")
        print("\nLimits: first record < 0.1 s, at least 50% of bare ijson, < 50 MB extra memory.")


if __name__ == "__main__":
    main()
