from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from engine.contract.bench import Benched
from molting_tui.state import bench_view
from tests.support.benches import FAST, PROMPTS, SLOW, row, said, written

HOSTILE = "\x1b[31mred\x07 [bold]x[/bold] \u202eabc ```\n# not a heading | cell"


@pytest.fixture
def found(tmp_path):
    return written(tmp_path)


def column(title):
    return bench_view.TITLES.index(title)


def test_the_table_sorts_by_any_column_and_errors_come_last(found):
    for title, first in (("load", 0), ("tok/s", 1), ("model", 1)):
        number = column(title)
        assert bench_view.ordered(found, number)[0] == first
        assert bench_view.ordered(found, number)[-1] == bench_view.ordered(found, number, reverse=True)[-1] == 2
        assert bench_view.ordered(found, number, reverse=True)[0] == 1 - first
    assert bench_view.ordered(found) == [0, 1, 2]


def test_a_row_shows_what_was_measured_and_an_error_what_went_wrong(found):
    head, fast, slow, lost = bench_view.table(found, [0, 1, 2])
    assert head.split() == bench_view.TITLES
    assert fast.split() == ["demo", "bf16", "deterministic", "1.5", "s", "300", "MB", "50", "100", "1/2"]
    assert slow.split()[:2] == ["big", "nf4"]
    assert "lost" in lost and "no weight files" in lost


def test_long_names_make_room_for_figures(tmp_path):
    long = type(FAST)(model="a-model-with-a-very-long-name-" * 2)
    found = written(tmp_path, Benched(rows=[row(long)], said=[]))
    lines = bench_view.table(found, [0], width=76)
    assert max(map(cell_len, lines)) <= 76
    assert "1/2" in lines[1]


@pytest.mark.parametrize(("width", "beside"), [(30, 1), (76, 2), (118, 3), (200, 5)])
def test_as_many_answers_stand_beside_each_other_as_have_room(width, beside):
    assert len(bench_view.window(range(9), 0, width)) == beside
    for at in range(9):
        assert at in bench_view.window(range(9), at, width)


@given(st.text(max_size=300), st.integers(20, 200))
def test_answers_fit_their_columns_and_say_nothing_to_the_terminal(text, width):
    found = made(text)
    for line in bench_view.answer_lines(found, [0, 0], PROMPTS[0], width):
        shown = "".join(part for part, _ in line)
        assert cell_len(shown) <= width
        assert "\x1b" not in shown and "\u202e" not in shown


def made(text):
    from engine.contract.bench import Bench, Header

    header = Header(t=0.0, sets=["mine"], prompts=PROMPTS, candidates=[FAST])
    return Bench(id="x", path="x", header=header, rows=[row(FAST)], said=said(0, text, text))


def test_code_keeps_its_indentation():
    lines = bench_view.answer_lines(made("def f():\n    return 1"), [0], PROMPTS[0], 60)
    assert "    return 1" in ["".join(part for part, _ in line).rstrip() for line in lines]


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2", "@SUM(A1)", "\t=1", "  =1", "\n=1", "\r=1"])
def test_no_cell_is_a_formula(text):
    rows = list(csv.DictReader(io.StringIO(bench_view.as_csv(made(text), [0]), newline="")))
    assert len(rows) == len(PROMPTS)
    assert not [each["answer"] for each in rows if each["answer"].lstrip().startswith(("=", "+", "-", "@"))]


@given(st.text(max_size=200))
def test_csv_is_read_back_row_by_row(text):
    rows = list(csv.reader(io.StringIO(bench_view.as_csv(made(text), [0]), newline="")))
    assert [len(each) for each in rows] == [len(rows[0])] * (1 + len(PROMPTS))
    assert rows[1][0] == "demo"


def test_csv_has_the_figures_and_the_errors(found):
    rows = list(csv.DictReader(io.StringIO(bench_view.as_csv(found, [2, 0]), newline="")))
    assert [each["model"] for each in rows] == ["org/lost", "org/lost", "demo", "demo"]
    assert rows[0]["error"].startswith("It has no weight") and rows[0]["peak_bytes"] == ""
    assert (rows[2]["tokens_per_second"], rows[2]["peak_bytes"], rows[2]["stop"]) == ("50.00", "300000000", "end")


def test_an_answer_cannot_leave_its_fence_in_markdown():
    text = bench_view.as_markdown(made(HOSTILE + "\n``````\nafter"), [0])
    fences = [line for line in text.splitlines() if line.startswith("`") and set(line.removesuffix("text")) == {"`"}]
    opened = [line for line in fences if line.endswith("text")]
    assert all(len(line.removesuffix("text")) > 6 for line in opened if line != "```text")
    assert "\x1b" not in text and "\u202e" not in text
    assert text.startswith("# Models side by side\n")


def test_markdown_has_all_of_it(found):
    text = bench_view.as_markdown(found, [1, 0, 2])
    assert text.index("| big |") < text.index("| demo |") < text.index("| org/lost |")
    assert "Four, I think." in text and "It has no weight files at all." in text
    assert SLOW.model not in text
