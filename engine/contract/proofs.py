"""Whether a proof of effect is of the weights that lie in a run now."""

from __future__ import annotations

from . import durable, sheets
from .calls import Proof
from .rundir import RunDir


def is_current(run: RunDir, proof: Proof) -> bool:
    """Whether `proof`, read from the run, measured its final weights.

    One that was kept before weights were noted in it is judged by the ages of the files, which a copy does not keep.
    Raises OSError or MoltingError where there are no sealed weights.
    """
    if not proof.weights:
        return run.proof.stat().st_mtime >= (run.adapter / durable.MANIFEST).stat().st_mtime
    files = durable.read_manifest(run.adapter).files
    return proof.weights == sheets.weights_hash({name: entry.sha256 for name, entry in files.items()})
