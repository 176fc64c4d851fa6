from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.contract.summary import Summary
from molting_tui.state.run_tree import Branch, together, tree

IDS = [f"r{n}" for n in range(8)]


def run(id: str, parent: str = "", sweep: str = "", loss: float | None = None) -> Summary:
    return Summary(id=id, path="", name=f"name {id}", state="finished", parent=parent, sweep=sweep, eval_loss=loss)


def known(*runs: Summary) -> dict[str, Summary | None]:
    return {each.id: each for each in runs}


def test_children_follow_their_parent_in_the_order_of_the_list() -> None:
    runs = known(run("a"), run("b", "a"), run("c", "name b"), run("d", "a"), run("e", "gone"))
    assert tree(["e", "d", "c", "b", "a"], runs) == [("e", 0), ("a", 0), ("d", 1), ("b", 1), ("c", 2)]


def test_a_sweep_stands_where_its_runs_come_from() -> None:
    runs = known(run("a"), run("b", "a", "s"), run("c", "a", "s"), run("d", "c"))
    assert tree(["d", "c", "b", "a"], runs) == [("a", 0), ("s", 1), ("c", 2), ("d", 3), ("b", 2)]


@given(st.dictionaries(st.sampled_from(IDS), st.tuples(st.sampled_from(["", *IDS]), st.sampled_from(["", "s", "t"]))))
def test_every_run_has_one_line_whatever_its_parents_are(family: dict[str, tuple[str, str]]) -> None:
    runs = known(*(run(id, parent, sweep) for id, (parent, sweep) in family.items()))
    lines = tree(family, runs)
    assert sorted(branch.id for branch in lines if branch.id in runs) == sorted(family)
    assert {branch.id for branch in lines} - runs.keys() == {sweep for _, sweep in family.values() if sweep}
    assert len({branch.id for branch in lines}) == len(lines)
    for before, after in zip([Branch("", -1), *lines], lines, strict=False):
        assert after.depth <= before.depth + 1


def test_a_run_alone_brings_its_sweep_or_its_parent() -> None:
    runs = known(
        run("a"), run("b", "a"), run("c", sweep="s", loss=2.0), run("d", sweep="s"), run("e", sweep="s", loss=1.0)
    )
    assert together(["b"], runs) == ["b", "a"]
    assert together(["c"], runs) == ["c", "e", "d"]
    assert together(["a"], runs) == ["a"]
    assert together(["d", "c", "e"], runs) == ["e", "c", "d"]
    assert together(["gone"], runs) == []
