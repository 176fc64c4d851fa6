from __future__ import annotations

from engine.contract.summary import Summary
from molting_tui.state import sweep_table


def run(id: str, **about: object) -> Summary:
    values: dict[str, object] = {"state": "finished", "steps": 4, "step": 4, "sweep": "s"}
    return Summary(id=id, path="", name=id, **(values | about))  # type: ignore[arg-type]


def test_columns_are_what_differs_in_the_order_of_the_spec() -> None:
    runs = [
        run("a", changes={"training.learning_rate": 1e-4, "method.rank": 8}),
        run("b", changes={"data.train": "/home/ana/rows.jsonl"}, started=1.0),
    ]
    ordered = sweep_table.members([runs[1], None, run("c", sweep="t"), runs[0]], "s")
    head, first, second = sweep_table.rows(ordered)
    assert head[1:4] == ["train", "rank", "lr"]
    assert [first[1:4], second[1:4]] == [["–", "8", "0.0001"], ["rows.jsonl", "–", "–"]]


def test_hostile_text_of_a_run_stays_harmless() -> None:
    runs = [run("a", state="failed", why="\x1b[31m[bold]x\n", changes={"evil.\x1b[2J": "\u202edna"})]
    text = "\n".join(sweep_table.lines(runs, ascii=True))
    assert "\x1b" not in text and "\u202e" not in text and "[bold]x" in text
    assert text.splitlines()[1].startswith("x ")


def test_losses_that_do_not_compare_are_said_so() -> None:
    runs = [run("a", eval_loss=0.5, comparable=False), run("b", eval_loss=0.9, comparable=False)]
    assert sweep_table.best_row(runs) is None
    assert "None is called best" in sweep_table.notes(runs)[0]
