"""Runs that cannot end well end with a reason, the evidence and what to try."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.contract import calls, durable
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Data, Model, Spec
from engine.contract.summary import Summary
from engine.train import death, supervisor
from tests.support.tiny import tiny_llama
from tests.support.world import World, kill, trainer_pid, wait_for, wait_for_step

pytestmark = pytest.mark.slow


def assert_told(said: Summary, reason: str) -> None:
    assert said.reason == reason
    assert said.why.endswith((".", ")")), said.why
    assert said.remedy


def test_a_loss_that_is_not_a_number(world: World) -> None:
    model = tiny_llama(world.root / "broken")
    weights = load_file(model / "model.safetensors")
    weights["lm_head.weight"][:] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    run = world.train(world.persona("nan", model=model))
    said = wait_for(run, "failed")
    assert_told(said, "nan_loss")
    assert "step 1" in said.why
    assert not run.checkpoint_steps(), "weights that are not numbers are never saved"


def test_rows_whose_answers_do_not_fit_are_refused_before_anything_starts(world: World) -> None:
    spec = world.persona("long", data={"max_length": 16})
    said = world.call(
        "create", calls.CreateRequest(spec=str(spec), runs=str(world.runs / "none"), models=str(world.models))
    )
    assert isinstance(said, calls.Failure)
    assert "longer than 16 tokens" in said.message
    assert not (world.runs / "none").exists()


def test_a_truncated_model_is_refused(world: World) -> None:
    model = tiny_llama(world.root / "torn")
    os.truncate(model / "model.safetensors", 5000)
    spec = world.persona("torn-model", model=model)
    said = world.call("create", calls.CreateRequest(spec=str(spec), runs=str(world.runs), models=str(world.models)))
    assert isinstance(said, calls.Failure)
    assert "model.safetensors" in said.message


def test_target_modules_that_are_not_there(world: World) -> None:
    spec = world.persona("targets", method={"target_modules": ["no_such_proj"]})
    said = world.call("create", calls.CreateRequest(spec=str(spec), runs=str(world.runs), models=str(world.models)))
    assert isinstance(said, calls.Failure)
    assert "no_such_proj" in said.message and "method.target_modules" in said.remedy


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(world: World) -> None:
    spec = world.persona("disk", training={"max_steps": 500, "save_every": 1, "keep": 1000})
    elsewhere = World.__new__(World)
    elsewhere.__dict__ |= world.__dict__ | {"runs": world.root / "small"}
    with small_disk(elsewhere.runs, "4m"):
        run = elsewhere.train(spec)
        said = wait_for(run, "failed")
        assert_told(said, "disk_full")
        newest = run.checkpoint_steps()[0]
        assert durable.check_seal(run.checkpoint(newest)) == [], "what was saved before is whole"
        assert said.resumable


def test_a_trainer_that_hangs_is_ended(world: World) -> None:
    run = world.train(world.persona("hang", training={"max_steps": 100_000, "save_every": 5, "hang_minutes": 0.5}))
    wait_for_step(run, 6)
    kill(trainer_pid(run), signal.SIGSTOP)
    said = wait_for(run, "failed")
    assert_told(said, "hang")
    assert said.resumable


def test_nobody_is_silent_while_the_supervisor_itself_was_away(tmp_path: Path) -> None:
    """Slurm suspends a job, or a laptop sleeps: then the trainer was not there either."""
    attempt = RunDir(tmp_path).attempt(1)
    attempt.path.mkdir(parents=True)
    attempt.heartbeat.touch()
    an_hour_ago = time.time() - 3600
    os.utime(attempt.heartbeat, (an_hour_ago, an_hour_ago))
    spec = Spec(model=Model(base="demo"), data=Data(train="x"))
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        watched = supervisor.Watched(process, attempt, looked=an_hour_ago)
        one = supervisor.Supervisor(RunDir(tmp_path), spec, tmp_path)
        one._listen(watched)
        assert not watched.killed and process.poll() is None
        watched.back = 0.0
        one._listen(watched)
        assert watched.hung > 3000 and process.wait(10) == -signal.SIGKILL


def test_no_secret_reaches_the_trainer_or_the_run(world: World) -> None:
    canary = "hf_" + "canaryCANARYcanary1234567890abcdefgh"
    world.env = world.env | {"HF_TOKEN": canary, "MY_API_KEY": canary, "WANDB_API_KEY": canary}
    try:
        run = world.train(world.persona("secret", training={"max_steps": 100_000}))
        wait_for_step(run, 1)
        environment = Path(f"/proc/{trainer_pid(run)}/environ").read_bytes()
        command = Path(f"/proc/{trainer_pid(run)}/cmdline").read_bytes()
        assert canary.encode() not in environment + command
        (run.control / "stop").touch()
        wait_for(run, "interrupted")
        for file in run.path.rglob("*"):
            if file.is_file():
                assert canary.encode() not in file.read_bytes(), file
    finally:
        for name in ("HF_TOKEN", "MY_API_KEY", "WANDB_API_KEY"):
            del world.env[name]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "oom_cuda"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "oom_cuda"),
        (MemoryError(), "oom_host"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), "oom_host"),
        (OSError(28, "No space left on device"), "disk_full"),
        (OSError(122, "Disk quota exceeded"), "disk_full"),
        (MoltingError("Bad.", reason="bad_data"), "bad_data"),
        (KeyError("x"), "exception"),
    ],
)
def test_reasons(error: Exception, reason: str) -> None:
    said = death.of_exception(error)
    assert said.reason == reason
    assert said.evidence.message
    assert type(error).__name__ in said.evidence.traceback


def test_a_kill_on_a_starved_machine_is_put_down_to_memory() -> None:
    assert death.of_exit(-9, said=None, starved=True).reason == "oom_host"
    assert death.of_exit(-9, said=None, starved=False).reason == "killed"
    assert death.of_exit(-11, said=None, starved=True).evidence.signal == "SIGSEGV"
    assert death.of_exit(3, said=None, starved=False).reason == "exception"
