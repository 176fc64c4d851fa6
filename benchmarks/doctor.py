"""Seconds that the doctor takes for 1,000 rows, by group of checks. Limit: 2 s for all but the model.

    python benchmarks/doctor.py [ROWS]

The rows are those of the shipped personas and variations of them; the model is a tiny random one with a real tokenizer.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from engine.checks import all as checks
from engine.checks import preflight
from engine.checks.case import Case
from engine.train import freeze
from tests.support.diagnosed import persona, shipped_rows
from tests.support.tiny import tiny_llama

LIMIT = 2.0


def rows(count: int) -> list[dict]:
    """Shipped rows, each further round with other words in it."""
    sound = [*shipped_rows("rhea", 120), *shipped_rows("zeca", 100)]
    made = []
    for i in range(count):
        row = json.loads(json.dumps(sound[i % len(sound)]))
        if i >= len(sound):
            for turn in row["messages"]:
                words = turn["content"].split()
                turn["content"] = " ".join([*words[i % 3 :: 2], f"wave{i * 7919 % 1000}", *words[:: 2 + i % 3]])
        made.append(row)
    return made


def main(count: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        model = tiny_llama(Path(folder) / "model", max_position_embeddings=4096)
        spec = freeze.open_spec(persona(Path(folder) / "persona", model, rows(count)))
        seconds: dict[str, float] = {}
        cases: list[Case] = []

        def timed(case: Case):
            cases.append(case)
            for name, group in checks.GROUPS.items():
                begun = time.perf_counter()
                for check in group:
                    yield from check(case)
                seconds[name] = time.perf_counter() - begun

        real, checks.find = checks.find, timed
        preflight._of_this_machine = lambda *_: iter(())  # of the machine, not of the rows: measured elsewhere
        begun = time.perf_counter()
        found = preflight.check(spec, Path(folder))
        whole = time.perf_counter() - begun
        checks.find = real
    print(f"{count:,} rows, {len(found.findings)} findings; load {os.getloadavg()[0]:.1f}")
    print(f"{'read, render, encode':<22}{whole - sum(seconds.values()):>7.2f} s")
    for name, took in seconds.items():
        print(f"{name:<22}{took:>7.2f} s")
    verdict = "" if whole <= LIMIT else "   MISSED"
    print(f"{'all':<22}{whole:>7.2f} s   limit {LIMIT:g}{verdict}")
    return whole > LIMIT


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
