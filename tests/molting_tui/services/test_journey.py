"""What the strip reads from a run: traces of what was done, and only of the weights that are there now."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from engine.contract import calls, durable, sheets
from molting_tui.services.grades import any_unfinished
from molting_tui.services.journey import traces
from molting_tui.state.journey import Traces
from tests.support.cycles import two_cycles
from tests.support.graded import graded_run


def test_what_was_left_is_seen(tmp_path: Path) -> None:
    one, _ = two_cycles(tmp_path, 1_760_000_000.0)
    assert traces(one) == Traces(proof="effective", weights=True, chatted=True, grading=True, report=False)
    one.report.write_text("# Report")
    assert traces(one).report
    later = one.report.stat().st_mtime + 10
    os.utime(next(one.grades.glob("*.jsonl")), (later, later))
    assert not traces(one).report, "grades that are newer want a new report"
    os.utime(one.adapter / "MANIFEST.json", (later, later))
    assert traces(one).proof == "", "a proof of other weights is none"


def test_a_proof_belongs_to_weights_whatever_the_age_of_the_files(tmp_path: Path) -> None:
    """A copied run has files of any age."""
    one, _ = two_cycles(tmp_path, 1_760_000_000.0)
    files = durable.read_manifest(one.adapter).files
    proof = msgspec.json.decode(one.proof.read_bytes(), type=calls.Proof)
    for weights, said in (
        (sheets.weights_hash({name: entry.sha256 for name, entry in files.items()}), "effective"),
        ("0" * 64, ""),
    ):
        one.proof.write_bytes(msgspec.json.encode(msgspec.structs.replace(proof, weights=weights)))
        for age in (1, 2_000_000_000):
            os.utime(one.proof, (age, age))
            assert traces(one).proof == said


def test_nothing_is_seen_where_nothing_is(tmp_path: Path) -> None:
    run, _ = graded_run(tmp_path)
    assert traces(run) == Traces()
    run.proof.write_bytes(b"{" * 2000)
    run.report.mkdir()
    assert traces(run) == Traces()


def test_a_sheet_of_one_voice_can_be_graded(tmp_path: Path) -> None:
    """It has no pairs, which is no reason to refuse the rest."""
    one, _ = two_cycles(tmp_path, 1_760_000_000.0)
    (sheet,), _ = sheets.readable(one)
    assert sheet.voices == ["adapter"] and any_unfinished(one, sheet, "Joana") is None
