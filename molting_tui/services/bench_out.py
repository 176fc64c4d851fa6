"""A bench as a file for others: .csv or .md, by its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.contract import durable
from engine.contract.bench import Bench
from engine.contract.errors import MoltingError

from ..state import bench_view

KINDS = {".csv": bench_view.as_csv, ".md": bench_view.as_markdown}


def require_kind(file: Path) -> None:
    """MoltingError (code 2) for a name that says nothing of the kind, or a folder that is not there."""
    if file.suffix.lower() not in KINDS:
        raise MoltingError(f"{file.name} is neither .csv nor .md.", remedy="Name the file so.", code=2)
    if not file.expanduser().absolute().parent.is_dir():
        raise MoltingError(f"There is no folder {file.expanduser().absolute().parent}.", code=2)


def write(found: Bench, order: Sequence[int], file: Path) -> Path:
    """Write `file` anew; its absolute path. MoltingError where that cannot be done."""
    require_kind(file)
    path = file.expanduser().absolute()
    content = KINDS[path.suffix.lower()](found, order)
    try:
        durable.write_replace(path, content.encode("utf-8", "replace"))
    except OSError as error:
        raise durable.explain(error, f"write {path.name}") from error
    return path
