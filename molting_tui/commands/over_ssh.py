"""`molting --host NAME …`: the same command on another machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.contract import settings

from ..services import ssh
from ..services.there import run_there


def over_ssh(before: Mapping[str, Any], words: Sequence[str]) -> int:
    """Run `words` on the machine that the options `before` the command name; the exit status there.

    MoltingError (code 2) for a name that is none, (code 3) where the machine is away, has no Molting or is lost.
    """
    machine = ssh.machine(str(before["host"]), settings.load().hosts)
    options = [f"--{name.replace('_', '-')}" for name in ("no_mouse", "ascii") if before[name]]
    options += [f"--{name}={before[name]}" for name in ("runs", "show") if before[name]]
    return run_there(machine, [*options, *words], words[0] if words else "")
