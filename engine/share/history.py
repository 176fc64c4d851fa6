"""The verb `import-history`: what a `trainer_state.json` of transformers recorded becomes a run with its curves."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

from engine.contract import calls, durable, events, lifecycle, outputs, rundir
from engine.contract.errors import MoltingError
from engine.contract.journal import JournalWriter
from engine.contract.plainfile import read_plain
from engine.contract.rundir import RunDir
from engine.contract.safe import safe
from engine.evaluate.importing import NOT_RECORDED

LIMIT = 256 << 20  # bytes
_MOST = 10**9  # steps, as in a spec
_GUESSED_PACE = 1.0  # seconds a step where the file does not tell


@dataclass
class Recorded:
    """What the file tells. `seconds` a step, None where it says nothing of time."""

    metrics: list[events.Metric] = field(default_factory=list)
    evals: list[events.Eval] = field(default_factory=list)
    steps: int = 0
    seconds: float | None = None
    left_out: int = 0


def import_history(request: outputs.TrainerStateRequest, tell: Callable[[calls.Line], None]) -> outputs.ImportedHistory:
    """Read the file, make the run. MoltingError (code 2) where it is no such file, or holds no step."""
    name = request.name.strip()
    if not name:
        raise MoltingError("The imported run needs a name.", remedy="Give it with --name.", code=2)
    file = Path(request.file)
    found = recorded(_load(file))
    if not found.metrics and not found.evals:
        raise _not_one(file, "its log_history tells of no step")
    run = _make(Path(request.runs), name, file, found)
    problems = []
    if found.left_out:
        entries = "1 entry of its log tells" if found.left_out == 1 else f"{found.left_out:,} entries of its log tell"
        problems.append(f"{entries} of no step, so left out.")
    if found.seconds is None:
        problems.append("The file does not tell how long it took: a second a step is assumed.")
    return outputs.ImportedHistory(
        run=run.id,
        path=str(run.path),
        name=name,
        steps=len(found.metrics),
        evals=len(found.evals),
        left_out=found.left_out,
        problems=problems,
    )


def _load(file: Path) -> dict[str, Any]:
    """The object in the file; values that are not finite, which transformers writes as NaN, are None."""
    try:
        value = json.loads(read_plain(file, LIMIT), parse_constant=lambda _: None)
    except FileNotFoundError:
        raise MoltingError(f"{_shown(file)} does not exist.", code=2) from None
    except MoltingError as error:
        raise MoltingError(error.message, remedy=error.remedy, code=2) from None
    except (ValueError, RecursionError):
        raise _not_one(file, "it is not JSON") from None
    if not isinstance(value, dict) or not isinstance(value.get("log_history"), list):
        raise _not_one(file, "it has no log_history")
    return value


def _not_one(file: Path, why: str) -> MoltingError:
    return MoltingError(
        f"{_shown(file)} is not a trainer_state.json with a history: {why}.",
        remedy="The Trainer of transformers writes one into every checkpoint folder.",
        code=2,
    )


def _shown(file: Path) -> str:
    return safe(str(file), keep_newlines=False)


def recorded(state: dict[str, Any]) -> Recorded:
    """Steps and evaluations of a trainer's state, each step once: the last word on it counts. Pure."""
    found, metrics, evals = Recorded(), dict[int, events.Metric](), dict[int, events.Eval]()
    rows = _whole(state.get("train_batch_size")) or 0
    for entry in state["log_history"]:
        step = _whole(entry.get("step")) if isinstance(entry, dict) else None
        if step is None:
            found.left_out += 1
        elif "loss" in entry:
            metrics[step] = _metric(step, entry, rows)
        elif "eval_loss" in entry:
            seconds = _number(entry.get("eval_runtime")) or 0.0
            evals[step] = events.Eval(step=step, loss=_number(entry["eval_loss"]), rows=0, seconds=seconds)
        elif (runtime := _number(entry.get("train_runtime"))) and step:  # the closing summary
            found.seconds = runtime / step if runtime > 0 else None
        else:
            found.left_out += 1
    found.metrics = [metrics[step] for step in sorted(metrics)]
    found.evals = [evals[step] for step in sorted(evals)]
    for metric in found.metrics:
        metric.seconds = found.seconds or _GUESSED_PACE
    _mark_best(found.evals)
    last = max([*metrics, *evals], default=0)
    found.steps = max(last, _whole(state.get("max_steps")) or 0)
    return found


