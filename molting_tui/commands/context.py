"""What every command shares: where things are, how RUN and SPEC are found, how JSON is printed."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from engine.contract import rundir, settings, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir

from .. import terminal
from ..progress import ProgressLine

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="An id, the beginning of one, or a name.")]
SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="A spec file, or a folder with a spec.toml.")]


class Places:
    """Folders of runs and models: the option, then the environment, then the settings."""

    def __init__(self, runs: Path | None) -> None:
        self._chosen = runs

    @cached_property
    def _settings(self) -> settings.Settings:
        return settings.load()

    @property
    def runs(self) -> Path:
        return self._chosen.expanduser().absolute() if self._chosen else self._settings.runs

    @property
    def models(self) -> Path:
        return self._settings.models

    def find(self, wanted: str) -> RunDir:
        """The run meant by `wanted`. MoltingError (code 2) when there is none, or more than one."""
        return rundir.find(self.runs, wanted, summary.name_of)


def places(ctx: typer.Context) -> Places:
    obj: Places = ctx.obj
    return obj


def spec_file(given: Path) -> Path:
    """The spec file that is meant, absolute. MoltingError (code 2) when there is none."""
    path = given.expanduser().absolute()
    path = path / "spec.toml" if path.is_dir() else path
    if not path.is_file():
        raise MoltingError(
            f"There is no spec file {path}.", remedy="`molting init NAME` writes one to start from.", code=2
        )
    return path


def progress(*, json_wanted: bool) -> ProgressLine:
    """Draws on stderr; silent where only JSON is wanted and nobody watches."""
    return ProgressLine(terminal.err(), quiet=json_wanted)


def print_json(value: Any) -> None:
    """One JSON object on one line, in ASCII: exact, and harmless on a terminal."""
    plain = json.loads(msgspec.json.encode(value))
    print(json.dumps(plain, ensure_ascii=True), flush=True)
