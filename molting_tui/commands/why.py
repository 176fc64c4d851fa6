"""`molting why`: one investigation into why a run seems to have changed nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import msgspec
import typer

from engine.contract import calls, plainfile
from engine.contract.errors import MoltingError

from .. import terminal, text, why_lines
from ..services import engine
from ..terminal import Terminal
from .context import Json, Run, places, print_json, progress
from .sampling import MaxNewTokens, RepetitionPenalty, Seed, Temperature, TopK, TopP

_LONGEST = 1 << 20  # bytes of a system prompt or template


def why(
    ctx: typer.Context,
    run: Run,
    against: Annotated[str, typer.Option(metavar="RUN", help="The run that it was compared with.")] = "",
    system: Annotated[
        Optional[str], typer.Option(metavar="TEXT|FILE", help="The system prompt that is really used; '' for none.")
    ] = None,
    chat_template: Annotated[
        Optional[str], typer.Option(metavar="NAME|FILE", help="The chat template that is really used.")
    ] = None,
    max_new_tokens: MaxNewTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    repetition_penalty: RepetitionPenalty = None,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Find out why a run changed nothing, or that it did. Exits 1 unless it is effective."""
    where = places(ctx)
    found = where.find(run)
    request = calls.WhyRequest(
        run=str(found.path),
        models=str(where.models),
        against=str(where.find(against).path) if against else "",
        system=_text_or_file(system),
        chat_template=_text_or_file(chat_template),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    with progress(json_wanted=json) as line:
        investigation = engine.call("why", request, calls.Investigation, line)
    if json:
        print_json({"run": found.id} | msgspec.structs.asdict(investigation))
    else:
        show(investigation)
    if investigation.cause != "effective":
        raise typer.Exit(1)


def show(found: calls.Investigation) -> None:
    """What the record says, the questions in their order, and last the cause."""
    out = terminal.out()
    rows = list(why_lines.findings(found))
    if rows:
        out.line(out.paint("title", "The training"))
        for row in rows:
            _show(row, out.paint(row.state, f"{row.state:<8}"), 9, out)
        out.line()
    out.line(out.paint("title", "The investigation"))
    for row in why_lines.steps(found):
        _show(row, out.paint(row.state, out.mark(row.state)), 2, out)
    out.line()
    last = why_lines.cause(found)
    _show(last, out.paint(last.state, out.mark(last.state)), 2, out)


def _show(row: why_lines.Row, label: str, indent: int, out: Terminal) -> None:
    width = max(20, out.width - indent - 1)
    first, *more = text.wrap(row.text, width)
    out.line(f"{label} {first}")
    for line in [*more, *(line for detail in row.details for line in text.wrap(detail, width))]:
        out.line(" " * indent + line)


def _text_or_file(given: str | None) -> str | None:
    """What stands in the file that is named, or the text itself."""
    if not given or "\n" in given or len(given) > 4096:
        return given
    path = Path(given).expanduser()
    try:
        if not path.is_file():
            return given
        return plainfile.read_plain(path, _LONGEST).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise MoltingError(f"{path} cannot be read as text.", remedy="Give a text in UTF-8.", code=2) from None
