"""The proof that the engine left in a run."""

from __future__ import annotations

import msgspec

from engine.contract import calls, proofs, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir

from .. import text
from .task import Task


def recorded(run: RunDir) -> calls.Proof | None:
    """The proof that lies in the run, if it is of the adapter that is there now."""
    try:
        proof = msgspec.json.decode(summary.read_small(run.proof), type=calls.Proof)
        return proof if proofs.is_current(run, proof) else None
    except (OSError, MoltingError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def of(run: RunDir, models: str, task: Task) -> calls.Proof:
    """The recorded proof, or a new one. MoltingError when the engine cannot give it."""
    return recorded(run) or task.call("prove", calls.RunRequest(run=str(run.path), models=models), calls.Proof)


def in_short(run: RunDir) -> str:
    """What the recorded proof found: `active, KL 2.1, flips 58 %`; empty where there is none."""
    proof = recorded(run)
    if proof is None:
        return ""
    active = "active" if proof.active else "NOT active"
    return f"{active}, KL {text.number(proof.kl)}, flips {text.percent(proof.flip_rate)}"
