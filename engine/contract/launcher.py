"""What a spec may say to Slurm. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .spec import Spec
from .tomllines import KeyPath

KEYS = ("partition", "time", "gres", "nodes", "requeue")  # options of sbatch for which the spec has a key
OURS = (
    *KEYS,
    *("array", "chdir", "error", "export", "export-file", "get-user-env", "hold", "input", "job-name", "no-requeue"),
    *("ntasks", "ntasks-per-node", "open-mode", "output", "parsable", "signal", "test-only", "wait", "wrap"),
)


def mistakes(spec: Spec) -> Iterator[tuple[KeyPath, str]]:
    """Options in `launcher.extra` that are Molting's to give: where, and a sentence. For `tomlcheck.load`."""
    for number, option in enumerate(spec.launcher.extra):
        name = option.lstrip("-").partition("=")[0]
        # sbatch takes the beginning of a long option for the option.
        if taken := next((ours for ours in OURS if ours.startswith(name)), ""):
            instead = f"Give launcher.{taken} instead." if taken in KEYS else "Leave it out."
            yield ("launcher", "extra", number), f"launcher.extra gives --{name}, which Molting says itself. {instead}"
