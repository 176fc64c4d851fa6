from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from molting_tui.state.alerts import Alert
from molting_tui.widgets.alert_lines import rows

LONG = Alert("a", "error", "The run failed: " + "a very long reason, " * 8, "Do this. " * 5)
SHORT = Alert("b", "warning", "The loss rises.", "Stop.")


def said(alerts: list[Alert], width: int, most: int) -> list[str]:
    return [row.plain for row in rows(alerts, width, most)]


def test_what_is_short_has_one_row_with_its_remedy() -> None:
    assert said([SHORT], 80, 4) == [" ! warning  The loss rises.  Stop."]


def test_what_is_long_is_told_to_its_end_where_there_is_room() -> None:
    told = " ".join(" ".join(said([LONG], 80, 9)).split())
    assert told.startswith("✗ error The run failed:") and told.endswith("Do this.")


def test_what_has_no_room_is_counted() -> None:
    assert said([SHORT, SHORT, SHORT], 80, 1) == [" ! warning  The loss rises.  Stop.  +2 more"]
    assert said([SHORT] * 4, 80, 3)[-1].endswith("+2 more")
    assert len(said([SHORT] * 3, 80, 3)) == 3


@given(st.lists(st.sampled_from([LONG, SHORT])), st.integers(40, 200), st.integers(1, 5))
def test_rows_fit(alerts: list[Alert], width: int, most: int) -> None:
    told = rows(alerts, width, most)
    assert len(told) <= most and all(row.cell_length <= width for row in told)
