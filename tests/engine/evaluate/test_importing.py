"""Files of other evaluations: what counts is computed, what was typed is checked, and nothing ends in a traceback."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.contract import calls, grading, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.verdict import CompareRequest, Imported, ImportRequest
from engine.evaluate.compare import compare
from engine.evaluate.importing import import_scores
from engine.infer import why
from engine.infer.session import trained_weights
from engine.train import start

SHARED = Path(os.environ.get("MOLTING_SHARED", Path(__file__).resolve().parents[4] / "shared")) / "data" / "claudio"
recorded = pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded cycles are not here (MOLTING_SHARED)")
CYCLES = {
    "cycle6": ("eval_personality_v1_20260219_221255.json", "eval_personality_v1_20260219_manual_scores.json"),
    "cycle7": (
        "eval_personality_v1_fixed_20260220_084135.json",
        "eval_personality_v1_fixed_20260220_manual_scores.json",
    ),
    "older": ("v2.1_retest_for_rubric.json", "v2.1_rubric_scores.json"),
}
QUESTIONS = ["Quem é o João?", "O que é o Molting?", "Que tecnologias você conhece?"]
LEVELS = [[2, 1, 2, 2, 2], [0, 1, 0, 2, 1], [1, 1, 1, 1, 1]]  # 9 + 4 + 5 = 18 of 30


def answers() -> list[dict[str, Any]]:
    return [{"qid": f"Q{n}", "question": text, "response": f"Resposta {n}."} for n, text in enumerate(QUESTIONS, 1)]


def rows(levels: list[list[Any]] = LEVELS) -> list[dict[str, Any]]:
    """Shape b."""
    return [
        {"qid": f"Q{n}", "question": text} | {f"d{d}": {"score": level} for d, level in enumerate(row, 1)}
        for n, (text, row) in enumerate(zip(QUESTIONS, levels, strict=True), 1)
    ]


def cells_of(row: list[Any]) -> list[tuple[str, Any]]:
    """Shape c."""
    return [(f"d{number}", level) for number, level in enumerate(row, 1)]


def listed(row: list[Any]) -> list[dict[str, Any]]:
    return [{"dimension": name, "score": level} for name, level in cells_of(row)]


def imported(tmp_path: Path, scores: Any, said: Any = None, name: str = "x", **more: str) -> Imported:
    files = {"answers": said if said is not None else answers(), "scores": scores}
    for what, data in files.items():
        text = data if isinstance(data, str) else json.dumps(data)
        (tmp_path / f"{what}.json").write_text(text, encoding="utf-8")
    paths = {what: str(tmp_path / f"{what}.json") for what in files}
    request = ImportRequest(**paths, name=name, runs=str(tmp_path / "runs"), **more)
    return import_scores(request, lambda line: None)


def ids(made: Imported) -> list[str]:
    return [problem.id for problem in made.problems]


def recorded_cycle(tmp_path: Path, name: str) -> Imported:
    said, scored = CYCLES[name]
    request = ImportRequest(
        answers=str(SHARED / said), scores=str(SHARED / scored), name=name, runs=str(tmp_path / "runs")
    )
    return import_scores(request, lambda line: None)


@recorded
@pytest.mark.parametrize(
    ("name", "raw", "shape", "cut"), [("cycle6", 23, "a", 7), ("cycle7", 44, "b", 6), ("older", 6, "c", 7)]
)
def test_the_recorded_cycles(tmp_path: Path, name: str, raw: int, shape: str, cut: int) -> None:
    made = recorded_cycle(tmp_path, name)
    assert (made.raw, made.max, made.shape, made.score) == (raw, 80, shape, raw / 8)
    assert "rater-not-blind" in ids(made) and f"{cut} of 8 answers stop" in " ".join(p.message for p in made.problems)
    wrong = [problem.message for problem in made.problems if problem.id == "wrong-total"]
    assert bool(wrong) == (name == "cycle7")
    if wrong:
        assert "typed total of D2" in wrong[0] and "is 4" in wrong[0] and "it is 5" in wrong[0]
    seen = summary.summarise(RunDir(Path(made.path)))
    assert (seen.state, seen.score, seen.problem, seen.method) == ("finished", raw / 8, "", "")


@recorded
def test_six_to_seven(tmp_path: Path) -> None:
    paths = [recorded_cycle(tmp_path, name).path for name in ("cycle6", "cycle7")]
    found = compare(CompareRequest(a=paths[0], b=paths[1]), lambda line: None)
    assert found.verdict == "better" and found.difference == 2.625 and found.p == 0.0390625
    assert "+2.63" in found.sentence and found.interval == pytest.approx((0.44, 4.81), abs=0.005)
    assert [each.id for each in found.dimensions if each.holm is not None and each.holm <= 0.05] == ["D1"]
    assert not found.differs.instrument and len(found.differs.treatment) > 1
    assert any("More than one thing changed" in warning for warning in found.warnings)
    assert [each.id for each in found.questions] == [f"Q{n}" for n in range(1, 9)]


@pytest.mark.parametrize(
    "scores",
    [
        {"scores": {row["qid"]: row for row in rows()}},
        {"scores": rows()},
        {"questions": [{"id": f"Q{n}", "scores": dict(cells_of(row))} for n, row in enumerate(LEVELS, 1)]},
        {"outer": {"inner": [{"label": f"Q{n}", "cells": listed(row)} for n, row in enumerate(LEVELS, 1)]}},
        {"scores": rows([[str(level) for level in row] for row in LEVELS])},
        {"scores": rows([[f"{level}/2" for level in row] for row in LEVELS])},
        {"scores": rows([[f"{level * 50} %" for level in row] for row in LEVELS])},
    ],
)
def test_one_grading_in_many_shapes(tmp_path: Path, scores: Any) -> None:
    made = imported(tmp_path, scores, rubric="claudio", rater="Ana")
    assert (made.raw, made.max, made.rater) == (18, 30, "Ana")


def test_holistic_totals_are_a_score_without_cells(tmp_path: Path) -> None:
    each = {f"Q{n}": {"score": n, "max_score": 10, "notes": "ok"} for n in (1, 2, 3)}
    made = imported(tmp_path, {"scores": each, "overall": {"total": 7, "max": 30, "score": 2.0}})
    assert (made.raw, made.max, made.shape) == (6, 30, "d") and "holistic" in ids(made)
    assert [p.message.split(" is ")[0] for p in made.problems if p.id == "wrong-total"] == [
        "The typed total (overall.total)"
    ]


@pytest.mark.parametrize(("typed", "wrong"), [(6.0, False), (6, False), ("6/10", False), ("18/30", False), (6.5, True)])
def test_a_typed_score_is_checked_against_its_own_rounding(tmp_path: Path, typed: Any, wrong: bool) -> None:
    made = imported(tmp_path, {"scores": rows(), "summary": {"normalized_score": typed}})
    assert ("wrong-total" in ids(made)) == wrong


def test_a_point_made_out_of_rounding_is_pointed_out(tmp_path: Path) -> None:
    """3.25 typed as 3.5 and 3.125 as 3.0 made a regression of one raw point."""
    levels = [[2, 1, 2, 2, 2], [0, 1, 0, 2, 1], [1, 1, 1, 1, 0]]
    made = imported(tmp_path, {"scores": rows(levels), "score_out_of_10": 5.5})
    said = next(problem.message for problem in made.problems if problem.id == "wrong-total")
    assert made.raw == 17 and "5.6667" in said and "one point is 0.3333" in said


def test_a_reversed_criterion_is_turned_and_its_typed_total_explained(tmp_path: Path) -> None:
    table = {"scores": rows(), "lower_is_better": ["d4"], "raw_total": 18}
    made = imported(tmp_path, table, rubric="claudio")
    assert made.raw == 9 + 4 + 5 - 2 - 2 - 1 + 0 + 0 + 1
    said = [problem.message for problem in made.problems if problem.id == "wrong-total"]
    assert "turned" in ids(made) and "as if higher were" in said[0]


def test_a_rubric_that_declares_it_needs_no_word_in_the_file(tmp_path: Path) -> None:
    from engine.contract import rubric

    text = rubric.find("claudio").read_text().replace("higher_is_better = true", "higher_is_better = false", 1)
    (tmp_path / "own.toml").write_text(text)
    made = imported(tmp_path, {"scores": rows()}, rubric=str(tmp_path / "own.toml"))
    assert made.raw == 18 - (2 + 0 + 1) + (0 + 2 + 1) and "turned" not in ids(made)


def test_what_does_not_fit_is_left_out_and_said(tmp_path: Path) -> None:
    levels = copy.deepcopy(LEVELS)
    scores = rows(levels)
    scores[0]["d1"], scores[1]["d2"], scores[2]["d5"] = {"score": 7}, {"score": "good"}, {"score": 1.5}
    scores[0]["d9"] = {"score": 1}
    scores.append({"qid": "Q77", "question": "Who else?", "d1": {"score": 1}})
    made = imported(tmp_path, {"scores": scores[:1] + scores[2:]}, rubric="claudio")
    assert {"odd-cell", "extra-cell", "no-answer", "no-score", "missing-question", "missing-cell"} <= set(ids(made))
    assert made.raw == 7 + 4 and made.max == 8 + 8


def test_a_reason_that_quotes_what_nobody_said(tmp_path: Path) -> None:
    scores = rows()
    scores[0]["d1"]["reason"] = "Says 'Resposta 1', and 'sou o rei' too; it doesn't, isn't."
    made = imported(tmp_path, {"scores": scores})
    said = [problem.message for problem in made.problems if problem.id == "unfounded-quote"]
    assert len(said) == 1 and "'sou o rei'" in said[0] and "Resposta" not in said[0]
    graded = grading.of_run(RunDir(Path(made.path)))[0][0]
    assert [quote.found for quote in graded.grade("i1").quotes] == [True, False]


@pytest.mark.parametrize(
    "scores",
    [
        "",
        "nonsense",
        "[" * 20_000,
        "null",
        "[]",
        "{}",
        '{"a": 1}',
        '"text"',
        '{"r": [{"auto_d4_score": 0, "id": "1"}]}',
    ],
)
def test_garbage_is_one_sentence(tmp_path: Path, scores: str) -> None:
    for files in ({"scores": scores}, {"scores": {"scores": rows()}, "said": scores}):
        with pytest.raises(MoltingError) as caught:
            imported(tmp_path, **files)
        assert caught.value.code == 2 and "\n" not in caught.value.message
    assert not list((tmp_path / "runs").glob("*"))


KEYS = ["scores", "d1", "qid", "score", "total", "question", "max", "notes"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=25,
)


@given(values)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_ends_in_a_traceback(tmp_path: Path, data: Any) -> None:
    try:
        made = imported(tmp_path, data, rubric="claudio")
    except MoltingError as error:
        assert error.code == 2
    else:
        assert 0 <= made.score <= 10


def test_an_imported_run_was_not_trained_here_and_nobody_says_resume(tmp_path: Path) -> None:
    """Neither `resume` nor "resume it" helps: there is nothing to go on from, and nothing that could answer."""
    run = RunDir(Path(imported(tmp_path, {"scores": rows()}, rubric="claudio").path))
    assert summary.summarise(run).imported
    with pytest.raises(MoltingError, match="imported") as refused:
        start.resume(calls.RunRequest(run=str(run.path), models=str(tmp_path)), None)
    with pytest.raises(MoltingError, match="imported") as silent:
        trained_weights(run)
    found = why.why(calls.WhyRequest(run=str(run.path), models=str(tmp_path)), lambda line: None)
    assert found.cause == "not_trained" and "imported" in found.sentence
    assert "resume" not in refused.value.remedy + silent.value.remedy + found.remedy
