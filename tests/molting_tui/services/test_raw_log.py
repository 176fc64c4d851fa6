"""The end of what the engine printed."""

from __future__ import annotations

from pathlib import Path

from molting_tui.services import raw_log
from tests.support.runs import finished_run, make_run


def test_the_last_lines_without_progress_bars_and_escapes(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    traceback = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: \x1b[31mred\x1b[0m\n'
    run.attempt(1).log.write_text("early\n" * 40_000 + "  1%\r 50%\r100%\r\n" + traceback)
    lines = raw_log.last_lines(run)
    assert lines[-3:-1] == ["Traceback (most recent call last):", '  File "x.py", line 1'] and lines[-4] == "100%"
    assert "ValueError" in lines[-1] and "\x1b" not in lines[-1]
    assert 1_000 < len(lines) < 15_000 and set(lines[:-4]) == {"early"}


def test_nothing_printed_is_nothing(tmp_path: Path) -> None:
    assert raw_log.last_lines(make_run(tmp_path)) == []
