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
_OF_ROWS = frozenset({".json", ".jsonl", ".csv", ".parquet"})
SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="A spec file, or a folder with a spec.toml.")]


class Places:
    """What stands before a command. Folders: the option, then the environment, then the settings."""

    def __init__(
        self, runs: Path | None = None, host: str | None = None, *, mouse: bool = True, ascii: bool = False
    ) -> None:
        """`host`: the other machine that a command is about; most are passed on to it before they come here.
        `mouse`, `ascii`: how the app is wanted, should the command open it."""
        self._chosen = runs
        self.host = host or ""
        self.mouse, self.ascii = mouse, ascii

    @cached_property
    def _settings(self) -> settings.Settings:
        return settings.load()

    @property
    def runs(self) -> Path:
        """It may not exist yet. MoltingError (code 2) where something else has its name."""
        folder = self._chosen.expanduser().absolute() if self._chosen else self._settings.runs
        if folder.exists() and not folder.is_dir():
            raise MoltingError(
                f"{folder} is not a folder of runs.", remedy="Give one to --runs or MOLTING_RUNS.", code=2
            )
        return folder

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
    if path.suffix.lower() in _OF_ROWS:
        raise MoltingError(
            f"{path} holds rows; what is wanted is a spec, which names such a file in data.train.",
            remedy="`molting init NAME` writes one to start from; `molting data FILE` looks at the rows alone.",
            code=2,
        )
    return path


def progress(*, json_wanted: bool) -> ProgressLine:
    """Draws on stderr; silent where only JSON is wanted and nobody watches."""
    return ProgressLine(terminal.err(), quiet=json_wanted)


def print_json(value: Any) -> None:
    """One JSON object on one line, in ASCII: exact, and harmless on a terminal."""
    plain = json.loads(msgspec.json.encode(value))
    print(json.dumps(plain, ensure_ascii=True), flush=True)
