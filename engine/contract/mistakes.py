"""What is wrong with a spec beyond the types of its keys. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from . import launcher, sweeps
from .spec import Spec
from .tomllines import KeyPath


def mistakes(spec: Spec) -> Iterator[tuple[KeyPath, str]]:
    """Where, and a sentence, for everything that does not fit together. For `tomlcheck.load`."""
    yield from sweeps.mistakes(spec)
    yield from launcher.mistakes(spec.launcher)
