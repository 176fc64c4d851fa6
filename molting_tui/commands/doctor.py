"""`molting doctor`: what would go wrong with a spec, and the plan."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from engine.contract import calls, durable
from engine.contract.errors import MoltingError
from engine.contract.severity import worst_first

from .. import terminal, text
from ..services import engine
from ..state import findings as mending
from ..state.spec_form import SpecForm
from ..terminal import one_line
from .context import Json, Places, SpecFile, places, print_json, progress, spec_file

Fix = Annotated[bool, typer.Option("--fix", help="Mend what is mechanical: show the change of the spec, ask, write.")]
Yes = Annotated[bool, typer.Option("--yes", help="With --fix: write without asking. Needed where nobody can be asked.")]


def doctor(ctx: typer.Context, spec: SpecFile, fix: Fix = False, yes: Yes = False, json: Json = False) -> None:
    """Check model, data and plan of a spec without starting anything. Exits 1 if there are errors."""
    where, file = places(ctx), spec_file(spec)
    checked = preflight(where, file, json=json)
    if fix and mend(file, checked, yes=yes, json=json):
        checked = preflight(where, file, json=json)
    if json:
        print_json(checked)
    else:
        show(checked)
    if has_errors(checked):
        raise typer.Exit(1)


def preflight(where: Places, spec: Path, *, json: bool) -> calls.Preflight:
    """Ask the engine what it finds."""
    request = calls.PreflightRequest(spec=str(spec), models=str(where.models))
    with progress(json_wanted=json) as line:
        return engine.call("preflight", request, calls.Preflight, line)


def mend(file: Path, checked: calls.Preflight, *, yes: bool, json: bool) -> bool:
    """Show the mechanical remedies as a diff of the spec and write them where they are wanted; whether they were.

    MoltingError (code 2) where nobody can be asked and `yes` was not given.
    """
    said = terminal.err() if json else terminal.out()
    try:
        before = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MoltingError(f"{file} cannot be read: {error}.", code=2) from None
    form = SpecForm(before, file.parent)
    if not mending.apply(form, mending.changes(checked.findings)) or form.text() == before:
        said.line("Nothing that could be mended by changing the spec.")
        return False
    for line in mending.diff(before, form.text(), file.name):
        said.line(one_line(line))
    if not yes and not _agreed(file):
        said.line("Nothing was changed.")
        return False
    try:
        durable.write_replace(file, form.text().encode())
    except OSError as error:
        raise durable.explain(error, f"write {file}") from None
    said.line(f"Written to {one_line(str(file))}.")
    return True


def _agreed(file: Path) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise MoltingError(
            f"{file} was not changed: there is no terminal to ask on.", remedy="Add --yes to write the change.", code=2
        )
    return typer.confirm(f"Write this to {file.name}?", default=False, err=True)


def has_errors(checked: calls.Preflight) -> bool:
    return any(finding.severity == "error" for finding in checked.findings)


def show(checked: calls.Preflight) -> None:
    """Findings, the worst first, then the plan."""
    out = terminal.out()
    mendable = 0
    for finding in worst_first(checked.findings):
        mendable += bool(finding.fix)
        label = out.paint(finding.severity, f"{finding.severity:<8}")
        out.line(f"{label} {one_line(finding.message)}  [{one_line(finding.id)}]")
        for name, said in (("why", finding.why), ("evidence", finding.evidence), ("try", finding.remedy)):
            if said:
                out.line(f"         {name}: {one_line(said)}")
    if not checked.findings:
        out.line("Nothing found.")
    if mendable:
        out.line(f"--fix would mend {mendable} of these by changing the spec; it shows the change and asks first.")
    if checked.mapping:
        out.line(f"rows: {one_line(checked.mapping)}")
    if checked.plan:
        out.line(plan_line(checked.plan))


def plan_line(plan: calls.Plan) -> str:
    """The plan in one line."""
    parts = [
        f"{text.plural(plan.rows, 'row')} × {plan.seen:.3g}" if plan.rows else "rows as they are read",
        f"{_a_step(plan)} a step = {text.plural(plan.steps, 'step')}",
        f"{plan.warmup_steps} of them warm-up",
        f"learning rate {_rates(plan)}",
        f"{plan.tokens_per_row:.0f} tokens a row, {text.percent(plan.learned_share)} learned",
        f"{plan.heldout} held out",
        _lasts(plan),
    ]
    return "plan: " + ", ".join(parts)


def _lasts(plan: calls.Plan) -> str:
    """How long it will take, and how that is known."""
    if plan.seconds is None:
        return "how long it takes is known after a first run of such a model here"
    return f"about {text.clock(plan.seconds)}, told from {one_line(plan.seconds_from)}"


def _a_step(plan: calls.Plan) -> str:
    """Rows of a step, and what they come from."""
    return (
        f"{plan.batch} × {plan.accumulation} = {plan.rows_per_step}"
        if plan.accumulation > 1
        else str(plan.rows_per_step)
    )


def _rates(plan: calls.Plan) -> str:
    """First, highest and last rate."""
    peak = f"{plan.learning_rate:.2g}"
    return f"{plan.first_rate:.2g} → {peak} → {plan.last_rate:.2g}" if plan.first_rate else peak
