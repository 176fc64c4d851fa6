"""Who answers in Chat: a voice's key in a conversation, its mark and name, and what the host is asked for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.contract import host


@dataclass(frozen=True)
class Who:
    """`key` stands in conversations, `mark` beside every answer, for colour alone tells nothing; `role` is a style."""

    key: str
    mark: str
    name: str
    role: str
    source: host.Source


BASE = Who("base", "B", "base", "dim", host.Source(kind="base"))


def adapter(name: str) -> Who:
    """What the run called `name` learned."""
    return Who("adapter", "A", name, "answer", host.Source(kind="adapter"))


MERGED = Who("merged", "M", "merged", "third", host.Source(kind="merged"))


def checkpoint(step: int) -> Who:
    """The run's own weights as they were at `step`."""
    key = f"checkpoint {step}"
    return Who(key, "C", key, "third", host.Source(kind="adapter", checkpoint=step))


def other_run(run: Path, name: str) -> Who:
    """The adapter of another run."""
    return Who(f"run {run.name}", "R", name, "third", host.Source(kind="adapter", run=str(run)))


def known(key: str, name: str) -> Who:
    """A voice of an earlier conversation, for showing what it said; `name` is that of the run."""
    if key in ("base", "adapter", "merged"):
        return {"base": BASE, "adapter": adapter(name), "merged": MERGED}[key]
    mark = "C" if key.startswith("checkpoint ") else "R"
    return Who(key, mark, key, "third", host.Source(kind="adapter"))
