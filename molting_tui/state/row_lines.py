"""A row and a list of rows as lines on a screen. Pure; a style is named by its role, and a mark always goes with it."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len, chop_cells

from engine.contract.rows import Piece, RowLine, RowView, Survey
from engine.contract.safe import safe

from .. import text
from .lines import Line, merged

LEARNED, CUT, PLAIN = "┃", "╳", " "
_SPLITS = {"trained": " ", "held out": "◇", "dropped": "✗"}
_MOST = 20_000  # characters of a row that are painted


def row_lines(view: RowView, width: int) -> list[Line]:
    """The whole pane of one row: numbers, findings, then the text as the model sees it."""
    lines: list[Line] = [*_facts(view, width)]
    for finding in view.findings:
        for i, said in enumerate(text.wrap(safe(finding.message, False), width - 9)):
            lines.append([(f"{finding.severity if not i else '':<9}", finding.severity), (said, "")])
        for said in text.wrap(safe(finding.remedy, False), width - 9) if finding.remedy else []:
            lines.append([(" " * 9, ""), (said, "dim")])
    lines.append([])
    if view.pieces:
        return lines + _flow(view.pieces, width)
    for role, said in view.turns:
        lines.append([(role, "dim")])
        lines += [[("  ", ""), (line, "")] for line in text.wrap(_shown(said[:_MOST]), width - 2)]
    return lines


def _facts(view: RowView, width: int) -> list[Line]:
    name = f"row {view.number + 1:,}" if view.number >= 0 else "this row"
    mark = _SPLITS[view.split].strip()
    lines: list[Line] = [[(name, "bold"), (f"  {mark} {view.split}" if mark else f"  {view.split}", "dim")]]
    if not view.pieces:
        return [*lines, [(f"{view.length:,} characters", "dim")]] if view.turns else lines
    roles = ", ".join(f"{count:,} {role}" for role, count in view.tokens.items())
    share = text.percent(view.learned / max(1, view.length))
    said = f"{view.length:,} tokens: {roles}. {LEARNED} learned {view.learned:,} ({share})"
    said += f", {CUT} cut off {view.lost:,}" if view.lost else ""
    return [*lines, *([(line, "dim")] for line in text.wrap(said, width))]


def _flow(pieces: Iterable[Piece], width: int) -> list[Line]:
    """The text in rows behind a gutter, in which a mark tells learned and cut rows even without colours."""
    room = max(4, width - 2)
    lines: list[Line] = []
    line: Line = []
    used, left = 0, _MOST

    def end() -> None:
        nonlocal line, used
        roles = {role for _, role in line}
        mark = CUT if "cut" in roles else LEARNED if "learned" in roles or "learned-special" in roles else PLAIN
        lines.append([(mark, "learned" if mark == LEARNED else "cut"), (" ", ""), *merged(line)])
        line, used = [], 0

    for piece in pieces:
        for part in _parts(_shown(piece.text[:left])):
            size = cell_len(part)
            if part == "\n":
                line.append(("↵", "dim"))
                end()
                continue
            if used and used + size > room:
                end()
            while size > room:
                head = chop_cells(part, room)[0]
                line.append((head, _style(piece)))
                part, size = part[len(head) :], cell_len(part[len(head) :])
                end()
            line.append((part, _style(piece)))
            used += size
        left -= len(piece.text)
        if left <= 0:
            line.append(("…", "dim"))
            break
    if line:
        end()
    return lines


def _parts(shown: str) -> list[str]:
    """Words with the spaces behind them, and line breaks."""
    parts: list[str] = []
    for i, paragraph in enumerate(shown.split("\n")):
        parts += ["\n"] if i else []
        words = paragraph.split(" ")
        parts += [f"{word} " for word in words[:-1]] + ([words[-1]] if words[-1] else [])
    return parts


def _style(piece: Piece) -> str:
    if piece.cut:
        return "cut"
    if piece.special:
        return "learned-special" if piece.learned else "special"
    return "learned" if piece.learned else "dim"


def _shown(said: str) -> str:
    return safe(said).replace("\t", "    ")


def list_line(row: RowLine, width: int, unit: str, *, changed: bool = False) -> Line:
    """A row in the list: mark, number, what is asked and answered, length."""
    number = f"{row.number + 1:>6,}"
    length = f"{row.length:>6,}{'!' if row.lost else ' '}"
    room = max(4, width - len(number) - len(length) - 5)
    head = [("+" if changed else " ", "match" if changed else ""), (_SPLITS[row.split], "note"), (number + " ", "dim")]
    if row.why:
        return [*head, (text.fit(safe(row.why, False), room), "error"), ("  ", ""), (length, "dim")]
    asked, answer = _one_line(row.prompt), _one_line(row.answer)
    first = min(cell_len(asked), room * 2 // 5 if answer else room)
    left = text.fit(asked, first)
    rest = room - first - (2 if asked else 0)
    return [*head, (left, ""), ("  " if asked else "", ""), (text.fit(answer, max(0, rest)), "answer"),
            ("  ", ""), (length, "dim")]  # fmt: skip


def _one_line(said: str) -> str:
    return safe(" ".join(said[:400].split()), False)


def survey_lines(survey: Survey, width: int) -> list[Line]:
    """All rows together: where they go, how long they are."""
    dropped = sum(survey.dropped.values())
    lines: list[Line] = [[("all rows", "bold")]]
    said = f"{survey.rows:,} rows: {survey.trained:,} trained, ◇ {survey.heldout:,} held out, ✗ {dropped:,} dropped"
    lines += [[(line, "")] for line in text.wrap(said, width)]
    for why, count in sorted(survey.dropped.items(), key=lambda item: -item[1]):
        lines.append([(text.fit(f"✗ {count:,} {safe(why, False)}", width), "error")])
    if survey.measured:
        of = f" of the first {survey.measured:,} rows" if survey.measured < survey.rows else ""
        said = f"{survey.length:,} {survey.unit}{of}, {survey.length / survey.measured:,.0f} a row"
        if survey.unit == "tokens":
            said += f", {text.percent(survey.learned / max(1, survey.length))} learned, {survey.truncated:,} rows cut"
        lines += [[(line, "")] for line in text.wrap(said, width)]
    lines += [[]]
    most = max((bar.count for bar in survey.bars), default=0)
    labels = [f"{bar.low:,}–{bar.high:,}" for bar in survey.bars]
    wide = max(map(len, labels), default=0)
    for label, bar in zip(labels, survey.bars, strict=True):
        cells = round(bar.count / most * max(1, width - wide - 10)) if most else 0
        lines.append([(f"{label:>{wide}} ", "dim"), ("█" * max(cells, int(bar.count > 0)), "answer"),
                      (f" {bar.count:,}", "dim")])  # fmt: skip
    for finding in survey.findings:
        rows = ", ".join(map(str, finding.rows[:5])) + (" …" if len(finding.rows) > 5 else "")
        said = f"{safe(finding.message, False)} [rows {rows}]"
        for i, line in enumerate(text.wrap(said, width - 9)):
            lines.append([(f"{finding.severity if not i else '':<9}", finding.severity), (line, "")])
    return lines
