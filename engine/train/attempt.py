"""One attempt at a run: the trainer process from its start to its last word.

Its exit status tells the supervisor how it ended: 0 with a sealed adapter, 75 when told to stop, 1 with the reason in
`death.json`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from engine.contract import durable, events, processes
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec

from . import death
from .control import Control
from .recorder import Recorder
from .status import FAILED, FINISHED, INTERRUPTED


class Stopped(BaseException):
    """Told to stop while there is nothing to save yet."""


def main(path: str, number: str) -> int:
    """Run attempt `number` of the run at `path`; returns the exit status."""
    os.umask(0o077)
    run = RunDir(Path(path))
    attempt = run.attempt(int(number))
    lock = processes.FileLock(attempt.lock)
    if not lock.acquire():
        print(f"Another trainer works on attempt {number} of {run.id}.", file=sys.stderr)
        return FAILED
    recorder, control = Recorder(attempt), Control(run)
    _hear_signals(recorder, control)
    processes.die_with_parent(signal.SIGTERM)
    try:
        return _train(run, recorder, control, token=_secret())
    except Stopped:
        recorder.emit(events.End(step=0, outcome="interrupted", why="stopped before the first step"), durable=True)
        return INTERRUPTED
    except Exception as error:
        _leave_word(attempt.death, error)
        return FAILED
    finally:
        # Everything is said: a signal while the interpreter winds down must not change how this ended.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(OSError):  # a full disk must not hide why it ended
            recorder.close()


def _hear_signals(recorder: Recorder, control: Control) -> None:
    """SIGTERM (also sent when the supervisor dies) finishes the step and saves; a closed terminal is no reason."""

    def stop(*_: object) -> None:
        control.signalled = True
        if recorder.phase_name in {"importing", "fetching", "encoding", "loading"}:
            raise Stopped

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _secret() -> str:
    """The hub's token, sent through stdin because an environment can be read by others of this user."""
    line = sys.stdin.readline()
    return str(json.loads(line).get("hf_token", "")) if line.strip() else ""


def _leave_word(path: Path, error: Exception) -> None:
    said = death.of_exception(error)
    print(said.evidence.traceback, file=sys.stderr, flush=True)
    if said.reason == "oom_cuda":
        import torch

        said.evidence.device_free = torch.cuda.mem_get_info()[0]
    with contextlib.suppress(OSError):
        death.write(path, said)


def _train(run: RunDir, recorder: Recorder, control: Control, *, token: str) -> int:
    """Everything from the spec to the sealed adapter."""
    recorder.phase("importing")
    # Imported only now, as its own phase: these take seconds.
    from engine.models.quiet import quiet_libraries

    quiet_libraries()
    from . import assemble, checkpoint

    made = assemble.trainer(run, recorder, control, token=token)
    steps = int(made.spec.training.max_steps)
    step, path, refused = checkpoint.newest_valid(run)
    for sentence in refused:
        recorder.warn("checkpoint-refused", sentence, "An older sealed checkpoint is used.")
    checkpoint.set_aside(run, newer_than=step)
    if path:
        made.restore(path)
    recorder.emit(assemble.start_event(made, step), durable=True)
    recorder.phase("training", total=steps, unit="steps", done=step)
    if step < steps:
        made.train(resume_from_checkpoint=str(path) if path else None)
    elif path:
        made._load_from_checkpoint(str(path))  # every step was made; only the sealing is missing
    if not made.rows.count:
        recorder.emit(made.rows.funnel())  # of a stream, only now known
    _require_steps(made.state.global_step if step < steps else step)
    _say_memory(run, made, recorder, steps=made.progress.step - step)
    if made.watch.stopped:
        recorder.emit(_end(made, "interrupted"), durable=True)
        return INTERRUPTED
    recorder.phase("sealing")
    _seal_adapter(run, made)
    recorder.emit(_end(made, "finished"), durable=True)
    return FINISHED


def _say_memory(run: RunDir, made: Any, recorder: Recorder, *, steps: int) -> None:
    """The peak, beside what was forecast; the first step alone is not yet the peak."""
    from . import memory

    said = memory.event(run.path, made.args.device)
    recorder.emit(said)
    if steps > 1 and made.foreseen:
        made.foreseen.learn(said, made.pace)


def _require_steps(made_steps: int) -> None:
    if made_steps == 0:
        raise MoltingError(
            "Training ended without a single step.",
            remedy="See the funnel of rows: what was read, dropped and why.",
            reason="bad_data",
        )


def _end(made: Any, outcome: Any) -> events.End:
    return events.End(
        step=made.progress.step,
        outcome=outcome,
        mean_loss=made.mean_loss,
        last_loss=made.last_loss,
        eval_loss=made.eval_loss,
        why=made.why,
    )


def _seal_adapter(run: RunDir, made: Any) -> None:
    """Write the final weights; with `keep_best`, those of the best evaluation."""
    from engine.models.adapters import BaseRecord, record_base

    from .trainer import copy_tokenizer, disk_full_said, save_weights

    spec: Spec = made.spec
    step, best = made.progress.step, made.progress.best_step
    if spec.training.keep_best and best is not None and not durable.check_seal(run.checkpoint(best)):
        made._load_from_checkpoint(str(run.checkpoint(best)))
        step = best
    staging = run.path / f".adapter-{os.getpid()}"
    staging.mkdir(mode=0o700)
    with disk_full_said(run):
        save_weights(made.model, staging)
        record_base(staging, BaseRecord(spec.model.base, spec.model.revision, spec.model.fingerprint))
        if spec.method.kind == "full":
            copy_tokenizer(made.base, staging)  # so that the folder is a model that others can load
        durable.seal(staging, run.adapter, step=step, base=spec.model.fingerprint)
