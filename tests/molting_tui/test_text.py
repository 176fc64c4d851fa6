"""Cell widths, wrapping, columns, and numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from molting_tui import text

WORDS = st.text(alphabet=st.sampled_from("ab é漢字🙂\n"), max_size=120)


@given(said=WORDS, width=st.integers(2, 40))
def test_wrapped_lines_fit_and_nothing_is_lost(said: str, width: int) -> None:
    lines = text.wrap(said, width)
    assert lines and all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(said.split())


def test_wide_characters_count_two_cells() -> None:
    assert text.wrap("漢字漢字", 4) == ["漢字", "漢字"]
    assert text.wrap("who are you", 7) == ["who are", "you"]


@given(left=WORDS, right=WORDS, width=st.integers(7, 90))
def test_the_divider_of_two_columns_stands_in_one_place(left: str, right: str, width: int) -> None:
    half = text.column_width(width)
    lines = list(text.columns(text.wrap(left, half), text.wrap(right, half), width))
    assert all(cell_len(line) <= width for line in lines)
    assert {cell_len(line.partition("│")[0]) for line in lines} == {half + 1}


@given(said=WORDS.map(lambda said: said.replace("\n", "")), width=st.integers(1, 30))
def test_fit_gives_exactly_the_width(said: str, width: int) -> None:
    assert cell_len(text.fit(said, width)) == width


def test_table_aligns_by_cells() -> None:
    lines = list(text.table([["name", "n"], ["漢字漢", "10"], ["a", "2"]], frozenset({1})))
    assert lines == ["name     n", "漢字漢  10", "a        2"]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (41, "0:41"), (3852, "1:04:12"), (None, "–"), (59.7, "1:00")]
)
def test_clock(seconds: float | None, shown: str) -> None:
    assert text.clock(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(5, "5 s"), (60, "1 min"), (3 * 3600, "3 h"), (2e5, "2 d"), (None, "–")]
)
def test_age(seconds: float | None, shown: str) -> None:
    assert text.age(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.3149, "0.315"), (1.9, "1.9"), (12345.6, "12,346"), (0.0, "0"), (8.1e-4, "0.00081")],
)
def test_number(value: float | None, shown: str) -> None:
    assert text.number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (1.5, "1.5"),
        (0.694, "0.694"),
        (0.0635, "0.064"),
        (0.00123, "0.001"),
        (1.2e-5, "1e-05"),
        (1234.5, "1,234"),
        (12345.0, "1e+04"),
        (float("nan"), "nan"),
    ],
)
def test_a_number_in_a_narrow_column(value: float | None, shown: str) -> None:
    assert text.short(value) == shown


@given(st.floats(min_value=1e-90, max_value=1e90))
def test_no_number_is_cut(value: float) -> None:
    assert len(text.short(value)) <= 5
    assert float(text.short(value).replace(",", "")) == pytest.approx(value, rel=0.5)


def test_size_bar_plural() -> None:
    assert (text.size(0), text.size(27_300_000), text.size(4e12)) == ("0 B", "27.3 MB", "4 TB")
    assert text.bar(0.5, 4, "#", ".") == "##.." and text.bar(9, 4, "#", ".") == "####"
    assert (text.plural(1, "row"), text.plural(1200, "row")) == ("1 row", "1,200 rows")
