"""Pure text: cell widths, wrapping, two columns, numbers and times as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest

from rich.cells import cell_len, chop_cells, set_cell_size

DASH = "–"


def wrap(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` cells, broken at spaces where possible; never empty."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines += _wrap_paragraph(paragraph, max(2, width))
    return lines


def _wrap_paragraph(paragraph: str, width: int) -> list[str]:
    lines, line = [], ""
    for word in paragraph.split():
        joined = f"{line} {word}" if line else word
        if cell_len(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *full, line = chop_cells(word, width) or [""]
        lines += full
    return [*lines, line]


def fit(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` in exactly `width` cells, cut with an ellipsis where it is longer."""
    if cell_len(text) > width:
        keep = max(0, width - cell_len(ellipsis))
        text = set_cell_size(text, keep) + ellipsis
    return set_cell_size(text, width)


def columns(left: list[str], right: list[str], width: int, rule: str = "│") -> Iterator[str]:
    """Two columns of lines beside each other in `width` cells; the lines must fit `column_width(width)`."""
    half = column_width(width)
    for a, b in zip_longest(left, right, fillvalue=""):
        yield f"{set_cell_size(a, half)} {rule} {b}".rstrip()


def column_width(width: int) -> int:
    """Cells that each of two columns has in `width`."""
    return max(2, (width - 3) // 2)


def table(rows: Iterable[list[str]], right: frozenset[int] = frozenset()) -> Iterator[str]:
    """Lines of a table as wide as its cells; the columns in `right` are aligned right. Empty ones vanish."""
    cells = list(rows)
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        fitted = enumerate(zip(row, widths, strict=True))
        padded = (_pad(cell, width, i in right) for i, (cell, width) in fitted if width or not i)
        yield "  ".join(padded).rstrip()


def _pad(cell: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(cell))
    return space + cell if right else cell + space


def number(value: float | None) -> str:
    """At most three significant digits; a dash for what is not known."""
    if value is None:
        return DASH
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def short(value: float | None, width: int = 5) -> str:
    """`number` in at most `width` cells, five or more, with fewer digits where it needs more."""
    if value is None:
        return DASH
    forms = (number(value), f"{value:.2g}", f"{value:.1g}")
    return next((form for form in forms if len(form) <= width), f"{value:.0e}")


def clock(seconds: float | None) -> str:
    """A duration as `1:04:12` or `0:41`."""
    if seconds is None:
        return DASH
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def age(seconds: float | None) -> str:
    """How long ago, in the largest unit that fits: `3 h`."""
    if seconds is None:
        return DASH
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def size(count: float) -> str:
    """Bytes as `27 MB` (powers of 1000) in at most three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def fine_percent(share: float) -> str:
    """`0.057 %`, `4.2 %`, `34 %`."""
    return f"{share * 100:.2g} %" if share < 0.1 else percent(share)


def plural(count: int, one: str, many: str = "") -> str:
    """`1 row`, `1,200 rows`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def bar(share: float, width: int, full: str, empty: str) -> str:
    """A bar of `width` cells, `share` of it full."""
    filled = round(min(1.0, max(0.0, share)) * width)
    return full * filled + empty * (width - filled)
