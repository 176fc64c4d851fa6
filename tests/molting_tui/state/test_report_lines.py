"""A report on a screen: the same words, without the signs of Markdown, in any width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from molting_tui.state.report_lines import report_lines

REPORT = """# c7: report

**Better: +2.63 points \\*of\\* 10**

| question | D1 | points |
| --- | ---: | ---: |
| Q1 Quem \\| é o João? | 1 | 4 of 10 |

- one thing
*a caption*

> ```text
> ``** not bold **``
> # no heading
> ```

    molting report c7

<!-- notes: yours -->
"""


def shown(width: int, text: str = REPORT) -> list[str]:
    return ["".join(said for said, _ in line) for line in report_lines(text, width)]


def test_what_is_written_is_shown_without_its_signs() -> None:
    lines = shown(80)
    assert "c7: report" in lines and "Better: +2.63 points *of* 10" in lines
    head = next(line for line in lines if line.split() == ["question", "D1", "points"])
    assert lines[lines.index(head) + 1] == "Q1 Quem | é o João?   1  4 of 10"
    assert "· one thing" in lines and "a caption" in lines
    assert "  ``** not bold **``" in lines and "  # no heading" in lines  # verbatim is verbatim
    assert "  molting report c7" in lines
    assert not any("notes: yours" in line or line == "text" for line in lines)


@pytest.mark.parametrize("width", [20, 40, 80])
def test_it_fits(width: int) -> None:
    assert all(cell_len(line) <= width for line in shown(width))
    assert "João?" in " ".join(shown(width)), "a cell that is too wide is wrapped, not cut"


@given(st.text(st.sampled_from("|`#>*-\\ \nab\x1b\u202e界"), max_size=120), st.integers(10, 60))
def test_any_text_is_shown(text: str, width: int) -> None:
    for line in shown(width, text):
        assert not set("\x1b\u202e") & set(line)
