"""What a finished grading adds up to, as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from engine.contract.verdict import Agreement, Cycle, Evaluation, Judged

from .terminal import one_line
from .text import clock, plural
from .verdicts import points


def end_lines(run: str, path: Path, cycle: Cycle | None, found: Evaluation) -> Iterator[str]:
    """The score first, then whether the rater is to be believed, then what to do next."""
    if cycle is not None:
        yield from cycle_lines(cycle)
    else:
        yield from _pairs(found, path)
    for each in found.agreements:
        yield agreement_line(each)
    yield ""
    yield f"The grades are in {one_line(str(path))}."
    yield f"Next: `molting report {run}` writes it down, `molting compare OTHER {run}` says whether it is better."


def cycle_lines(cycle: Cycle) -> Iterator[str]:
    """One graded cycle."""
    band = f", {one_line(cycle.band)}" if cycle.band else ""
    who = f"{cycle.voice}, by {one_line(cycle.rater)}"
    yield f"score  {points(cycle.score)} of 10 ({cycle.raw:g}/{cycle.max:g}){band}: {who}"
    if cycle.interval:
        low, high = map(points, cycle.interval)
        yield f"95 % interval over the questions  {low} to {high}"
    for each in cycle.dimensions:
        yield f"  {one_line(each.id)} {one_line(each.name)}  {each.raw}/{each.max}"
    for part, name in ((cycle.seen, "seen in training"), (cycle.unseen, "not seen in training")):
        if part and part.answers:
            yield f"  {name}  {points(part.score)} ({plural(part.answers, 'answer')})"
    if cycle.anchors:
        passed = sum(each.passed for each in cycle.anchors)
        told = "passed" if passed == len(cycle.anchors) else "NOT passed: these levels are not those of the rubric"
        yield f"calibration  {passed} of {len(cycle.anchors)} {told}"
    if cycle.repeated:
        yield f"self-consistency  {cycle.repeated_same} of {plural(cycle.repeated, 'repeated cell')} graded the same"
    if cycle.cut:
        yield f"cut at the cap  {plural(cycle.cut, 'answer')}"
    flagged = [each.question_id for each in cycle.answers if each.flagged]
    if flagged:
        yield f"flagged  {', '.join(map(one_line, flagged))}"
    if cycle.skipped:
        yield f"skipped  {plural(cycle.skipped, 'answer')}, not counted"
    yield f"time  {clock(cycle.seconds)}"
    for warning in cycle.warnings:
        yield f"warning  {one_line(warning)}"


def judged_lines(judged: Judged) -> Iterator[str]:
    """What a language model graded, and how far it agrees with people."""
    yield from cycle_lines(judged.cycle)
    yield f"discarded  {plural(judged.discarded, 'cell')} without two replies that agree"
    for agreed in judged.agreements:
        yield agreement_line(agreed)
    if not judged.agreements:
        yield "agreement  nobody else has graded these answers yet"
    yield ""
    yield f"A judge's grades are never part of a score. They are in {one_line(judged.grades)}."


def agreement_line(each: Agreement) -> str:
    """How far two raters agree; never part of a score."""
    who = f"{one_line(each.one)} and {one_line(each.two)}"
    if each.agreement is None or not each.enough:
        return f"agreement  {who}: {plural(each.cells, 'common cell')}, too few to judge"
    kappa = "" if each.kappa is None else f", weighted kappa {each.kappa:.2f}"
    ac2 = "" if each.ac2 is None else f", AC2 {each.ac2:.2f}"
    return f"agreement  {who}: {each.agreement:.0%} of {each.cells} cells{kappa}{ac2}"


def _pairs(found: Evaluation, path: Path) -> Iterator[str]:
    for each in found.pairs:
        if not each.complete:
            continue
        one, two = (*map(one_line, each.sides), "", "")[:2]
        p = "" if each.p is None else f"; sign test p {each.p:.3f}"
        won = f"{one} {each.one}, {two} {each.two}, tie {each.ties}, both bad {each.bad}"
        yield f"pairs by {one_line(each.rater)}: {won}{p}"
    if not found.pairs:
        yield f"Nothing counts in {one_line(path.name)}."
