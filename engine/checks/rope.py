"""A stretched context: whether this model's positions can be stretched, and what that does to short texts."""

from __future__ import annotations

import math
from collections.abc import Iterator

from engine.contract.calls import Finding

from .case import Case, change
from .words import several


def cannot_be_stretched(case: Case) -> Iterator[Finding]:
    rope = case.spec.model.rope
    if rope.type == "none" or rope.factor == 1.0 or not case.unstretchable:
        return
    yield Finding(
        id="rope-refused",
        severity="error",
        message=f"model.rope wants the context stretched {rope.factor:g}-fold, but this model cannot: "
        f"{case.unstretchable}.",
        why="The model would be refused when it is loaded.",
        remedy='Set model.rope.type = "none".',
        fix=change("model.rope.type", "none"),
    )


def short_texts(case: Case) -> Iterator[Finding]:
    """The word on what a needed stretching costs."""
    rope = case.spec.model.rope
    longest = max((len(row.input_ids) for row in case.rows), default=0)
    if rope.type == "none" or rope.factor == 1.0 or case.unstretchable or not 0 < case.window < longest:
        return
    yield Finding(
        id="rope-short-texts",
        severity="warning" if rope.type == "linear" else "note",
        message=f"The context is stretched {rope.factor:g}-fold ({rope.type}); {what_short_texts_lose(case)}",
        evidence=f"{case.window:,} × {rope.factor:g} = {round(case.window * rope.factor):,} tokens of window, the "
        f"longest row has {longest:,}",
        why="Most questions are short, and the base learned its distances without stretching.",
        remedy=_REMEDIES[rope.type],
    )


def hardly_trained(case: Case) -> Iterator[Finding]:
    rope = case.spec.model.rope
    window = round(case.window * rope.factor)
    long = sum(len(row.input_ids) > case.window for row in case.rows)
    if rope.type == "none" or rope.factor == 1.0 or not case.window or not 0 < long < 0.1 * len(case.rows):
        return
    yield Finding(
        id="rope-hardly-trained",
        severity="warning",
        message=f"Of {several(len(case.rows), 'row')}, {long:,} reach beyond the model's own {case.window:,} tokens, "
        f"though its window is stretched to {window:,}.",
        why="What a model can do in the stretched part it learns from rows that reach there.",
        remedy="Add long rows, or stretch less; `molting needle RUN` measures what came of it.",
    )


def what_short_texts_lose(case: Case) -> str:
    """What the stretching does to texts that fit anyway, as the end of a sentence."""
    rope = case.spec.model.rope
    if rope.type == "linear":
        return (
            f"in short texts too every distance becomes 1/{rope.factor:g}: they get worse until that is learned anew."
        )
    if rope.type == "dynamic":
        return (
            f"texts of up to {case.window:,} tokens stay exactly as they were. Longer ones change their positions as "
            "they grow, so what an answer attends to was computed with older ones."
        )
    sharper = 0.1 * math.log(rope.factor) + 1
    return (
        "near words keep their distances, and only far ones shrink; attention is sharper by "
        f"{sharper * sharper - 1:.0%} in short texts too, which a few hundred rows teach."
    )


_REMEDIES = {
    "linear": "Keep enough short rows in the file, or take yarn, which leaves near words alone.",
    "dynamic": "Where long texts are the rule, yarn gives them the same positions in training and in answers.",
    "yarn": "Keep some short rows in the file.",
}

CHECKS = (cannot_be_stretched, short_texts, hardly_trained)
