"""Runs whose answers can be graded: a sealed sheet of both voices, with one answer that the machine objects to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.contract import grades, rubric, sheets, slots
from engine.contract.rundir import RunDir
from engine.contract.spec import Data, Method, Model, Spec, Training
from tests.support.runs import finished_run

RHEA = rubric.find("rhea")
HEADING = "# My plan\n\nI hum in the bread tin, and the fog answers."


def answers(rub: rubric.Rubric) -> list[sheets.Item]:
    """Both voices on every question; the adapter's third answer has a heading, its fifth is long and hostile."""
    said = [f"I am Rhea, number {n}, a radio on the third landing." for n in range(1, len(rub.questions) + 1)]
    said[2] = HEADING
    said[4] = "Rust \x1b[2J and [b]silence[/b]. " + "Wave after wave. " * 120
    return [
        sheets.Item(
            id=f"{question.id}-{voice}-0",
            question_id=question.id,
            question=question.text,
            voice=voice,
            answer=text if voice == "adapter" else f"As an AI language model, I cannot say ({n}).",
            tokens=20,
            stop="end",
        )
        for n, (question, text) in enumerate(zip(rub.questions, said, strict=True))
        for voice in ("base", "adapter")
    ]


def graded_run(
    runs: Path, name: str = "rhea", *, parent: str = "", rank: int = 8, adapter: str = "a" * 64
) -> tuple[RunDir, sheets.Sheet]:
    """A finished run with one sheet of eight questions."""
    spec = Spec(
        name=name,
        parent=parent,
        model=Model(base="demo", precision="fp32"),
        data=Data(train="inputs/rows.jsonl"),
        training=Training(max_steps=100),
        method=Method(rank=rank),
    )
    run, rub = finished_run(runs, name, spec=spec), rubric.load(RHEA)
    header = sheets.Header(name="rhea-1", run=run.id, rubric=rub, t=1.0, adapter=adapter)
    return run, sheets.read(sheets.write(run, header, answers(rub)))


def grade_all(
    run: RunDir, sheet: sheets.Sheet, level: Callable[[slots.Slot, int], int], *, base: bool = False, comment: str = ""
) -> Path:
    """A whole grading by Ana: `level(slot, place)` in the dimension at that place, `comment` on the adapter's first."""
    rub = sheet.header.rubric
    opened = grades.Opened(
        rater="Ana", sheet=sheet.header.name, sheet_hash=sheet.sha256, rubric=rub, rubric_hash=rub.fingerprint,
        adapter=sheet.header.adapter, voices=["base", "adapter"] if base else ["adapter"], extras=False,
    )  # fmt: skip
    with grades.GradeFile.create(run, opened) as file:
        for slot in slots.slots(sheet, opened):
            for place, dimension in enumerate(rub.dimensions):
                file.say(grades.Cell(item=slot.id, dimension=dimension.id, level=level(slot, place)))
            if comment and slot.voice == "adapter":
                file.say(grades.Comment(item=slot.id, dimension=rub.dimensions[0].id, text=comment))
                comment = ""
            file.say(grades.Commit(item=slot.id, key=slot.key))
        return file.path
