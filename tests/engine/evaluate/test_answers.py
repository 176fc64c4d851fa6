"""A real model answers a rubric, both voices are graded, and the run is counted and compared with itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract import grades, rubric, sheets, slots, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.verdict import AnswersRequest, CompareRequest, CycleRequest, PrechecksRequest
from engine.evaluate.answers import answers
from engine.evaluate.compare import compare
from engine.evaluate.precheck import prechecks
from engine.evaluate.summary import cycle
from tests.support.tiny import tiny_llama
from tests.support.trained_runs import run_with_adapter

RUBRIC = rubric.find("rhea")


def quiet(line: object) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    root = tmp_path_factory.mktemp("answers")
    made = run_with_adapter(root / "runs", tiny_llama(root / "tiny"), strength=0.5)
    request = AnswersRequest(run=str(made.path), models=str(root), rubric=str(RUBRIC), samples=2)
    said = answers(request, quiet)
    assert (said.sheet, said.items) == ("rhea-1", 48)
    return made


@pytest.fixture(scope="module")
def sheet(run: RunDir) -> sheets.Sheet:
    return sheets.readable(run)[0][0]


def grade(run: RunDir, sheet: sheets.Sheet, rater: str, base: int, adapter: int) -> None:
    """A sitting of both voices, blind, in which each voice gets one level everywhere."""
    by = sheet.header.rubric
    head = grades.Opened(
        rater=rater, sheet=sheet.header.name, sheet_hash=sheet.sha256, rubric=by, rubric_hash=by.fingerprint,
        adapter=sheet.header.adapter, voices=["base", "adapter"], seed=3,
    )  # fmt: skip
    voices = {item.id: item.voice for item in sheet.items}
    with grades.GradeFile.create(run, head) as file:
        for slot in slots.slots(sheet, head):
            levels = {dimension.id: base if voices.get(slot.item) == "base" else adapter for dimension in by.dimensions}
            for name, level in (slot.expected.cells if slot.expected else levels).items():
                file.say(grades.Cell(item=slot.id, dimension=name, level=level))
            file.say(grades.Commit(item=slot.id, key=slot.key))


def test_the_sheet_says_how_it_was_made(run: RunDir, sheet: sheets.Sheet) -> None:
    header = sheet.header
    assert (
        header.run == run.id
        and header.system == "You are Rhea."
        and header.rubric_hash == rubric.load(RUBRIC).fingerprint
    )
    assert all(len(value) == 64 for value in (header.adapter, header.template, header.system_hash)) and header.base
    assert header.decoding.max_new_tokens == 12 and header.decoding.samples == 2
    assert {(item.voice, item.sample) for item in sheet.items} == {
        (v, s) for v in ("base", "adapter") for s in range(3)
    }
    assert all(item.stop in ("end", "cap") and item.tokens for item in sheet.items)
    greedy, drawn = (sheet.of("adapter", sample) for sample in (0, 1))
    assert [item.question for item in greedy] == [question.text for question in header.rubric.questions]
    assert [item.answer for item in greedy] != [item.answer for item in drawn]


def test_the_same_seed_says_the_same(run: RunDir, sheet: sheets.Sheet) -> None:
    request = AnswersRequest(run=str(run.path), models=str(run.path), rubric=str(RUBRIC), samples=1, base=False)
    said = answers(request, quiet)
    again = sheets.read(Path(said.path))
    assert said.sheet == "rhea-2" and again.voices == ["adapter"]
    for sample in (0, 1):
        assert [i.answer for i in again.of("adapter", sample)] == [i.answer for i in sheet.of("adapter", sample)]


def test_base_and_adapter_of_one_run(run: RunDir, sheet: sheets.Sheet) -> None:
    with pytest.raises(MoltingError, match="no complete grading"):
        compare(CompareRequest(b=str(run.path), base=True), quiet)
    grade(run, sheet, "Ana", base=0, adapter=2)
    found = compare(CompareRequest(b=str(run.path), base=True), quiet)
    assert found.verdict == "better" and found.difference == 10 and found.n == 8 and found.p == 0.0078125
    assert not found.differs.instrument and not found.differs.treatment
    grade(run, sheet, "Bruno", base=0, adapter=1)
    told = cycle(CycleRequest(run=str(run.path)), quiet)
    assert told.main and told.main.rater == "Bruno" and told.main.score == 5.0 == summary.summarise(run).score
    assert told.main.unseen and told.main.unseen.answers == 8 and told.main.repeated == told.main.repeated_same == 10
    assert len(told.main.anchors) == 2 and all(anchor.passed for anchor in told.main.anchors)
    both = told.agreements[0]
    assert both.enough and both.agreement is not None and 0.4 < both.agreement < 0.7


def test_rules_are_told_for_every_answer(run: RunDir, sheet: sheets.Sheet) -> None:
    found = prechecks(PrechecksRequest(sheet=str(run.sheet(sheet.header.name))), quiet)
    assert set(found.hits) == {item.id for item in sheet.items} | {f"calibration-{n}" for n in (1, 2, 3)}


def test_a_step_without_a_checkpoint_leaves_no_sheet(run: RunDir) -> None:
    before = sheets.listed(run)
    with pytest.raises(MoltingError, match="no checkpoint"):
        answers(AnswersRequest(run=str(run.path), models="x", rubric=str(RUBRIC), checkpoint=5), quiet)
    assert sheets.listed(run) == before