def _metric(step: int, entry: dict[str, Any], rows: int) -> events.Metric:
    return events.Metric(
        step=step,
        loss=_number(entry["loss"]),
        grad_norm=_number(entry.get("grad_norm")),
        lr=_number(entry.get("learning_rate")) or 0.0,
        tokens=int(_number(entry.get("num_tokens")) or 0),
        learned=0,
        rows=rows,
        seconds=0.0,
        epoch=_number(entry.get("epoch")) or 0.0,
    )


def _mark_best(evals: list[events.Eval]) -> None:
    least = math.inf
    for event in evals:
        if event.loss is not None and event.loss < least:
            event.best, least = True, event.loss


def _number(value: Any) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e300:
        return None
    return float(value) if math.isfinite(value) else None


def _whole(value: Any) -> int | None:
    """A step: a whole number of at least 0, else None."""
    number = _number(value)
    return int(number) if number is not None and 0 <= number <= _MOST and number == int(number) else None


def _make(runs: Path, name: str, file: Path, found: Recorded) -> RunDir:
    """The run: a spec that says what is known, the file itself, its events, and how it stands."""

    def fill(run: RunDir) -> None:
        durable.write_new(run.spec, _spec(name, found).encode())
        shutil.copyfile(file, run.inputs / "trainer_state.json")
        attempt = run.attempt(1)
        attempt.path.mkdir(mode=0o700)
        log = JournalWriter(attempt.events)
        told = list(_history(found, file.stat().st_mtime))
        for number, event in enumerate(told):
            event.seq = number
            log.write(events.encode(event))
        log.close()
        began = lifecycle.Transition(state="queued", attempt=1, t=told[0].t)
        # Attempt 0: of an imported run nothing was attempted here.
        why = f"imported: the history of {found.steps} steps; nothing was trained here"
        done = lifecycle.Transition(state="finished", attempt=0, t=time.time(), why=why)
        durable.write_new(run.lifecycle, lifecycle.encode(began) + lifecycle.encode(done))

    try:
        return rundir.create(runs, name, fill)
    except OSError as error:
        raise durable.explain(error, "make the imported run") from error


def _history(found: Recorded, ended: float) -> Iterator[events.Event]:
    """The events in order, at times counted back from the moment when the file was written."""
    pace = found.seconds or _GUESSED_PACE
    told: list[events.Metric | events.Eval] = [*found.metrics, *found.evals]
    told.sort(key=lambda event: (event.step, isinstance(event, events.Eval)))
    last = told[-1].step
    began = ended - last * pace
    yield events.Start(
        t=began,
        step=0,
        steps=found.steps,
        device="another machine",
        precision="precision unknown",
        path="imported",
        trainable=0,
        parameters=0,
    )
    for event in told:
        event.t = began + event.step * pace
        yield event
    losses = [metric.loss for metric in found.metrics if metric.loss is not None]
    yield events.End(
        t=ended,
        step=last,
        outcome="finished",
        mean_loss=sum(losses) / len(losses) if losses else None,
        last_loss=found.metrics[-1].loss if found.metrics else None,
        eval_loss=found.evals[-1].loss if found.evals else None,
        why="imported",
    )


def _spec(name: str, found: Recorded) -> str:
    """A spec that holds no more than is known; keys that are not here were not recorded, whatever their default."""
    known: dict[str, Any] = {
        "name": name[:200],
        "model": {"base": NOT_RECORDED},
        "data": {"train": NOT_RECORDED},
        "training": {"max_steps": found.steps},
    }
    return "# Imported: the model was trained elsewhere; keys that are not here were not recorded.\n" + tomlkit.dumps(
        known
    )
