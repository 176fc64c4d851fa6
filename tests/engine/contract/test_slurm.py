"""What Slurm says, read: columns, ends, who may ask and how often. No Slurm is needed here."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from engine.contract import slurm, summary
from engine.contract.errors import MoltingError
from engine.contract.slurm import Answer, Job
from tests.support import runs
from tests.support.runs import Recorded


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLTING_RUNTIME_DIR", str(tmp_path / "local"))


def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str) -> None:
    """A command of Slurm's that does `body`, and writes down that it was called."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/called\n{body}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_line_of_squeue_is_read_whatever_time_format_the_site_has() -> None:
    assert slurm.parse("42_3|PENDING|Resources|1795281899|") == Job(
        id="42_3", state="PENDING", reason="Resources", start=1795281899.0
    )
    standard = slurm.parse("42|RUNNING|None|2026-11-21T17:00:00|n[1-2]")
    assert standard and standard.start and time.localtime(standard.start)[3] == 17 and standard.nodes == "n[1-2]"
    assert slurm.parse("42|PENDING|(null)|N/A|(null)") == Job(id="42", state="PENDING")


@pytest.mark.parametrize("line", ["", "x|y", "42_[0-3]|PENDING|None|N/A|", "-1|RUNNING|a|b|c", "||||", "42||a|b|c"])
def test_other_lines_say_nothing(line: str) -> None:
    assert slurm.parse(line) is None


def test_what_slurm_says_cannot_drive_the_terminal() -> None:
    job = slurm.parse("42|PENDING|\x1b]52;c;AAAA\x07\u202e|N/A|n\x1b[2J")
    assert job and "\x1b" not in job.sentence + job.word and "\u202e" not in job.sentence


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (Job(id="7", state="PENDING", reason="Priority"), "Slurm job 7 is pending: Priority."),
        (Job(id="7", state="RUNNING", nodes="n1"), "Slurm job 7 on n1 is running."),
        (Job(id="7", state="NODE_FAIL", nodes="n1"), "Slurm job 7 on n1 ended because a node of it failed."),
        (Job(id="7", state="TIMEOUT", nodes="n1"), "Slurm job 7 on n1 timed out: it reached its time limit."),
        (Job(id="7", state="NEW_WORD"), "Slurm job 7 ended as NEW_WORD."),
    ],
)
def test_the_words_are_slurms(job: Job, said: str) -> None:
    assert job.sentence == said


# "Job State Codes" of Slurm's documentation: base states, then flags.
CODES = {
    "live": "RUNNING SUSPENDED COMPLETING RESIZING REVOKED SIGNALING STAGE_OUT STOPPED",
    "queued": "PENDING CONFIGURING POWER_UP_NODE EXPEDITING REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT "
    "RESV_DEL_HOLD LAUNCH_FAILED RECONFIG_FAIL",
    "lost": "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED TIMEOUT",
}


@pytest.mark.parametrize(
    ("meant", "state"), [(meant, each) for meant, codes in CODES.items() for each in codes.split()]
)
def test_every_state_that_slurm_knows_is_a_sentence_and_a_state_of_the_run(
    tmp_path: Path, meant: str, state: str
) -> None:
    job = Job(id="42", state=state, nodes="n1")
    assert f"ended as {state}" not in job.sentence and job.sentence.startswith("Slurm job 42 on n1 ")
    recorded = elsewhere(tmp_path, "queued", "starting", "training")
    remember(job)
    seen = summary.summarise(recorded.run)
    assert seen.state == ("training" if meant == "live" else meant)
    assert seen.why == ("" if meant == "live" else job.sentence)


def test_the_controller_is_asked_once_in_a_while_whoever_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, "squeue", "echo '42|RUNNING|None|1795281899|n1'")
    for _ in range(5):
        assert slurm.refresh().jobs["42"].nodes == "n1"
    assert (tmp_path / "called").read_text().count("squeue") == 1


def test_a_silent_controller_is_not_waited_for_and_what_was_known_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, monkeypatch, "squeue", "echo '42|RUNNING|None|1795281899|n1'")
    slurm.refresh()
    pretend(tmp_path, monkeypatch, "squeue", "exec sleep 20")
    began = time.monotonic()
    answer = slurm.refresh(every=0.0, patience=0.3)
    assert time.monotonic() - began < 5 and "did not answer squeue" in answer.error
    assert answer.jobs["42"].nodes == "n1"


