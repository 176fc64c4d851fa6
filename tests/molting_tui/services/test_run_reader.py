"""Reading a run at a glance, whole, and as it grows."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest

from engine.contract import events
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from molting_tui.services import run_reader
from molting_tui.services.run_reader import RunReader, apply, decode
from molting_tui.state.live import LiveRun
from molting_tui.state.records import Metrics
from tests.support.live_runs import facts, metric, rows
from tests.support.runs import T0, Recorded, finished_run, make_run


def resumed_run(runs: Path) -> RunDir:
    run = make_run(runs)
    recorded = Recorded(run).state("queued", "starting").start().state("training")
    recorded.steps(range(1, 41)).checkpoint(30).steps(range(41, 61)).state("failed", reason="killed", why="It died.")
    recorded.state("queued", "starting").start(step=30).state("training").steps(range(31, 71))
    return run


def long_run(runs: Path, steps: int = 30_000) -> tuple[RunDir, Recorded]:
    run = make_run(runs)
    recorded = Recorded(run).state("queued", "starting").start(steps=steps).state("training")
    lines = []
    for step in range(1, steps + 1):
        event = metric(step, 0.5 + math.exp(-step / steps * 5))
        event.t = T0 + step
        lines.append(events.encode(event))
    recorded.raw(b"".join(lines))
    return run, recorded


def test_the_history_is_what_reading_along_gives(tmp_path: Path) -> None:
    whole = resumed_run(tmp_path / "whole")
    growing = make_run(tmp_path / "growing")
    reader, along = RunReader(growing), LiveRun()
    # Any prefix may be on the disk when it is looked at: lines come one by one, in the order of their times.
    parts = [(f"attempts/{n}/events.jsonl", whole.attempt(n).events) for n in (1, 2)]
    parts.append(("lifecycle.jsonl", whole.lifecycle))
    lines = [(name, line) for name, path in parts for line in path.read_bytes().splitlines(keepends=True)]
    for name, line in sorted(lines, key=lambda each: float(each[1].split(b'"t":')[1].split(b",")[0].rstrip(b"}\n"))):
        (growing.path / name).parent.mkdir(parents=True, exist_ok=True)
        with (growing.path / name).open("ab") as file:
            file.write(line)
        for batch in reader.read():
            apply(along, batch)
    history = RunReader(whole).history()
    assert facts(along) == facts(history)
    assert (history.attempt, history.step, history.state) == (2, 70, "training")
    assert len(history.rewound) == 1


def test_a_finished_run_is_told_in_order(tmp_path: Path) -> None:
    live = RunReader(finished_run(tmp_path)).history()
    kinds = [line.kind for line in live.log]
    assert kinds == [
        *("queued", "starting", "rows", "start", "training", "phase", "eval", "sample", "checkpoint"),
        *("eval", "end", "finished"),
    ]
    assert live.state == "finished" and live.step == 100 and list(live.samples) == ["Who are you?"]


def test_metrics_in_a_row_are_read_as_columns_and_damage_among_them_is_counted() -> None:
    lines = [events.encode(metric(step)).rstrip(b"\n") for step in range(1, 41)]
    found, unreadable = decode(lines)
    assert [type(each) for each in found] == [Metrics] and unreadable == 0
    lines[20] = lines[20][:-9]
    found, unreadable = decode(lines)
    assert [each.step for each in found] == [*range(1, 21), *range(22, 41)] and unreadable == 1
    lines[20] = b'{"k":"log","message":"x"}'
    found, _ = decode(lines)
    assert [type(each) for each in found] == [Metrics, events.Log, Metrics]


def test_metrics_of_a_newer_version_are_left_out() -> None:
    lines = [events.encode(metric(step)).replace(b'"v":1', b'"v":2').rstrip(b"\n") for step in range(1, 41)]
    assert decode(lines) == ([], 40)


def test_damage_is_told_with_its_place(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    recorded = Recorded(run).state("queued", "starting").start().steps(range(1, 21))
    recorded.raw(b'\xff\xfenonsense\n{"k":"metric","step":"x"}\n\0\0\n').steps(range(21, 31))
    live = RunReader(run).history()
    assert live.damaged == 3 and live.step == 30
    assert live.log[-1].kind == "damage" and "3 lines" in live.log[-1].text


def test_a_torn_tail_waits(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    recorded = Recorded(run).state("queued", "starting").start().raw(b'{"k":"log","mess')
    reader = RunReader(run)
    live = reader.history()
    recorded.raw(b'age":"whole now"}\n')
    for batch in reader.read():
        apply(live, batch)
    assert live.damaged == 0 and live.log[-1].text == "whole now"


def test_a_damaged_lifecycle_does_not_hide_an_attempt(tmp_path: Path) -> None:
    run = resumed_run(tmp_path)
    lines = run.lifecycle.read_bytes().splitlines(keepends=True)
    run.lifecycle.write_bytes(b"".join(line for line in lines if b'"attempt":2' not in line))
    assert RunReader(run).history().step == 70


def test_a_long_run_is_seen_whole_at_a_glance(tmp_path: Path) -> None:
    run, _ = long_run(tmp_path)
    seen = RunReader(run).glance()
    assert seen is not None
    steps = seen.steps.axes["step"]
    assert (seen.step, seen.max_steps, seen.state) == (30_000, 30_000, "training")
    assert seen.damaged == 0  # a piece of the log begins within a line
    assert len(steps) < 10_000 and max(b - a for a, b in pairwise(steps)) < 300
    history = RunReader(run).history()
    assert len(history.steps) == 30_000
    known = set(rows(history.steps))
    # All but the rate, which needs the step before.
    assert {row.rsplit(",", 1)[0] for row in rows(seen.steps)} <= {row.rsplit(",", 1)[0] for row in known}


def test_a_short_run_needs_no_glance(tmp_path: Path) -> None:
    assert RunReader(finished_run(tmp_path)).glance() is None


def test_the_history_can_be_given_up(tmp_path: Path) -> None:
    run, _ = long_run(tmp_path)
    live = RunReader(run).history(lambda share: share == 0)
    assert 0 < len(live.steps) < 30_000


@pytest.mark.parametrize("damage", ["truncated", "replaced"])
def test_a_log_that_was_replaced_begins_anew(tmp_path: Path, damage: str) -> None:
    run, _ = long_run(tmp_path, 500)
    reader = RunReader(run)
    reader.history()
    list(reader.read())
    assert not reader.restarted
    path = run.attempt(1).events
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    else:
        path.rename(path.with_suffix(".old"))
        path.write_bytes(b"")
    list(reader.read())
    assert reader.restarted


def test_a_link_in_place_of_a_log_is_refused(tmp_path: Path) -> None:
    run, _ = long_run(tmp_path, 20)
    path = run.attempt(1).events
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MoltingError, match="cannot be read"):
        RunReader(run).history()


def test_memory_stays_bounded_by_blocks(tmp_path: Path) -> None:
    run, _ = long_run(tmp_path)
    sizes = [len(batch) for batch in RunReader(run).read()]
    size = run.attempt(1).events.stat().st_size
    assert len(sizes) >= size >> 20
    assert size > run_reader.GLANCE_OVER


def test_a_block_is_read_whole_only_where_all_of_it_is_sound() -> None:
    lines = [events.encode(metric(step)).rstrip(b"\n") for step in range(1, 5)]
    log = events.encode(events.Log(message="x")).rstrip(b"\n")
    whole = run_reader._decode_block(b"\n".join([*lines[:2], log, *lines[2:]]))
    assert whole is not None and [type(each) for each in whole] == [Metrics, events.Log, Metrics]
    for bad in (lines[0][:-3], lines[0] + lines[1], b"", b'{"k":"later"}', log.replace(b'"v":1', b'"v":9'), b"\0"):
        assert run_reader._decode_block(b"\n".join([lines[0], bad, lines[1]])) is None
