"""`molting doctor`: what would go wrong with a spec, and the plan."""

from __future__ import annotations

from pathlib import Path

import typer

from engine.contract import calls

from .. import terminal, text
from ..services import engine
from ..terminal import one_line
from .context import Json, Places, SpecFile, places, print_json, progress, spec_file


def doctor(ctx: typer.Context, spec: SpecFile, json: Json = False) -> None:
    """Check model, data and plan of a spec without starting anything. Exits 1 if there are errors."""
    checked = preflight(places(ctx), spec_file(spec), json=json)
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


def has_errors(checked: calls.Preflight) -> bool:
    return any(finding.severity == "error" for finding in checked.findings)


def show(checked: calls.Preflight) -> None:
    """Findings, the worst first, then the plan."""
    out = terminal.out()
    order = ("error", "warning", "note")
    for finding in sorted(checked.findings, key=lambda each: order.index(each.severity)):
        label = out.paint(finding.severity, f"{finding.severity:<8}")
        out.line(f"{label} {one_line(finding.message)}  [{one_line(finding.id)}]")
        for name, said in (("why", finding.why), ("evidence", finding.evidence), ("try", finding.remedy)):
            if said:
                out.line(f"         {name}: {one_line(said)}")
    if not checked.findings:
        out.line("Nothing found.")
    if checked.mapping:
        out.line(f"rows: {one_line(checked.mapping)}")
    if checked.plan:
        out.line(plan_line(checked.plan))


def plan_line(plan: calls.Plan) -> str:
    """The plan in one line."""
    parts = [
        f"{text.plural(plan.rows, 'row')} × {plan.seen:.3g}",
        f"{plan.rows_per_step} a step = {text.plural(plan.steps, 'step')}",
        f"{plan.warmup_steps} of them warm-up",
        f"learning rate {plan.learning_rate:.2g}",
        f"{plan.tokens_per_row:.0f} tokens a row, {text.percent(plan.learned_share)} learned",
        f"{plan.heldout} held out",
    ]
    return "plan: " + ", ".join(parts)