def test_a_job_that_the_controller_forgot_is_asked_of_the_accounting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, monkeypatch, "squeue", "printf '42|RUNNING|None|1|n1\\n43|PENDING|None|1|\\n'")
    slurm.refresh()
    pretend(tmp_path, monkeypatch, "squeue", ":")
    pretend(tmp_path, monkeypatch, "sacct", "echo '42|NODE_FAIL|n1'")
    jobs = slurm.refresh(every=0.0).jobs
    assert jobs["42"].state == "NODE_FAIL" and jobs["43"].state == slurm.GONE
    before = (tmp_path / "called").read_text().count("sacct")
    slurm.refresh(every=0.0)
    assert (tmp_path / "called").read_text().count("sacct") == before, "what ended is not asked for again"


def test_no_slurm_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MoltingError, match="There is no squeue on this machine"):
        slurm.command(["squeue"])


def test_commands_that_know_no_cluster_are_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "sbatch: fatal: Could not establish a configuration source"
    pretend(tmp_path, monkeypatch, "sbatch", f"echo '{said}' >&2; exit 1")
    with pytest.raises(MoltingError) as raised:
        slurm.command(["sbatch", "--test-only"])
    assert "login node" in raised.value.remedy


def remember(*jobs: Job, ago: float = 0.0) -> None:
    now = time.time() - ago
    slurm._store(Answer(t=now, tried=now, jobs={job.id: job for job in jobs}))


def elsewhere(tmp_path: Path, *states: str) -> Recorded:
    """A run whose supervisor lives, or lived, on another host."""
    run = runs.make_run(tmp_path / "runs")
    recorded = Recorded(run, time.time() - 100).state(*states)
    runs.own(run, runs.processes.Identity(host="far", boot_id="b", pid=1, start_time=1))
    slurm.record(run, "42")
    sent = slurm.sent(run)
    assert sent
    slurm.durable.write_replace(run.slurm, slurm.msgspec.json.encode(slurm.Sent(job="42", t=sent.t - 50)))
    return recorded


@pytest.mark.parametrize(
    ("states", "job", "shown", "owned"),
    [
        (("queued",), Job(id="42", state="PENDING", reason="Resources"), "queued", None),
        (("queued", "starting", "training"), Job(id="42", state="RUNNING", nodes="n1"), "training", True),
        (("queued", "starting", "training"), Job(id="42", state="PENDING"), "queued", None),
        (("queued", "starting", "training"), Job(id="42", state="NODE_FAIL"), "lost", False),
        (("queued",), Job(id="42", state="CANCELLED"), "lost", False),
        (("queued", "starting", "training", "stopping", "interrupted"), Job(id="42", state="PENDING"), "queued", None),
        (("queued", "starting", "finished"), Job(id="42", state="COMPLETED"), "finished", None),
    ],
)
def test_a_run_is_what_its_job_is(
    tmp_path: Path, states: tuple[str, ...], job: Job, shown: str, owned: bool | None
) -> None:
    recorded = elsewhere(tmp_path, *states)
    remember(job)
    seen = summary.summarise(recorded.run)
    assert (seen.state, seen.owned) == (shown, owned)
    if shown == "lost":
        assert seen.why == job.sentence


def test_an_old_answer_does_not_judge_what_happened_since(tmp_path: Path) -> None:
    recorded = elsewhere(tmp_path, "queued", "starting", "training")
    remember(Job(id="42", state="CANCELLED"), ago=200)
    assert summary.summarise(recorded.run).state == "training"


def test_a_job_that_slurm_does_not_know_is_lost(tmp_path: Path) -> None:
    recorded = elsewhere(tmp_path, "queued", "starting", "training")
    remember()
    seen = summary.summarise(recorded.run)
    assert seen.state == "lost" and "not known to Slurm any more" in seen.why


@pytest.mark.parametrize("content", [b"", b"[]", b'{"job": "1; rm -rf", "t": 1}', b"[" * 10_000, b'{"job": 3}'])
def test_a_spoilt_note_of_the_job_is_no_job(tmp_path: Path, content: bytes) -> None:
    run = runs.make_run(tmp_path)
    run.slurm.write_bytes(content)
    assert slurm.sent(run) is None and summary.summarise(run).state == "queued"
