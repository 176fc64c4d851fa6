from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color

from molting_tui.harmless import Ascii, Harmless

GROUND = Color(0, 0, 0)
BAD = "\x1b\x07\x00\x7f\x9b\x85\u202e\u2066\u200f\u2028"


def passed(filter_, text: str) -> str:  # type: ignore[no-untyped-def]
    return "".join(segment.text for segment in filter_.apply([Segment(text)], GROUND))


def test_what_a_terminal_obeys_is_deleted() -> None:
    assert passed(Harmless(), f"a{BAD}b\x1b]52;c;aGk=\x07") == "ab]52;c;aGk="


def test_plain_text_is_not_even_copied() -> None:
    segments = [Segment("loss 0.31 ↓ é 日本"), Segment("")]
    assert Harmless().apply(segments, GROUND) is segments


@given(st.text())
def test_nothing_harmful_passes(text: str) -> None:
    assert not set(passed(Harmless(), text)) & set(BAD)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf", "Mn", "Me", "Mc"])))
def test_ascii_keeps_every_cell_where_it_was(text: str) -> None:
    spelled = passed(Ascii(), text)
    assert spelled.isascii()
    assert cell_len(spelled) == cell_len(text)


def test_our_signs_are_spelled_as_the_visual_language_says() -> None:
    assert passed(Ascii(), "●◌◐✓■✗ é 日 │─ █▁") == "*o+v#x e ?? |- #_"
