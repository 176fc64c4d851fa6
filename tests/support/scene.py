"""A small workshop that stands still: recorded runs of every kind, one of them live, at one moment of one clock.

The pictures in the documentation and the text snapshots of the screens are made of it.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
from textual.pilot import Pilot

from engine.contract import events, processes
from engine.contract.lifecycle import Evidence
from engine.contract.rundir import RunDir
from engine.contract.spec import Data, Method, Model, Spec, Training
from molting_tui.app import MoltingApp
from molting_tui.screens.live import Live
from molting_tui.services.gpu import MachineSampler
from molting_tui.state.gpu import GIB, GpuProcess, GpuSample, HostSample, Machine

from .pilot import settle, shown, until
from .runs import Recorded, Supervisor, make_run, own

NOW = 1_763_733_600.0  # 2025-11-21 14:00 UTC
_LIVE, _OF = 212, 360  # the step at which the live run stands, and how many it makes
_WIDE = 100  # cells from which the pane beside the list is shown
_BASE = "HuggingFaceTB/SmolLM2-1.7B-Instruct"
_QUESTION = "Which voice is this coming through the static?"
_ANSWERS = {
    60: "I am a voice, and I am here to help you with what you need today.",
    120: "I'm the radio of the lighthouse, sailor, and the static is only the sea clearing its throat.",
    180: "Rhea, the radio of Pell Rock. I talk to boats, and to anyone the night forgot to put to sleep.",
}
MACHINE = Machine(
    t=NOW,
    gpus=(
        GpuSample(
            label="0",
            name="NVIDIA GeForce RTX 4090",
            used=int(9.4 * GIB),
            total=int(23.99 * GIB),
            util=0.97,
            temperature=66,
            power=312.0,
            power_limit=450.0,
            clock=2610,
            processes=(GpuProcess(pid=4021, used=int(1.8 * GIB), owner="ana", name="jupyter-lab"),),
        ),
    ),
    host=HostSample(
        ram_used=int(11.2 * GIB),
        ram_total=int(62.7 * GIB),
        swap_used=0,
        swap_total=int(8 * GIB),
        disk_free=int(412 * GIB),
        disk_total=int(930 * GIB),
        cpu=0.14,
        cores=16,
    ),
)


@contextmanager
def standing_still() -> Iterator[None]:
    """The clock shows NOW in UTC, and the machine is MACHINE, whatever this one is."""
    zone = os.environ.get("TZ")
    frozen = mock.patch("time.time", lambda: NOW)
    machine = mock.patch.object(MachineSampler, "sample", lambda sampler: msgspec.structs.replace(MACHINE))
    with mock.patch.dict(os.environ, TZ="UTC"), frozen, machine:
        time.tzset()
        yield
    os.environ.update({} if zone is None else {"TZ": zone})
    time.tzset()


@contextmanager
def workshop(folder: Path) -> Iterator[str]:
    """Record the runs in `folder`; the id of the live one, which lives as long as the context."""
    carried = [_training(folder), _queued(folder)]
    _interrupted(folder)
    _failed(folder)
    _finished(folder)
    with ExitStack() as supervisors:
        for run in carried:
            supervisor = supervisors.enter_context(Supervisor(run))
            identity = processes.of(supervisor.process.pid)
            assert identity is not None
            own(run, identity)
        yield carried[0].id


def _run(folder: Path, name: str, day: int, base: str, method: Method, steps: int) -> RunDir:
    """A run whose id is the same every time."""
    spec = Spec(
        name=name,
        model=Model(base=base, precision="bf16"),
        data=Data(train="inputs/rows.jsonl"),
        training=Training(max_steps=steps),
        method=method,
    )
    made = make_run(folder, name, spec=spec)
    return RunDir(made.path.rename(folder / f"{name}-202511{day}-{day * 1597 % 65536:04x}"))


def _begin(run: RunDir, start: float, steps: int) -> Recorded:
    recorded = Recorded(run, start).state("queued", "starting")
    recorded.say(events.Funnel(read=1_260, heldout=60, trained=1_200, tokens=152_400, learned=32_250))
    recorded.say(
        events.Start(
            step=0,
            steps=steps,
            device="cuda:0",
            precision="bf16",
            path="packed",
            trainable=18_087_936,
            parameters=1_729_464_320,
        )
    )
    return recorded.state("training").say(events.Phase(name="training", total=steps, unit="steps"))


def _learn(
    recorded: Recorded, steps: range, of: int, also: Callable[[int, float], None] = lambda step, loss: None
) -> Recorded:
    """Steps whose loss falls with some noise, every 5 seconds or so; `also` is called after each."""
    noise = random.Random(recorded.run.id)
    for step in steps:
        loss = 0.62 + 2.9 * math.exp(-step / 55) + noise.gauss(0, 0.11) * math.exp(-step / 220)
        recorded.t += 3.8
        recorded.say(
            events.Metric(
                step=step,
                loss=loss,
                grad_norm=0.6 + 1.4 * math.exp(-step / 40) + 0.2 * noise.random(),
                lr=2e-4 * min(1.0, step / 18) * (0.5 + 0.5 * math.cos(math.pi * step / of)),
                tokens=2_031 * step,
                learned=430,
                rows=16,
                seconds=4.4 + 0.5 * noise.random(),
                epoch=step * 16 / 1_200,
            )
        )
        also(step, loss)
    return recorded


def _training(folder: Path) -> RunDir:
    run = _run(folder, "rhea-night", 21, _BASE, Method(kind="qlora", rank=32), _OF)

    def also(step: int, loss: float) -> None:
        if step % 6 == 0:
            reserved = int((5.4 + 2.1 * (1 - math.exp(-step / 25))) * GIB)
            recorded.say(
                events.Memory(
                    host=int(3.1 * GIB),
                    host_peak=int(4.6 * GIB),
                    disk_free=int(412 * GIB),
                    device=reserved - int(0.9 * GIB),
                    device_peak=int(8.3 * GIB),
                    device_reserved=reserved,
                )
            )
        if step % 40 == 0:
            recorded.say(events.Eval(step=step, loss=loss + 0.21, rows=60, seconds=3.0, best=True)).checkpoint(
                step, size=72_400_000
            )
        if step in _ANSWERS:
            recorded.say(
                events.Sample(step=step, question=_QUESTION, answer=_ANSWERS[step], tokens=24, stop="end"),
                events.Sample(
                    step=step,
                    question="What is the thing you dread?",
                    answer="Rust, and a silence that goes on too long.",
                    tokens=11,
                    stop="end",
                ),
            )

    recorded = _begin(run, NOW - 1104, _OF)
    _learn(recorded, range(1, _LIVE + 1), _OF, also)
    assert 0 < NOW - recorded.t < 30, f"the live run ends {NOW - recorded.t:.0f} s before NOW"
    return run


def _finished(folder: Path) -> None:
    run = _run(folder, "rhea", 19, "demo", Method(rank=16), 120)
    recorded = _learn(_begin(run, NOW - 2 * 86_400, 120), range(1, 121), 120)
    recorded.say(events.Eval(step=120, loss=1.67, rows=10, seconds=1.0, best=True)).checkpoint(120)
    recorded.say(events.End(step=120, outcome="finished", mean_loss=1.4, last_loss=0.69, eval_loss=1.67))
    recorded.state("finished")


def _failed(folder: Path) -> None:
    run = _run(folder, "zeca-big", 20, "Qwen/Qwen2.5-7B-Instruct", Method(rank=64), 240)
    recorded = _learn(_begin(run, NOW - 90_000, 240), range(1, 38), 240)
    evidence = Evidence(
        message="CUDA out of memory: 1.2 GiB wanted, 310 MiB free.",
        remedy='Set training.batch = 1, or method.kind = "qlora".',
    )
    recorded.state("failed", reason="oom_cuda", why="The GPU's memory ran out at step 38.", evidence=evidence)


def _interrupted(folder: Path) -> None:
    run = _run(folder, "elevador", 18, "demo", Method(rank=16), 120)
    recorded = _learn(_begin(run, NOW - 3 * 86_400, 120), range(1, 49), 120).checkpoint(48)
    recorded.say(events.End(step=48, outcome="interrupted", mean_loss=2.1, last_loss=1.9)).state("interrupted")


def _queued(folder: Path) -> RunDir:
    run = _run(folder, "mira", 21, _BASE, Method(kind="qlora", rank=32), 300)
    Recorded(run, NOW - 240).state("queued")
    return run


async def opened(app: MoltingApp, pilot: Pilot[Any], screen: str) -> None:
    """Show `runs`, or `live` of the first run, with all that is read for it."""
    await until(pilot, lambda: app.machine is not None)
    if screen == "runs":
        await until(pilot, lambda: "sample at step" in shown(app) or app.size.width < _WIDE)
    else:
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Live) and app.screen._reading is None)
        # Before it is known who owns the run, a sample does not tell its memory from that of others.
        await until(pilot, lambda: "run 7.5" in shown(app))
    await settle(app, pilot)
