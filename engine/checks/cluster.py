"""Whether Slurm would take a run: `sbatch --test-only` on the script that it would get, in Slurm's own words."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine.contract.calls import Finding
from engine.contract.errors import MoltingError
from engine.contract.spec import Launcher, Spec
from engine.train import slurm

# Taken all the same where nodes may come back or be added: the job waits. Slurm says nothing else of what is too large.
_WAITS = ("node configuration is not available", "node not available", "nodes required for job are down")
_SILENT = ("unable to contact", "munge", "did not answer")


def check(spec: Spec, models: Path) -> Iterator[Finding]:
    """What hinders a run of `launcher.kind = "slurm"`; nothing for any other."""
    if spec.launcher.kind != "slurm":
        return
    if not shutil.which("sbatch"):
        yield Finding(
            id="no-slurm",
            severity="error",
            message="There is no sbatch on this machine, so nothing can be sent to Slurm from here.",
            remedy='Do it on a login node, or set launcher.kind = "local".',
        )
        return
    yield from _asked(msgspec.json.encode(spec.launcher), models)


@functools.lru_cache(maxsize=1)  # the runs of a sweep differ in nothing that Slurm sees
def _asked(launcher: bytes, models: Path) -> tuple[Finding, ...]:
    try:
        slurm.require_taken(msgspec.json.decode(launcher, type=Launcher), models)
    except MoltingError as error:
        return (_told(error),)
    return ()


def _told(error: MoltingError) -> Finding:
    words = error.message.lower()
    if any(each in words for each in _SILENT):
        return Finding(
            id="slurm-silent",
            severity="warning",
            message=f"Whether Slurm would take the run is not known. {error.message}",
            remedy=error.remedy,
        )
    if any(each in words for each in _WAITS):
        return Finding(
            id="slurm-waits",
            severity="warning",
            message=f"As the cluster is, Slurm has no nodes that could run this. {error.message}",
            why="They are down, or the spec asks for more than any of them has; then the run waits for ever.",
            remedy="`sinfo` tells which; ask for less in [launcher].",
        )
    return Finding(
        id="slurm-refuses",
        severity="error",
        message=f"Slurm would not take the run. {error.message}",
        remedy=error.remedy or "Mend [launcher]: `sinfo` lists partitions and their devices.",
    )
