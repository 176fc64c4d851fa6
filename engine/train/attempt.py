"""One attempt at a run: the trainer process from its start to its last word.

Its exit status tells the supervisor how it ended: 0 with a sealed adapter, 75 when told to stop, 1 with the reason in
`death.json`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from engine.contract import durable, events, processes, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec

from . import death, ranks, torchrun
from .control import Control
from .ranks import Ranks
from .recorder import Recorder, Silent
from .status import FAILED, FINISHED, INTERRUPTED

# Phases
NOTHING_TO_SAVE = frozenset({"importing", "fetching", "encoding", "waiting for memory", "loading", "indexing"})


class Stopped(BaseException):
    """Told to stop while there is nothing to save yet."""


def main(path: str, number: str) -> int:
    """Run attempt `number` of the run at `path`; returns the exit status."""
    os.umask(0o077)
    run = RunDir(Path(path))
    attempt = run.attempt(int(number))
    one_of = ranks.of_environment()
    ranks.take_device()
    lock = processes.FileLock(attempt.lock)
    if one_of.first and not lock.acquire():
        print(f"Another trainer works on attempt {number} of {run.id}.", file=sys.stderr)
        return FAILED
    recorder, control = Recorder(attempt) if one_of.first else Silent(), Control(run)
    _hear_signals(recorder, control)
    processes.die_with_parent(signal.SIGTERM)
    try:
        return _train(run, recorder, control, one_of)
    except Stopped:
        recorder.emit(events.End(step=0, outcome="interrupted", why="stopped before the first step"), durable=True)
        return INTERRUPTED
    except Exception as error:
        _leave_word(torchrun.word_file(attempt, one_of.rank) if one_of.several else attempt.death, error)
        return FAILED
    finally:
        # Everything is said: a signal while the interpreter winds down must not change how this ended.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(OSError):  # a full disk must not hide why it ended
            recorder.close()


def _hear_signals(recorder: Recorder, control: Control) -> None:
    """SIGTERM (also sent when the supervisor dies) finishes the step and saves; a closed terminal is no reason."""

    def stop(*_: object) -> None:
        again, control.signalled = control.signalled, True
        if not again and recorder.phase_name in NOTHING_TO_SAVE:
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


def _train(run: RunDir, recorder: Recorder, control: Control, one_of: Ranks) -> int:
    """Everything from the spec to the sealed adapter."""
    recorder.phase("importing")
    token = _secret() if one_of.first else ""
    # Before the supervisor finds that nothing moves: then it is known who was not heard.
    ranks.meet(one_of, patience=0.8 * 60 * summary.load_spec(run).training.hang_minutes)
    # Imported only now, as its own phase: these take seconds.
    from engine.models.quiet import quiet_libraries

    quiet_libraries()
    from . import assemble

    made = assemble.trainer(run, recorder, control, token=one_of.told(token), ranks=one_of)
    steps = int(made.spec.training.max_steps)
    step, path = one_of.told(_begin_at(run, recorder) if one_of.first else (0, None))
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
    if not made.watch.stopped:
        recorder.phase("sealing")
        _seal_adapter(run, made)
    recorder.emit(_end(made, "interrupted" if made.watch.stopped else "finished"), durable=True)
    one_of.leave()
    return INTERRUPTED if made.watch.stopped else FINISHED


def _begin_at(run: RunDir, recorder: Recorder) -> tuple[int, Path | None]:
    """The step and the checkpoint to go on from; what must not be used is said, and laid aside."""
    from . import checkpoint

    step, path, refused = checkpoint.newest_valid(run)
    for sentence in refused:
        recorder.warn("checkpoint-refused", sentence, "An older sealed checkpoint is used.")
    checkpoint.set_aside(run, newer_than=step)
    return step, path


def _say_memory(run: RunDir, made: Any, recorder: Recorder, *, steps: int) -> None:
    """The peak, beside what was forecast; the first step alone is not yet the peak."""
    from . import memory

    said = memory.of_all(made.ranks.gathered(memory.event(run.path, made.args.device)))
    recorder.emit(said)
    if steps > 1 and made.foreseen and not made.ranks.several:  # forecasts are of one process
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

    from .trainer import disk_full_said, save_weights

    spec: Spec = made.spec
    step, best = made.progress.step, made.progress.best_step
    if spec.training.keep_best and best is not None and not durable.check_seal(run.checkpoint(best)):
        made._load_from_checkpoint(str(run.checkpoint(best)))
        step = best
    if not made.ranks.first:
        return
    staging = run.path / f".adapter-{os.getpid()}"
    staging.mkdir(mode=0o700)
    with disk_full_said(run):
        save_weights(made.model, staging)
        record_base(staging, BaseRecord(spec.model.base, spec.model.revision, spec.model.fingerprint))
        if spec.method.kind == "full":
            _copy_tokenizer(made.base, staging)  # so that the folder is a model that others can load
        durable.seal(staging, run.adapter, step=step, base=spec.model.fingerprint)


def _copy_tokenizer(base: Path, folder: Path) -> None:
    """What a tokenizer consists of, from one model folder into another."""
    for pattern in ("tokenizer*", "special_tokens_map.json", "chat_template.jinja", "vocab.*", "merges.txt"):
        for file in base.glob(pattern):
            shutil.copyfile(file, folder / file.name)
