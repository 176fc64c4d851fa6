"""The script that Slurm gets: readable, and nothing in it can become a command."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.contract import launcher
from engine.contract import slurm as jobs
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Launcher
from engine.train import slurm
from engine.train.allocation import job_of
from tests.support.runs import make_run


@pytest.mark.parametrize("name", ["plain", "with space", "$(touch canary)", "it's", "`id`", "100%", "-n", "*"])
def test_whatever_a_folder_is_called_the_supervisor_gets_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    told = tmp_path / "told"
    stand_in = tmp_path / "python it's"
    stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$PWD" "$@" > {told}\n')
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    runs = [RunDir(tmp_path / name / each) for each in ("first", "second")]
    for run in runs:
        run.path.mkdir(parents=True)
    text = slurm.script(runs, Launcher(kind="slurm"), tmp_path / name / "models")
    script = tmp_path / "script.sh"
    script.write_text(text)
    subprocess.run(["bash", str(script)], check=True, env={"PATH": "/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "1"})
    second = str(runs[1].path)
    assert told.read_text().splitlines() == [
        second, "-I", "-m", "engine", "supervise", second, str(tmp_path / name / "models")
    ]  # fmt: skip
    assert not list(tmp_path.rglob("canary"))
    assert name == "100%" or f'--output="{runs[0].path}/slurm.log"' in text
    assert name != "100%" or "100%%" in text, "Slurm would read a pattern"


def test_slurms_signals_reach_the_supervisor_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go to the process that runs the script, so no shell may stand between."""
    told, stand_in, run = tmp_path / "told", tmp_path / "python", RunDir(tmp_path / "run")
    stand_in.write_text(f"#!/bin/sh\necho $$ > {told}\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    run.path.mkdir()
    (tmp_path / "script.sh").write_text(slurm.script([run], Launcher(kind="slurm"), tmp_path))
    with subprocess.Popen(["bash", str(tmp_path / "script.sh")]) as job:
        assert job.wait() == 0
    assert told.read_text().strip() == str(job.pid)


def stands_in(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str) -> Path:
    """A command of Slurm's that prints `says` and writes down its arguments; returns where."""
    (folder / name).write_text(f'#!/bin/sh\necho "$@" >> {folder}/told-{name}\necho "{says}"\n')
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / f"told-{name}"


def test_each_run_of_an_array_is_a_task_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = stands_in(tmp_path, monkeypatch, "sbatch", "42;cluster")
    runs = [make_run(tmp_path / "runs", name) for name in ("one", "two", "three")]
    assert slurm.send(runs, Launcher(kind="slurm"), tmp_path) == ["42_0", "42_1", "42_2"]
    assert told.read_text().split() == ["--parsable", "--array=0-2", str(runs[0].slurm_script)]
    assert [sent.job for run in runs if (sent := jobs.sent(run))] == ["42_0", "42_1", "42_2"]
    assert slurm.send(runs[:1], Launcher(kind="slurm"), tmp_path) == ["42"]
    assert "--array" not in told.read_text().splitlines()[1]


@pytest.mark.parametrize(("state", "idle"), [("PENDING", False), ("RUNNING", False), ("COMPLETING", True)])
def test_a_run_whose_job_still_waits_or_runs_is_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, idle: bool
) -> None:
    monkeypatch.setenv("MOLTING_RUNTIME_DIR", str(tmp_path / "runtime"))
    stands_in(tmp_path, monkeypatch, "squeue", f"42|{state}|None|1|n1")
    run = make_run(tmp_path / "runs")
    jobs.record(run, "42")
    with contextlib.nullcontext() if idle else pytest.raises(MoltingError, match="needs no resuming: Slurm job 42"):
        slurm.require_idle(run)


@pytest.mark.parametrize("name", ["new\nline", 'quo"te', "back\\slash", "\x1b[2J"])
def test_a_path_that_slurm_cannot_be_given_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MoltingError, match="Slurm cannot be given the path"):
        slurm.script([RunDir(tmp_path / name)], Launcher(kind="slurm"), tmp_path)


