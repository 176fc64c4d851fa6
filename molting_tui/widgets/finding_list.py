"""The doctor's findings as lines, one of them highlighted; those that can be mended by a key say so."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from engine.contract.calls import Finding
from engine.contract.safe import safe
from engine.contract.severity import worst_first

_COLOURS = {"error": "$error", "warning": "$warning", "note": "$muted"}


class FindingList(Static):
    """Shows findings, the worst first, and what stands under them. The highlight stays where the user put it."""

    def __init__(self) -> None:
        super().__init__()
        self.findings: list[Finding] = []
        self._at = 0
        self._moved = False  # by the user; until then the worst is highlighted
        self._below: Content | None = None

    @property
    def highlighted(self) -> Finding | None:
        return self.findings[self._at] if self.findings else None

    def put(self, findings: Sequence[Finding], below: Content | None) -> None:
        """Other findings, and a line to stand under them: the plan, or what is going on."""
        before = self.highlighted
        self.findings, self._below = worst_first(findings), below
        same = [i for i, each in enumerate(self.findings) if before and each.id == before.id]
        self._at = same[0] if same and self._moved else 0
        self._paint()

    def next(self) -> None:
        """Highlight the next one; after the last the first."""
        if self.findings:
            self._moved = True
            self._at = (self._at + 1) % len(self.findings)
            self._paint()

    @property
    def line(self) -> int:
        """The line on which the highlighted finding begins."""
        return sum(1 + bool(finding.remedy) for finding in self.findings[: self._at])

    def _paint(self) -> None:
        lines = [each for i, finding in enumerate(self.findings) for each in _lines(finding, i == self._at)]
        if self._below is not None:
            lines.append(self._below)
        self.update(Content("\n").join(lines))


def _lines(finding: Finding, highlighted: bool) -> list[Content]:
    mark = ("› ", "$accent") if highlighted else "  "
    lines = [Content.assemble(mark, (f"{finding.severity} ", _COLOURS[finding.severity]), safe(finding.message, False))]
    if finding.remedy:
        key = ("  ctrl+y does it", "$accent") if finding.fix and highlighted else ""
        lines.append(Content.assemble(("    try ", "$muted"), safe(finding.remedy, False), key))
    return lines
