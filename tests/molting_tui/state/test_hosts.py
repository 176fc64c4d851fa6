from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.summary import Summary
from molting_tui.commands.runs import changes
from molting_tui.services.host_watch import _News, _take
from molting_tui.state.hosts import Standing, away_line, key, split
from molting_tui.state.run_list import Ended, RunList
from molting_tui.widgets.run_table import COLUMNS, fitting


def run(run_id: str, state: str = "training", **more: object) -> Summary:
    return Summary(id=run_id, path="/runs/x", name="rhea", state=state, **more)  # type: ignore[arg-type]


def test_a_run_of_another_machine_has_a_name_of_its_own_and_leads_to_no_path_here() -> None:
    said = run("rhea-1", step=3, trend=[1.0, None], owned=True)
    news = _News()
    _take(msgspec.json.encode({"run": changes(said)}), "me@box", news)
    (seen,) = news.changed.values()
    assert split(seen.id) == ("me@box", "rhea-1") and split("rhea-1") == ("", "rhea-1")
    assert seen.path == "me@box:/runs/x" and seen.step == 3 and seen.trend == [1.0, None] and seen.owned


@given(st.binary(max_size=200))
def test_no_line_of_another_machine_does_harm(line: bytes) -> None:
    news = _News()
    _take(line, "box", news)
    assert all(split(each)[0] == "box" for each in news.changed)


def test_ids_that_would_lead_elsewhere_and_hidden_characters_are_not_taken() -> None:
    news = _News()
    for bad in ("../../etc", "a/b", "", "x" * 300, "-rf", "a:b"):
        _take(msgspec.json.encode({"run": {"id": bad, "path": "/", "name": "n", "state": "lost"}}), "box", news)
    _take(b"[" * 100_000, "box", news)
    _take(b'{"run": {"id": "a", "path": "/", "name": "n", "state": "novel"}}', "box", news)
    assert not news.changed
    _take(b'{"run": {"id": "a", "path": "/\\u001b]52", "name": "n", "state": "lost", "new key": 1}}', "box", news)
    assert "\x1b" not in news.changed["box:a"].path


def test_the_list_holds_runs_of_both_machines_and_actions_find_their_own() -> None:
    runs = RunList()
    runs.update([run("rhea-1", "finished", started=1.0)])
    there = key("box", "rhea-1")
    assert runs.update_host("box", Standing(read=True), [run(there, started=2.0)], []) == []
    assert runs.rows() == [there, "rhea-1"]
    assert [each.id for each in runs.live()] == []  # the header tells of this machine
    runs.query = "box"
    assert runs.rows() == [there]
    (news,) = runs.update_host("box", Standing(read=True), [run(there, "finished")], [])
    assert isinstance(news, Ended) and news.name == "rhea on box"
    runs.update_host("box", Standing(since=0.0, why="gone"), [], [there])
    assert runs.rows() == [] and "box is away since" in away_line(runs.hosts) and "gone" in away_line(runs.hosts)
    runs.leave_hosts()
    assert not runs.hosts and away_line(runs.hosts) == ""


def test_the_column_of_the_host_is_there_only_for_several() -> None:
    titles = [column.title for column in fitting(120)[1]]
    assert "host" not in titles and "host" in [column.title for column in fitting(120, hosts=True)[1]]
    assert COLUMNS[0].cell(run(key("box", "a"))) == "box" and COLUMNS[0].cell(run("a")) == "–"