def test_every_key_of_the_spec_is_a_line_that_can_be_read(tmp_path: Path) -> None:
    said = Launcher(
        kind="slurm", partition="gpu", time="8:00:00", gres="gpu:a100:2", nodes=2, requeue=False, extra=["--mem=32G"]
    )
    lines = slurm.script([RunDir(tmp_path / "run")], said, tmp_path).splitlines()
    asked = {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")}
    expected = {"--partition=gpu", "--time=8:00:00", "--gres=gpu:a100:2", "--nodes=2", "--ntasks=2", "--no-requeue"}
    assert expected | {"--mem=32G", "--signal=B:USR1@120"} <= asked


@pytest.mark.parametrize(
    ("option", "word"),
    [("--output=x", "--output"), ("--out=x", "--out"), ("--time=5", "launcher.time"), ("--array=1", "Leave it out")],
)
def test_what_molting_says_itself_is_told_with_what_to_do(option: str, word: str) -> None:
    ((path, sentence),) = launcher.mistakes(Launcher(extra=["--mem=1G", option]))
    assert path == ("launcher", "extra", 1) and word in sentence


@pytest.mark.parametrize(
    "sound",
    [
        {"time": "90"}, {"time": "5:30"}, {"time": "8:00:00"}, {"time": "2-12"}, {"time": "2-12:00:00"}, {"time": "0"},
        {"gres": "gpu:1"}, {"gres": "gpu:a100:2,shard:4"}, {"gres": "gpu"}, {"partition": "gpu,long_2"},
        {"extra": ["--exclusive", "--mem=32G", "--comment=two words; $(x) `y`", "--account=lab"]},
    ],
)  # fmt: skip
def test_what_slurm_can_read_is_passed(sound: dict[str, Any]) -> None:
    assert list(launcher.mistakes(Launcher(**sound))) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"time": "8h"}, 'expected "90" (minutes)'),
        ({"time": "8:00:00:00"}, "launcher.time is"),
        ({"time": "5:"}, "launcher.time is"),
        ({"time": "1"}, "save and leave as soon as it begins"),
        ({"gres": "gpu:"}, "launcher.gres is"),
        ({"gres": "gpu: 1"}, '"gpu:1"'),
        ({"partition": "a b"}, "launcher.partition is"),
        ({"partition": "a\n#SBATCH --wrap=x"}, "launcher.partition is"),
        ({"extra": ["--mem 32G"]}, 'as "--mem=32G"'),
        ({"extra": ["-p gpu"]}, "one long option"),
        ({"extra": ['--comment="']}, "without quotes"),
        ({"extra": ["--comment=x\n#SBATCH --output=y"]}, "one long option"),
    ],
)
def test_what_slurm_cannot_read_is_told_before_it_gets_there(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    spec = Launcher(**wrong)
    ((_, sentence),) = launcher.mistakes(spec)
    assert said in sentence
    with pytest.raises(MoltingError):  # of a run that came from elsewhere, too
        slurm.script([RunDir(tmp_path / "run")], spec, tmp_path)


def test_words_with_blanks_stay_one_option(tmp_path: Path) -> None:
    text = slurm.script([RunDir(tmp_path / "run")], Launcher(extra=["--comment=a --output=/x"]), tmp_path)
    assert '#SBATCH --comment="a --output=/x"\n' in text


def test_a_process_knows_its_job() -> None:
    assert job_of({}) == ""
    assert job_of({"SLURM_JOB_ID": "43"}) == "43"
    assert job_of({"SLURM_JOB_ID": "43", "SLURM_ARRAY_JOB_ID": "42", "SLURM_ARRAY_TASK_ID": "1"}) == "42_1"


def test_secrets_and_another_jobs_allocation_do_not_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    monkeypatch.setenv("SBATCH_PARTITION", "other")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    sent = slurm._environment()
    assert sent["SLURM_CONF"] == "/etc/slurm.conf" and "PATH" in sent
    assert not {"HF_TOKEN", "SBATCH_PARTITION", "SLURM_JOB_ID"} & set(sent)
