"""Following a run: everything once, in order, whether it is replayed or read as it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.contract import events
from engine.contract.errors import MoltingError
from engine.contract.lifecycle import Transition
from molting_tui.services.follow import Damage, Follower, Seen
from tests.support.runs import Recorded, Supervisor, finished_run, make_run


def kinds(seen: list[Seen]) -> list[Any]:
    return [each.what.state if isinstance(each.what, Transition) else type(each.what).__name__ for each in seen]


def test_a_replay_puts_events_before_the_end_of_their_attempt(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    recorded = Recorded(run).state("queued", "starting").start().state("training").steps([1])
    recorded.state("stopping", "interrupted", "queued", "starting").start(step=1).state("training").steps([2])
    recorded.say(events.End(step=2, outcome="finished")).state("finished")
    with Follower(run) as follower:
        seen = follower.poll()
        assert follower.poll() == [] and follower.stored == "finished"
    first = ["queued", "starting", "Start", "training", "Metric", "stopping", "interrupted"]
    assert kinds(seen) == [*first, "queued", "starting", "Start", "training", "Metric", "End", "finished"]
    assert [each.attempt for each in seen] == [1] * 7 + [2] * 7


def test_reading_along_gives_the_same_as_a_replay(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    recorded = Recorded(run)
    with Follower(run) as live:
        seen = live.poll()
        recorded.state("queued", "starting")
        seen += live.poll()
        recorded.start().state("training")
        seen += live.poll()
        recorded.steps([1, 2]).state("stopping")
        seen += live.poll()
        recorded.steps([3]).state("interrupted")
        seen += live.poll()
    with Follower(run) as replay:
        again = replay.poll()
    assert seen == again
    events_seen = [each.what.seq for each in seen if isinstance(each.what, events.Event)]
    assert events_seen == sorted(events_seen)
    assert kinds(seen)[-1] == "interrupted"


def test_damage_is_counted_once_and_a_torn_tail_is_not_damage(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    recorded = Recorded(run).state("queued", "starting").start()
    recorded.raw(b"nonsense\n\xff\xfe\n").raw(b'{"k":"log","mess')
    with Follower(run) as follower:
        damage = [each.what for each in follower.poll() if isinstance(each.what, Damage)]
        assert damage == [Damage(2, str(run.attempt(1).events))]
        recorded.raw(b'age":"whole now"}\n')
        assert kinds(follower.poll()) == ["Log"]


def test_a_newer_log_is_damage_not_a_crash(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    Recorded(run).state("queued").raw(b'{"k":"metric","v":9}\n').raw(b'{"k":"unheard-of","v":1}\n')
    with Follower(run) as follower:
        assert kinds(follower.poll()) == ["queued", "Damage"]


def test_a_symlink_in_place_of_a_log_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.lifecycle.symlink_to("/dev/zero")
    with Follower(run) as follower, pytest.raises(MoltingError, match="lifecycle"):
        follower.poll()


def test_owned(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    with Follower(run) as follower:
        assert follower.owned() is False
        with Supervisor(run):
            assert follower.owned() is True
