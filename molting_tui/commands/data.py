"""`molting data`: the rows of a file as a model sees them; on a terminal the screen, else a page of text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from engine.contract.errors import MoltingError
from engine.contract.rows import Bar, DataReport, DataRequest, RowView, Survey

from .. import terminal, text
from ..begin import Begin
from ..services import engine
from ..terminal import one_line
from .context import Json, Places, places, print_json, progress

_BAR = 40

DataFile = Annotated[Path, typer.Argument(metavar="FILE", help="A file of rows, or a spec or a run's spec.toml.")]
Model = Annotated[
    str, typer.Option("--model", metavar="MODEL", help="Count tokens as this model does: a folder, an id, a spec.")
]


def data(ctx: typer.Context, file: DataFile, model: Model = "", json: Json = False) -> None:
    """Rows of a data file, how they are read, and which are dropped. Opens the data screen on a terminal."""
    request = asked(places(ctx), file, model)
    if not json and sys.stdin.isatty() and terminal.out().tty:
        from .open_app import open_app

        raise typer.Exit(open_app(places(ctx), Begin(data=request)))
    with progress(json_wanted=json) as line:
        report = engine.call("data", request, DataReport, line)
    if json:
        print_json(as_json(report))
    else:
        show(report)


def asked(where: Places, file: Path, model: str = "") -> DataRequest:
    """The request for a file as somebody named it. MoltingError (code 2) when there is none."""
    path = file.expanduser().absolute()
    path = path / "spec.toml" if path.is_dir() else path
    if not path.exists():
        raise MoltingError(f"There is no file {path}.", remedy="Give a file of rows, or a spec.", code=2)
    local = Path(model).expanduser()
    named = str(local.absolute()) if model and local.exists() else model
    named = str(Path(named) / "spec.toml") if model and (Path(named) / "spec.toml").is_file() else named
    return DataRequest(file=str(path), models=str(where.models), model=named)


def as_json(report: DataReport) -> dict[str, object]:
    """The report as flat as scripts like it."""
    opened, survey = report.opened, report.survey
    return {
        "file": opened.file,
        "format": opened.format,
        "fields": opened.fields,
        "mapping": opened.mapping,
        "rows": survey.rows,
        "dropped": sum(survey.dropped.values()),
        "reasons": survey.dropped,
        "examples": [{"row": number + 1, "why": why} for number, why in survey.examples],
        "heldout": survey.heldout,
        "trained": survey.trained,
        "roles": survey.roles,
        "unit": survey.unit,
        "measured": survey.measured,
        "length": survey.length,
        "learned": survey.learned,
        "truncated": survey.truncated,
        "tokens": survey.tokens,
        "histogram": survey.bars,
        "problem": opened.problem,
        "first": [{"row": view.number + 1, "turns": view.turns, "split": view.split} for view in report.first],
    }


def show(report: DataReport) -> None:
    """A page for people."""
    out, survey = terminal.out(), report.survey
    out.line(f"{out.paint('title', one_line(Path(report.opened.file).name))}: {one_line(report.opened.mapping)}")
    if report.opened.problem:
        terminal.warn(report.opened.problem)
    dropped = sum(survey.dropped.values())
    out.line(
        f"{text.plural(survey.rows, 'row')}: {survey.trained:,} to train on, {survey.heldout:,} held out, "
        f"{dropped:,} dropped"
    )
    for why, count in sorted(survey.dropped.items(), key=lambda item: -item[1]):
        numbers = [str(number + 1) for number, said in survey.examples if said == why][:5]
        where = f" (row {', '.join(numbers)}{' …' if count > len(numbers) else ''})" if numbers else ""
        out.line(f"  {count:,} dropped: {one_line(why)}{where}")
    for line in sums(survey):
        out.line(line)
    for view in report.first:
        out.line()
        _row(out, view)


def sums(survey: Survey) -> list[str]:
    """Who speaks, how long the rows are."""
    lines = ["turns: " + ", ".join(f"{count:,} {role}" for role, count in survey.roles.items())] if survey.roles else []
    if not survey.measured:
        return lines
    of = f" of the first {survey.measured:,} rows" if survey.measured < survey.rows else ""
    each = survey.length / survey.measured
    lines.append(f"{survey.length:,} {survey.unit}{of}, {each:,.0f} a row")
    if survey.unit == "tokens":
        roles = ", ".join(f"{count:,} {role}" for role, count in survey.tokens.items())
        share = text.percent(survey.learned / max(1, survey.length))
        lines.append(f"learned: {survey.learned:,} of them ({share}); {roles}; {survey.truncated:,} rows are cut")
    return lines + histogram(survey.bars)


def histogram(bars: list[Bar], width: int = _BAR) -> list[str]:
    """A line for each bar; its length is the share of the longest."""
    most = max((bar.count for bar in bars), default=0)
    labels = [f"{bar.low:,}" if bar.low == bar.high else f"{bar.low:,}-{bar.high:,}" for bar in bars]
    room = max(map(len, labels), default=0)
    return [
        f"{label:>{room}}  {'█' * max(round(bar.count / most * width), int(bar.count > 0))} {bar.count:,}"
        for label, bar in zip(labels, bars, strict=True)
    ]


def _row(out: terminal.Terminal, view: RowView) -> None:
    out.line(out.paint("title", f"row {view.number + 1}") + f"  {view.split}")
    for role, said in view.turns:
        out.line(f"  {out.paint('dim', one_line(role))}  {text.fit(one_line(said), max(20, out.width - 14)).rstrip()}")
    for finding in view.findings:
        out.line(f"  {out.paint(finding.severity, finding.severity)} {one_line(finding.message)}")
