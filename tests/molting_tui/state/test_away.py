"""What is told on coming back: what changed, once, the failures first."""

from __future__ import annotations

from engine.contract.summary import Summary
from molting_tui.state.away import happened, record


def summary(name: str, state: str, changed: float = 200.0, **more: object) -> Summary:
    return Summary(id=f"{name}-id", path=f"/runs/{name}", name=name, state=state, changed=changed, **more)  # type: ignore[arg-type]


def test_nothing_is_told_on_the_first_visit_or_when_nothing_changed() -> None:
    runs = [summary("a", "finished")]
    assert happened(runs, 0.0, {}) == []
    assert happened(runs, 100.0, record(runs)) == []


def test_what_ended_is_told_with_failures_first() -> None:
    before = record([summary("a", "training"), summary("b", "training"), summary("c", "training")])
    after = [
        summary("a", "finished", 150.0, loss=0.3, eval_loss=0.52, step=100, steps=100),
        summary("b", "failed", 120.0, why="Out of memory.", remedy="Halve it.", step=12, steps=160),
        summary("c", "training", 50.0),
    ]
    told = happened(after, 100.0, before)
    assert [each.message for each in told] == [
        "b failed at step 12/160: Out of memory.",
        "a finished (loss 0.3, held-out 0.52).",
    ]
    assert [each.severity for each in told] == ["error", "note"]
    assert told[0].remedy == "Halve it."


def test_a_lost_run_can_be_resumed() -> None:
    (told,) = happened([summary("a", "lost", resumable=True)], 100.0, record([summary("a", "training")]))
    assert told.severity == "error" and told.remedy == "Resume it from its checkpoint."


def test_warnings_and_grades_are_told_of_runs_that_go_on() -> None:
    before = record([summary("a", "training", warnings=1), summary("b", "finished")])
    after = [summary("a", "training", warnings=3), summary("b", "finished", score=6.25)]
    told = {each.run_id: each for each in happened(after, 100.0, before)}
    assert told["a-id"].message == "a got 2 warnings." and told["a-id"].severity == "warning"
    assert told["b-id"].message == "b was graded 6.25."


def test_without_a_record_the_time_of_the_change_decides() -> None:
    runs = [summary("old", "finished", 50.0), summary("new", "interrupted", 150.0, step=5, steps=9)]
    (told,) = happened(runs, 100.0, {})
    assert told.message == "new was stopped at step 5/9."


def test_names_and_reasons_are_harmless() -> None:
    (told,) = happened([summary("\x1b[2J", "failed", why="\x1b]0;x\x07")], 100.0, {})
    assert "\x1b" not in told.message and "\x07" not in told.message


def test_a_shown_name_stands_for_the_runs_own() -> None:
    (told,) = happened([summary("a", "finished")], 100.0, {}, lambda run: "my run")
    assert told.message == "my run finished."
