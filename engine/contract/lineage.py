"""What differs between a run's spec and its parent's. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from .safe import safe
from .spec import Spec

_NOT_TOLD = ("name", "parent", "sweep.", "data.date", "model.fingerprint", "model.revision")
_CONTENT = {"data.sha256": "data.train"}  # a run's own copy has the same name whatever is in it
_COPIES = frozenset({"data.train", "data.heldout", "evaluation.probes", "evaluation.ability_probes"})
_LONGEST = 40  # characters of a value


class Difference(NamedTuple):
    """A key of the spec and its two values; those of what is too long to show are None."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        """`method.rank 8 → 16`."""
        if self.before is None and self.after is None:
            return f"{self.key} changed"
        return f"{self.key} {_shown(self.before)} → {_shown(self.after)}"


def differences(before: Spec, after: Spec) -> list[Difference]:
    """What `after` has otherwise than `before`, in the order of the spec's keys."""
    old, new = dict(leaves(msgspec.to_builtins(before))), dict(leaves(msgspec.to_builtins(after)))
    found = []
    for key in new:
        if key.startswith(_NOT_TOLD) or old.get(key) == new[key]:
            continue
        if key in _COPIES:
            if bool(old.get(key)) != bool(new[key]):
                found.append(Difference(key, bool(old.get(key)), bool(new[key])))
        elif key in _CONTENT or max(len(str(old.get(key))), len(str(new[key]))) > _LONGEST:
            found.append(Difference(_CONTENT.get(key, key), None, None))
        else:
            found.append(Difference(key, old.get(key), new[key]))
    return found


def leaves(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of a nested table, dotted, with their values."""
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    if value in ("", None, [], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else safe(str(value), keep_newlines=False)
