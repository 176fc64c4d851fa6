"""Findings of the doctor as they are shown, and their mechanical remedies as changes of a spec. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from engine.contract.calls import Change, Finding
from engine.contract.severity import worst_first

from .spec_form import Field, SpecForm, fields, shown


def changes(findings: Iterable[Finding]) -> list[Change]:
    """What would mend all of them. Of two changes of one key the larger number wins, else that of the worse finding."""
    chosen: dict[str, Change] = {}
    for finding in worst_first(findings):
        for change in finding.fix:
            other = chosen.get(change.key)
            if other is None or (_number(change.value) and _number(other.value) and change.value > other.value):
                chosen[change.key] = change
    return list(chosen.values())


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def apply(form: SpecForm, wanted: Sequence[Change]) -> list[str]:
    """Make the changes in a form; the keys that were changed. Keys that no spec has are passed over."""
    known: dict[str, Field] = {field.key: field for field in fields()}
    made = [change for change in wanted if change.key in known]
    for change in made:
        form.put(known[change.key], shown(change.value))
        if change.key == "data.system":
            form.put(known["data.system_file"], "")
    return [change.key for change in made]


def diff(before: str, after: str, name: str) -> list[str]:
    """The lines of a unified diff, without their newlines."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), name, f"{name}, mended", lineterm="", n=1)
    return list(lines)
