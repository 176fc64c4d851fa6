"""`molting --host NAME push SPEC`: a spec and its rows to another machine, and the start of a run there."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from engine.contract import settings
from engine.contract.errors import MoltingError

from .. import terminal, text
from ..services import push as copying
from ..services import ssh
from ..services.there import run_there
from ..terminal import one_line
from .context import Json, SpecFile, places, print_json, spec_file

Start = Annotated[bool, typer.Option("--start", help="Then start a run of it there.")]


def push(ctx: typer.Context, spec: SpecFile, start: Start = False, json: Json = False) -> None:
    """Copy a spec, and the files of rows and probes that it names, to the machine of --host."""
    host = places(ctx).host
    if not host:
        raise MoltingError(
            "It is not said where to push to.", remedy="`molting --host NAME push SPEC`; docs/hosts.md", code=2
        )
    machine = ssh.machine(host, settings.load().hosts)
    made = copying.parcel(spec_file(spec))
    ask = sys.stdin.isatty()
    folder, how = copying.send(made, machine, ask=ask, shown=not json and terminal.err().tty)
    for model in made.left:
        terminal.warn(f"The model {one_line(model)} was not copied: the spec there expects it at the same path.")
    there = f"{folder}/spec.toml"
    if start:
        words = ["train", there, *(["--json"] if json else [])]
        raise typer.Exit(run_there(machine, words, "train"))
    if json:
        print_json({"host": host, "path": there, "files": sorted(made.files), "by": how})
        return
    terminal.out().line(one_line(there))
    said = text.plural(len(made.files) + 1, "file")
    command = f"molting --host {host} train {shlex.quote(one_line(there))}"
    terminal.err().line(f"{said} copied by {how}. `{command}` starts a run.")
