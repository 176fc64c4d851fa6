from __future__ import annotations

from typing import Any

import pytest

from engine.contract.summary import Summary
from molting_tui.state.run_list import RunList, sentence
from molting_tui.state.view import View


def run(run_id: str, state: str = "finished", **more: Any) -> Summary:
    return Summary(id=run_id, path=f"/runs/{run_id}", name=more.pop("name", run_id), state=state, **more)  # type: ignore[arg-type]


def runs(*found: Summary, **view: Any) -> RunList:
    made = RunList(view=View(**view))
    made.listed(each.id for each in found)
    made.update(found)
    return made


def test_live_runs_come_first_and_the_newest_before_the_oldest() -> None:
    listed = runs(
        run("old", started=1.0),
        run("new", started=9.0),
        run("waits", "queued", started=2.0),
        run("learns", "training", started=1.0),
    )
    assert listed.rows() == ["learns", "waits", "new", "old"]


def test_pinned_runs_stand_above_all_and_archived_ones_are_hidden() -> None:
    listed = runs(run("a", started=1.0), run("b", "training", started=2.0), run("c"), pinned=["a"], archived=["c"])
    assert listed.rows() == ["a", "b"]
    listed.archived = True
    assert "c" in listed.rows()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["a-1", "b-2"]),
        ("RHEA", ["a-1"]),
        ("failed oom", ["b-2"]),
        ("-failed", ["a-1"]),
        ("lora smol", ["a-1", "b-2"]),
        ("rhea failed", []),
        ("-", ["a-1", "b-2"]),
    ],
)
def test_every_word_of_the_filter_counts(query: str, found: list[str]) -> None:
    listed = runs(
        run("a-1", name="rhea", base="x/SmolLM2", method="qlora"),
        run("b-2", "failed", reason="oom_cuda", base="x/SmolLM2", method="lora"),
    )
    listed.query = query
    assert sorted(listed.rows()) == found


def test_what_is_not_known_sorts_last_in_both_directions() -> None:
    listed = runs(run("a", loss=2.0), run("b"), run("c", loss=1.0))
    listed.sort = "loss"
    assert listed.rows() == ["c", "a", "b"]
    listed.reverse = True
    assert listed.rows() == ["a", "c", "b"]


def test_a_run_not_read_yet_is_listed_by_its_id() -> None:
    listed = runs(run("a"))
    listed.listed(["z-9"])
    assert listed.rows() == ["a", "z-9"]
    assert listed.name("z-9") == "z-9"


def test_a_name_given_by_the_user_wins_and_is_harmless() -> None:
    listed = runs(run("a", name="evil\x1b[2J\nname"), run("b"), names={"b": "mine"})
    assert listed.name("a") == "evil␛[2J name"
    assert listed.name("b") == "mine"


def test_actions_take_the_selected_runs_else_the_one_under_the_cursor() -> None:
    listed = runs(run("a", started=2.0), run("b", started=1.0))
    assert listed.targets("b", listed.rows()) == ["b"]
    listed.selected = {"a"}
    assert listed.targets("b", listed.rows()) == ["a"]
    listed.query = "b"  # a selected run that is filtered away is not acted on
    assert listed.targets("b", listed.rows()) == ["b"]


def test_a_run_that_ends_is_told_once() -> None:
    listed = runs(run("a", "training", name="rhea"))
    [ended] = listed.update([run("a", "failed", name="rhea", why="It ran out of memory.")])
    assert sentence(ended) == ("rhea failed: It ran out of memory.", "error")
    assert listed.update([run("a", "failed", name="rhea")]) == []
    assert listed.update([run("new", "finished")]) == []  # it was over when first seen


def test_forgotten_runs_are_not_selected() -> None:
    listed = runs(run("a"))
    listed.selected = {"a"}
    listed.forget(["a", "never-known"])
    assert (listed.selected, listed.rows()) == (set(), [])
