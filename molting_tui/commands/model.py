"""`molting model check`: is this model or adapter whole, safe and as expected?"""

from __future__ import annotations

from typing import Annotated

import typer

from engine.contract import calls

from .. import terminal
from ..services import engine
from ..terminal import Terminal, one_line
from .context import Json, places, print_json, progress

app = typer.Typer(help="Look at models and adapters.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _model() -> None:
    """Look at models and adapters."""


@app.command()
def check(
    ctx: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A folder, a GGUF file, a hub id, or an adapter's folder.")
    ],
    base: Annotated[
        str, typer.Argument(metavar="[BASE]", help="The model an adapter is compared with; else the one it names.")
    ] = "",
    json: Json = False,
) -> None:
    """Judge a model or an adapter without loading it; a hub id is downloaded. Exits 1 if there are errors."""
    request = calls.ModelCheckRequest(model=model, base=base, models=str(places(ctx).models))
    with progress(json_wanted=json) as line:
        checked = engine.call("model-check", request, calls.ModelCheck, line)
    if json:
        print_json(checked)
    else:
        _show(checked, terminal.out())
    if any(finding.severity == "error" for finding in checked.findings):
        raise typer.Exit(1)


def _show(checked: calls.ModelCheck, out: Terminal) -> None:
    out.line(f"{checked.kind}: {one_line(checked.about)}")
    out.line(f"  {one_line(checked.path)}")
    for finding in checked.findings:
        out.line(f"{out.paint(finding.severity, f'{finding.severity:<8}')} {one_line(finding.message)}  [{finding.id}]")
        for name, said in (("why", finding.why), ("evidence", finding.evidence), ("try", finding.remedy)):
            if said:
                out.line(f"         {name}: {one_line(said)}")
    if not any(finding.severity == "error" for finding in checked.findings):
        out.line("It can be used.")
