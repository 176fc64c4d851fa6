"""The verb `bench`: load one candidate, ask it all prompts in every way, measure. A process does it for one only."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from engine.contract import calls
from engine.contract.bench import Benched, BenchRequest, Row, Said, Way
from engine.contract.spec import Generation

if TYPE_CHECKING:
    from .subject import Subject

Tell = Callable[[calls.Line], None]


def bench(request: BenchRequest, tell: Tell) -> Benched:
    """One row for each way. Raises MoltingError where the candidate cannot be had, or cannot be asked."""
    tell(calls.Progress(phase="importing"))
    from engine.models.device import choose_device
    from engine.models.memory import measured

    from .subject import open_subject  # takes seconds, which are shown

    with measured(choose_device()) as spent:
        subject = open_subject(request, tell)
        began = time.monotonic()
        # The first token is what a mapped file is really read for, and what a GPU compiles its kernels for.
        subject.answer(subject.prompts[:1], Generation(max_new_tokens=1))
        first = time.monotonic() - began
        asked = [_ask(subject, number, way, request, tell) for number, way in enumerate(request.ways)]
    rows = [
        msgspec.structs.replace(row, peak_bytes=spent.peak, load_seconds=subject.loaded.seconds + first)
        for row, _ in asked
    ]
    return Benched(rows=rows, said=[each for _, said in asked for each in said])


def _ask(subject: Subject, number: int, way: Way, request: BenchRequest, tell: Tell) -> tuple[Row, list[Said]]:
    total = len(request.prompts)

    def advance(done: int) -> None:
        tell(calls.Progress(phase=f"answering, {way.preset}", done=done, total=total, unit="prompts"))

    advance(0)
    began = time.monotonic()
    made = subject.answer(subject.prompts, way.options, advance)
    seconds = time.monotonic() - began
    said = [
        Said(
            row=number,
            prompt=prompt.id,
            text=subject.text(answer),
            tokens=len(answer.ids),
            stop="end" if answer.stop == "end" else "cap",
        )
        for prompt, answer in zip(request.prompts, made, strict=True)
    ]
    ended = sum(each.stop == "end" for each in said)
    row = Row(
        candidate=request.candidate,
        preset=way.preset,
        options=way.options,
        precision=subject.loaded.precision,
        quantization=subject.loaded.quantization,
        device=subject.loaded.device,
        weight_bytes=subject.loaded.weight_bytes,
        tokens=sum(each.tokens for each in said),
        seconds=seconds,
        ended=ended,
        cut=total - ended,
        notes=subject.notes,
    )
    return row, said
