"""`molting init`: a persona folder to fill."""

from __future__ import annotations

import json as jsonlib
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.contract import durable
from engine.contract.errors import MoltingError

from .. import templates, terminal
from ..services.personas import persona_folder
from ..spec_text import spec_text
from .context import Json, print_json

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_NAME = re.compile(r"[^\W_][\w. -]{0,78}(?<![. ])")


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The persona; also the folder to make.")],
    persona: Annotated[str, typer.Option(help="Start from a shipped persona: rhea or zeca.")] = "",
    json: Json = False,
) -> None:
    """Make a folder with rows, system prompt, facts, probe questions and a commented spec."""
    folder = make(Path.cwd() / name, name, persona)
    if json:
        print_json({"path": str(folder)})
        return
    out = terminal.out()
    out.line(str(folder))
    out.line(f"Fill rows.jsonl, then: molting doctor {_quoted(name)}, molting train {_quoted(name)}")


def name_problem(name: str) -> str:
    """What is wrong with the name of a persona, or nothing."""
    return "" if _NAME.fullmatch(name) else f"{name[:60]!r} cannot be the name of a persona folder."


def make(folder: Path, name: str, persona: str = "") -> Path:
    """Write the files of a persona. MoltingError (code 2) for a name that cannot be, or a folder that is there."""
    if problem := name_problem(name):
        remedy = "Use up to 80 letters, digits, spaces, dots, - and _, beginning with a letter or digit."
        raise MoltingError(problem, remedy=remedy, code=2)
    _write(folder, shipped(persona, name) if persona else made_up(name))
    return folder


def made_up(name: str) -> dict[str, str]:
    """The files of an empty persona."""
    files = {file: text.replace("NAME", _inside(file, name)) for file, text in templates.FILES.items()}
    return files | {"spec.toml": spec_text(templates.SPEC)}


def shipped(persona: str, name: str) -> dict[str, str]:
    """The files of a shipped persona, its spec with every other key as a comment."""
    folder = persona_folder(persona)
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name != "README.md"]
    files = {path.name: path.read_text("utf-8") for path in found}
    given = dict(_flat(tomllib.loads(files["spec.toml"])))
    return files | {"spec.toml": spec_text(given | {"name": name})}


def _write(folder: Path, files: Mapping[str, str]) -> None:
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise MoltingError(f"{folder} exists already, so nothing was written.", remedy="Take another name.", code=2)
    try:
        durable.make_private_dir(folder)
        for file, content in files.items():
            durable.write_new(folder / file, content.encode())
    except OSError as error:
        raise durable.explain(error, f"write {folder}") from None


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys; `data.fields` is a value, not a section."""
    for key, value in table.items():
        if isinstance(value, Mapping) and f"{prefix}{key}" != "data.fields":
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _inside(file: str, name: str) -> str:
    """`name` as it may stand inside the quotes of a JSON or TOML file."""
    return name if file.endswith(".txt") else jsonlib.dumps(name, ensure_ascii=False)[1:-1]


def _quoted(name: str) -> str:
    return f'"{name}"' if " " in name else name
