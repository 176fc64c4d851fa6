"""The table of docs/scale.md is what the forecast says today, of shapes that are those of real models."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import sizing

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
PARAMETERS = {"Llama 3.2 1B": 1.236, "Llama 3.2 3B": 3.213, "Llama 3.1 8B": 8.030, "Llama 3.1 70B": 70.55}  # 10^9


def test_the_table_of_the_page_is_computed() -> None:
    shown = PAGE.read_text("utf-8").partition("<!-- sizing -->\n")[2].partition("<!-- /sizing -->")[0]
    assert shown.splitlines() == list(sizing.table()), "`python benchmarks/sizing.py` prints it"


@pytest.mark.parametrize(
    "shape", [each for each in sizing.SHAPES if each.name in PARAMETERS], ids=lambda each: each.name
)
def test_shapes_have_the_parameters_of_the_real_models(shape: sizing.Shape) -> None:
    assert sizing.sizes_of(shape).numbers / 1e9 == pytest.approx(PARAMETERS[shape.name], rel=0.002)


def test_more_cards_never_need_more_of_each() -> None:
    for shape in sizing.SHAPES:
        needs = [sizing.needed(shape, "lora", cards, True).peak for cards in (2, 4, 8, 16)]
        assert needs == sorted(needs, reverse=True)
        assert needs[0] < sizing.needed(shape, "lora", 1, False).peak
