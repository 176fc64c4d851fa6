"""Runs of other machines beside those of this one: how they are told apart, and how their machines stand. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engine.contract.safe import safe

_SEPARATOR = ":"  # no id holds one


@dataclass(frozen=True)
class Standing:
    """How a machine stands. `since`: Unix seconds when it was lost, None while it is there."""

    since: float | None = None
    why: str = ""
    read: bool = False  # whether all its runs have come since it is there

    @property
    def away(self) -> bool:
        return self.since is not None


def key(host: str, run_id: str) -> str:
    """What a run of another machine is called here."""
    return f"{host}{_SEPARATOR}{run_id}"


def split(run_id: str) -> tuple[str, str]:
    """(machine, its id there); the machine is empty for a run of this one."""
    host, _, there = run_id.rpartition(_SEPARATOR)
    return host, there


def away_line(hosts: Mapping[str, Standing]) -> str:
    """One line on the machines that are not there; empty when all are."""
    return "   ".join(_told(hosts.items()))


def _told(hosts: Iterable[tuple[str, Standing]]) -> list[str]:
    told = []
    for name, standing in hosts:
        if standing.since is not None:
            at = time.strftime("%H:%M", time.localtime(standing.since))
            told.append(f"{name} is away since {at}: {safe(standing.why, keep_newlines=False)}")
        elif not standing.read:
            told.append(f"{name}: connecting")
    return told
