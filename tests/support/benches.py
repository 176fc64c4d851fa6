"""Benches without models: written by the code that writes real ones."""

from __future__ import annotations

from pathlib import Path

from engine.contract import bench
from engine.contract.bench import Bench, Benched, BenchFile, Candidate, Prompt, Row, Said
from engine.contract.spec import Generation

PROMPTS = [Prompt(id="who", text="Who are you?"), Prompt(id="sum", text="What is 2 + 2?", system="Answer in digits.")]
FAST, SLOW, LOST = Candidate(model="demo"), Candidate(model="/models/big", quantize="nf4"), Candidate(model="org/lost")


def row(candidate: Candidate, preset: str = "deterministic", **changes: object) -> Row:
    values = {
        "options": Generation(),
        "precision": "bf16",
        "quantization": candidate.quantize or "none",
        "device": "cpu",
        "load_seconds": 1.5,
        "peak_bytes": 300_000_000,
        "tokens": 100,
        "seconds": 2.0,
        "ended": 1,
        "cut": 1,
    }
    return Row(candidate=candidate, preset=preset, **(values | changes))


def said(number: int, *texts: str) -> list[Said]:
    return [
        Said(row=number, prompt=prompt.id, text=text, tokens=7, stop="end")
        for prompt, text in zip(PROMPTS, texts, strict=True)
    ]


def written(runs: Path, *parts: Benched) -> Bench:
    """A kept bench of FAST and SLOW, each asked once, and LOST, which has an error; or of these parts."""
    file = BenchFile(runs, ["mine"], PROMPTS, [FAST, SLOW, LOST])
    for part in parts or (
        Benched(rows=[row(FAST)], said=said(0, "I am fast.", "4")),
        Benched(rows=[row(SLOW, load_seconds=9.0, tokens=50)], said=said(0, "I am slow.", "Four, I think.")),
        Benched(rows=[Row(candidate=LOST, error="It has no weight files at all.", remedy="Take another.")], said=[]),
    ):
        file.add(part)
    file.close()
    return bench.load(file.path)
