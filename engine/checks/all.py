"""Every check that looks at a spec before it is trained, the cheapest kinds first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.contract.calls import Finding
from engine.contract.severity import worst_first

from . import answers, content, data, facts, questions, room, rope, steps, targets, template
from .case import Case, Check

GROUPS: dict[str, Sequence[Check]] = {
    "learning targets": targets.CHECKS,
    "template and prompt": template.CHECKS,
    "context": rope.CHECKS,
    "step plan": steps.CHECKS,
    "questions": questions.CHECKS,
    "rows": data.CHECKS,
    "answers": answers.CHECKS,
    "content": content.CHECKS,
    "facts": facts.CHECKS,
    "room": room.CHECKS,
}


def find(case: Case) -> Iterator[Finding]:
    """What each check finds, as it is found."""
    for checks in GROUPS.values():
        for check in checks:
            yield from check(case)


def findings(case: Case) -> list[Finding]:
    """What all checks find, errors first."""
    return worst_first(find(case))
