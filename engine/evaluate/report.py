"""The verb `report`: one run as `report.md` and `report.html`. Every number is computed from the run's files, now.

What somebody wrote between the notes' markers of an earlier `report.md` is kept; all else is made anew.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shlex import quote

from engine.contract import calls, durable
from engine.contract.plainfile import read_plain
from engine.contract.rundir import RunDir
from engine.contract.verdict import Reported, ReportRequest

from . import report_grades as grades
from . import report_training as training
from .report_blocks import Block, Bullets, Code, Paragraph, Report, Section, Table
from .report_facts import Facts, gather
from .report_html import page
from .report_markdown import markdown, notes_of
from .report_numbers import signed

_LIMIT = 64 << 20  # bytes of an earlier report


def report(request: ReportRequest, tell: Callable[[calls.Line], None]) -> Reported:
    """Write both files. MoltingError where the disk refuses, or the earlier report is no plain file."""
    run = RunDir(Path(request.run))
    tell(calls.Progress(phase="reading the run"))
    facts = gather(run, RunDir(Path(request.against)) if request.against else None, tell)
    made = compose(facts)
    notes, kept = _notes(run)
    files = {run.report: markdown(made, notes), run.report_html: page(made, notes)}
    for path, text in files.items():
        try:
            durable.write_replace(path, text.encode("utf-8", "replace"))
        except OSError as error:
            raise durable.explain(error, f"write {path.name}") from error
    cycle = facts.cycle
    return Reported(
        run=run.id,
        markdown=str(run.report),
        html=str(run.report_html),
        verdict=facts.comparison.verdict if facts.comparison else facts.base.verdict if facts.base else None,
        sentence=made.verdict,
        score=cycle.score if cycle else None,
        against=facts.other.id if facts.other else "",
        short="\n".join(made.short),
        missing=made.missing,
        warnings=[kept] if kept else [],
    )


def compose(facts: Facts) -> Report:
    """The report of these facts. Pure."""
    verdict = _verdict(facts)
    short = _short(facts, verdict)
    sections = [
        training.changed(facts),
        training.data(facts),
        training.training(facts),
        training.proof(facts),
        grades.graded(facts),
        grades.comparison(facts),
        grades.measures(facts),
        training.record(facts),
        grades.answers(facts),
        grades.limits(facts),
        _reproduce(facts),
        Section("Short version", [Bullets(short)]),
    ]
    return Report(f"{facts.name}: report of {facts.run.id}", verdict, sections, short, facts.missing)


def _verdict(facts: Facts) -> str:
    """The best that is known, in one sentence: the comparison, else the score, else the proof, else the state."""
    if facts.comparison:
        return f"Against {facts.other_name}: {facts.comparison.sentence}"
    if facts.base:
        return f"Adapter against base: {facts.base.sentence}"
    if facts.cycle:
        return f"Graded {grades.score(facts.cycle)}; nothing to compare it with."
    if facts.proof:
        return f"Not graded yet. {facts.proof.sentence}"
    steps = f"at step {facts.seen.step} of {facts.seen.steps or '?'}"
    return f"Not graded and not proven: the run is {facts.seen.state}, {steps}."


def _short(facts: Facts, verdict: str) -> list[str]:
    said = [f"{facts.name}: {verdict}"]
    cycle = facts.cycle
    if cycle:
        parts = ", ".join(f"{each.id} {signed(each.score).lstrip('+')}" for each in cycle.dimensions)
        said.append(f"Score {grades.score(cycle)}. By dimension: {parts}. Graded by {grades.rater(cycle)}.")
    changes = facts.spec_differs
    if changes is None and facts.comparison:
        changes = facts.comparison.differs.treatment
    if changes:
        said.append("Changed: " + "; ".join(f"{each.what} {each.a} -> {each.b}" for each in changes[:6]) + ".")
    said += training.in_short(facts)
    if facts.proof:
        said.append(f"Proof: {facts.proof.sentence}")
    found = facts.comparison or facts.base
    careful = found.warnings if found else cycle.warnings if cycle else []
    if careful:
        said.append(f"Careful: {' '.join(careful[-4:])}")  # the weightiest come last
    return said


def _reproduce(facts: Facts) -> Section:
    """Commands and hashes. RUNS is the folder that holds the run."""
    commands = []
    if not facts.imported:
        commands.append(f"molting train RUNS/{facts.run.id}/spec.toml")
        commands.append(f"molting prove {facts.run.id}")
    elif facts.sheet and len(facts.sheet.header.sources) == 2:
        place = f"RUNS/{facts.run.id}/inputs"
        files = {each.name.partition("/")[2].partition(".")[0]: each.name.partition("/")[2] for each in facts.inputs}
        if {"answers", "scores"} <= files.keys():
            given = [quote(f"{place}/{files[what]}") for what in ("answers", "scores")]
            rubric = quote(facts.sheet.header.rubric.name)
            commands.append(f"molting import --answers {given[0]} --scores {given[1]} --name NAME --rubric {rubric}")
    commands.append(grades.sheet_command(facts))
    if facts.cycle and not facts.imported:
        commands.append(f"molting grade {facts.run.id}")
    if facts.comparison and facts.other:
        commands.append(f"molting compare {facts.other.id} {facts.run.id}")
    against = f" --against {facts.other.id}" if facts.other else ""
    first = "imports the same files anew" if facts.imported else "trains it anew"
    commands.append(f"molting report {facts.run.id}{against}")
    blocks: list[Block] = [
        Paragraph(f"RUNS is the folder of the runs. The first command {first}; the others read this run."),
        Code([each for each in commands if each]),
        Table(["what", "sha256"], training.hashes(facts)),
    ]
    versions = _versions(facts)
    if versions:
        blocks.append(Table(["software", "version"], [[name, version] for name, version in versions.items()]))
    return Section("How to reproduce it", blocks)


def _versions(facts: Facts) -> dict[str, str]:
    start = facts.history.start
    sheet = facts.sheet.header.versions if facts.sheet else {}
    return {**sheet, **(start.versions if start else {})}


def _notes(run: RunDir) -> tuple[str, str]:
    """(notes of the earlier report, a sentence where it had to be put aside because its markers are gone)."""
    try:
        old = read_plain(run.report, _LIMIT).decode("utf-8", "replace")
    except FileNotFoundError:
        return "", ""
    notes = notes_of(old)
    if notes is not None:
        return notes, ""
    aside = next(path for n in range(1, 10_000) if not (path := run.path / f"report-kept-{n}.md").exists())
    try:
        durable.write_new(aside, old.encode("utf-8", "replace"))
    except OSError as error:
        raise durable.explain(error, "keep the earlier report") from error
    return "", f"The earlier report.md had lost the marks around its notes; it is kept whole as {aside.name}."
