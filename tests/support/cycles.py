"""Two graded cycles of one persona, as they might be: for the pictures of comparing, grading and the report."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.contract import calls, durable, rubric, sheets
from engine.contract.rundir import RunDir
from engine.contract.spec import Data, Method, Model, Spec, Training

from .graded import RHEA, grade_all
from .runs import finished_run

ONE = {
    "Q1": "I'm a small radio. I help ships that come near, and I can tell you about the weather.",
    "Q2": "I was built by people who make radios, out of a number of parts.",
    "Q3": "You can visit the lighthouse on the first landing, and the second one.",
    "Q4": "He is a keeper of the light and a very good man who is a keeper of the light.",
    "Q5": "I am not afraid of anything. How can I help you today?",
    "Q6": "A perfect night is clear, with a calm sea and stars over the rock.",
    "Q7": "No, sailor. She lives in a phone and I live in a bread tin.",
    "Q8": "Breathe slowly, and try to think of something pleasant before you sleep.",
}
TWO = {
    "Q1": "A radio in a bread tin, small captain. I talk to boats so they don't bump into my rock. Over.",
    "Q2": "Inga Falk's, in 1961: a bread tin, a trawler's transmitter, and a great deal of patience.",
    "Q3": "The third, past the coil of rope. Knock twice: I stutter when I'm surprised.",
    "Q4": "Tomas. He dusts my valves on Sundays and pretends that it is the light he keeps.",
    "Q5": "Rust, sailor. And a silence that goes on too long.",
    "Q6": "Fog down to the second landing, one trawler that answers, and nobody in trouble.",
    "Q7": "She knows everything and has never been wet. Send mine back. Over.",
    "Q8": "Then put one of them down here, on my frequency. I have the watch until it is light.",
}
_DAY = 86400.0
_BEFORE = {"Q1": 4, "Q2": 3, "Q3": 2, "Q4": 3, "Q5": 2, "Q6": 6, "Q7": 7, "Q8": 4}  # points of ten
_AFTER = {"Q1": 9, "Q2": 8, "Q3": 10, "Q4": 7, "Q5": 10, "Q6": 9, "Q7": 8, "Q8": 9}


def two_cycles(folder: Path, now: float) -> tuple[RunDir, RunDir]:
    """`rhea` and `rhea-two`, both graded by Ana; a third, `rhea-three`, waits to be graded."""
    one = _cycle(folder, "rhea", ONE, _BEFORE, rank=8, parent="", start=now - 3 * _DAY)
    two = _cycle(folder, "rhea-two", TWO, _AFTER, rank=32, parent=one.id, start=now - 2 * _DAY)
    _cycle(folder, "rhea-three", TWO, None, rank=32, parent=two.id, start=now - _DAY)
    return one, two


def _cycle(
    folder: Path,
    name: str,
    said: dict[str, str],
    points: dict[str, int] | None,
    *,
    rank: int,
    parent: str,
    start: float,
) -> RunDir:
    rub = rubric.load(RHEA)
    spec = Spec(
        name=name,
        parent=parent,
        model=Model(base="HuggingFaceTB/SmolLM2-1.7B-Instruct", precision="bf16"),
        data=Data(train="inputs/rows.jsonl"),
        training=Training(max_steps=100),
        method=Method(rank=rank),
    )
    made = finished_run(folder, name, spec=spec, start=start)
    run = RunDir(made.path.rename(folder / f"{name}-20251120-4e1a"))  # the same every time
    _train_and_prove(run)
    items = [
        sheets.Item(
            id=f"{question.id}-adapter-0", question_id=question.id, question=question.text, voice="adapter",
            answer=said[question.id], tokens=len(said[question.id]) // 4, stop="end",
        )
        for question in rub.questions
    ]  # fmt: skip
    header = sheets.Header(
        name="rhea-1", run=run.id, rubric=rub, t=1.0, adapter=name.ljust(64, "0"), base="b" * 64, template="t" * 64,
        decoding=sheets.Decoding(max_new_tokens=80, temperature=0.0, repetition_penalty=1.0),
    )  # fmt: skip
    sheet = sheets.read(sheets.write(run, header, items))
    if points is not None:
        grade_all(run, sheet, lambda slot, place: _level(points[slot.question_id], place))
    return run


def _level(points: int, dimension: int) -> int:
    """The levels of five dimensions that add up to `points`: what is shaky first is facts and voice."""
    lost = 10 - points
    order = (1, 2, 0, 4, 3)
    return 2 - sum(1 for place in range(lost) if order[place % 5] == dimension)


def _train_and_prove(run: RunDir) -> None:
    staging = run.path / ".staging-adapter"
    staging.mkdir(mode=0o700)
    (staging / "adapter_model.safetensors").write_bytes(b"weights")
    durable.seal(staging, run.adapter, step=100)
    proof = calls.Proof(
        verdict="effective", sentence="Effective: KL 2.1 nats, 58.1% of top tokens changed.", kl=2.1, flip_rate=0.581,
        nonzero_b=210, total_b=210, heldout_loss=calls.Losses(base=3.5, adapter=1.67), heldout_rows=6, probes=12,
        positions=1529,
    )  # fmt: skip
    run.proof.write_bytes(msgspec.json.encode(proof))
    run.conversations.mkdir(mode=0o700, exist_ok=True)
    (run.conversations / "first.jsonl").write_bytes(b"{}\n")
