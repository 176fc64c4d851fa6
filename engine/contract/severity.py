"""How bad what was found is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol, TypeVar, get_args

Severity = Literal["error", "warning", "note"]
_ORDER: tuple[Severity, ...] = get_args(Severity)


class _Found(Protocol):
    @property
    def severity(self) -> Severity: ...


F = TypeVar("F", bound=_Found)


def worst_first(found: Iterable[F]) -> list[F]:
    """Errors, warnings, notes; within each in the order in which they were found."""
    return sorted(found, key=lambda each: _ORDER.index(each.severity))
