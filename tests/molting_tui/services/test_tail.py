"""A run followed by a thread: every message in order, none after stop, whatever happens to the files."""

from __future__ import annotations

import os
import queue
from pathlib import Path
from typing import TypeVar

import pytest
from textual.message import Message

from engine.contract import processes
from molting_tui.services.tail import History, News, Pulse, Reading, RunTail, Trouble
from molting_tui.state.live import LiveRun
from tests.support.live_runs import facts
from tests.support.runs import Recorded, Supervisor, finished_run, make_run, own

M = TypeVar("M", bound=Message)


class Inbox:
    """What the tail posts."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Message] = queue.Queue()

    def post(self, message: Message) -> None:
        self.messages.put(message)

    def next(self, kind: type[M]) -> M:
        while True:
            message = self.messages.get(timeout=20)
            if isinstance(message, kind):
                return message


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def test_history_then_news(tmp_path: Path, inbox: Inbox) -> None:
    run = make_run(tmp_path)
    recorded = Recorded(run).state("queued", "starting").start().state("training").steps(range(1, 21))
    tail = RunTail(run, inbox.post, every=0.02).start()
    try:
        history = inbox.next(History)
        assert history.complete and history.live.step == 20 and history.run_id == run.id
        live = history.live
        recorded.steps([21, 22])
        while live.step < 22:
            inbox.next(News).apply_to(live)
        recorded.state("stopping", "interrupted", "queued", "starting").start(step=10).steps([11])
        while live.step != 11:
            inbox.next(News).apply_to(live)
        assert live.attempt == 2 and len(live.rewound) == 1
    finally:
        tail.stop()
    again = Inbox()
    tail = RunTail(run, again.post).start()
    replayed = again.next(History).live
    tail.stop()
    assert facts(replayed) == facts(live)


def test_a_long_run_is_first_shown_at_a_glance(tmp_path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("molting_tui.services.run_reader.GLANCE_OVER", 1000)
    monkeypatch.setattr("molting_tui.services.tail._PROGRESS_EVERY", 0.0)
    tail = RunTail(finished_run(tmp_path), inbox.post).start()
    glance = inbox.next(History)
    assert not glance.complete and glance.live.step == 100
    assert 0 <= inbox.next(Reading).share <= 1
    whole = inbox.next(History)
    assert whole.complete and whole.live is not glance.live and len(whole.live.steps) == 100
    tail.stop()


def test_a_log_that_was_replaced_gives_a_new_history(tmp_path: Path, inbox: Inbox) -> None:
    run = finished_run(tmp_path)
    tail = RunTail(run, inbox.post, every=0.02).start()
    try:
        assert inbox.next(History).live.step == 100
        path = run.attempt(1).events
        lines = path.read_bytes().splitlines(keepends=True)
        path.with_suffix(".new").write_bytes(b"".join(lines[:20]))
        path.with_suffix(".new").replace(path)
        assert 0 < inbox.next(History).live.step < 100
    finally:
        tail.stop()


def test_a_run_without_a_word_yet_is_an_empty_history(tmp_path: Path, inbox: Inbox) -> None:
    tail = RunTail(make_run(tmp_path), inbox.post).start()
    live = inbox.next(History).live
    tail.stop()
    assert facts(live) == facts(LiveRun())


def test_the_pulse_says_whether_anyone_carries_the_run_on(tmp_path: Path, inbox: Inbox) -> None:
    run = make_run(tmp_path)
    Recorded(run).state("queued", "starting").start().state("training")
    run.attempt(1).heartbeat.touch()
    os.utime(run.attempt(1).heartbeat, (5000, 5000))
    with Supervisor(run) as supervisor:
        own(run, processes.of(supervisor.process.pid))
        tail = RunTail(run, inbox.post).start()
        pulse = inbox.next(Pulse)
        tail.stop()
    assert (pulse.owned, pulse.heartbeat) == (True, 5000.0)


def test_trouble_is_told_once_and_mended_when_it_is_over(
    tmp_path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molting_tui.services.tail._PULSE_EVERY", 0.05)
    run = finished_run(tmp_path)
    path = run.attempt(1).events
    path.rename(path.with_suffix(".kept"))
    os.mkfifo(path)
    tail = RunTail(run, inbox.post, every=0.02).start()
    try:
        assert "plain file" in inbox.next(Trouble).message
        path.unlink()
        path.with_suffix(".kept").rename(path)
        assert inbox.next(History).live.step == 100
        assert not any(isinstance(each, Trouble) for each in list(inbox.messages.queue))
    finally:
        tail.stop()


def test_after_stop_nothing_comes(tmp_path: Path, inbox: Inbox) -> None:
    run = make_run(tmp_path)
    recorded = Recorded(run).state("queued", "starting").start()
    tail = RunTail(run, inbox.post, every=0.01).start()
    inbox.next(History)
    tail.stop()
    count = inbox.messages.qsize()
    recorded.steps([1])
    tail._thread.join(1)
    assert not tail._thread.is_alive() and inbox.messages.qsize() == count


def test_only_the_newest_of_what_is_replaced_counts() -> None:
    assert Reading("a", 0.2).can_replace(Reading("a", 0.1))
    assert not Reading("a", 0.2).can_replace(Reading("b", 0.1))
    assert not News("a", []).can_replace(News("a", []))
