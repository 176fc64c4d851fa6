"""`molting serve`: base and adapter for programs, through an OpenAI-compatible endpoint on this machine."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import Annotated

import typer

from engine.contract import calls, outputs
from engine.contract.errors import MoltingError

from .. import terminal
from ..progress import ProgressLine
from ..services import engine
from .context import Json, Run, places, print_json, progress

Heard = engine.Heard


def serve(
    ctx: typer.Context,
    run: Run,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 0,
    api_key_env: Annotated[
        str, typer.Option(metavar="VAR", help="Take the API key from this environment variable.")
    ] = "",
    json: Json = False,
) -> None:
    """Serve base and adapter to programs on this machine, OpenAI-compatible, until Ctrl+C."""
    where = places(ctx)
    found = where.find(run)
    key = _given(api_key_env) if api_key_env else f"molting-{secrets.token_urlsafe(32)}"
    request = outputs.ServeRequest(run=str(found.path), models=str(where.models), port=port, key=key)
    with progress(json_wanted=json) as line:
        hear = _hear(line, "" if api_key_env else key, json)
        engine.call("serve", request, outputs.Served, hear)


def _given(variable: str) -> str:
    key = os.environ.get(variable, "")
    if not key:
        raise MoltingError(f"The environment has no {variable}.", remedy=f"Export {variable}, or leave it out.", code=2)
    return key


def _hear(line: ProgressLine, key: str, json: bool) -> Callable[[Heard], None]:
    """Passes progress on, and says where it listens once it does. A key that was given is not shown."""

    def hear(heard: Heard) -> None:
        if not isinstance(heard, calls.Progress) or heard.phase != "serving":
            line(heard)
            return
        line.close()
        url = f"http://127.0.0.1:{heard.done:.0f}/v1"
        if json:
            print_json({"url": url, "api_key": key or None, "models": ["base", "adapter"]})
            return
        out = terminal.out()
        out.line(f"Serving at {url} (models: base, adapter); Ctrl+C ends it.")
        if key:
            out.line(f"API key: {key}")

    return hear
