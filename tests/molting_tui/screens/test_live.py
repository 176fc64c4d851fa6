from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.contract import events
from engine.contract.lifecycle import Evidence
from molting_tui.app import MoltingApp
from molting_tui.look import Look
from molting_tui.screens.dialog import Confirm
from molting_tui.screens.live import Live
from molting_tui.services import gpu as gpu_service
from molting_tui.widgets.plot import Plot
from tests.support.live_screen import now_says, opened, recorded_step, training
from tests.support.nvml import GIB, NvmlStub, gpu, needs_compiler
from tests.support.pilot import drive, settle, shown, until
from tests.support.runs import Recorded, Supervisor, finished_run, make_run

HOSTILE = "\x1b]52;c;aGk=\x07[@click=app.quit]x[/] [/] \x9b2J\u202eevil\u202c"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_a_finished_run_is_there_at_once_with_all_its_panes(folder: Path) -> None:
    finished_run(folder)

    async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
        screen = shown(app)
        assert "Live · rhea" in screen
        assert "✓ finished" in screen and "100/100" in screen and "loss 0.04" in screen
        assert "best eval 0.5 at step 100" in screen and "saved at step 50" in screen
        assert "eval 0.5 ↓" in screen  # in the title of the plot
        assert all(f"{title} " in screen for title in ("lr", "grad norm", "tokens/s"))
        assert "Q1 Who are you?" in screen and "I'm Rhea." in screen
        assert "step 50 sealed" in screen
        assert "S stop" not in screen

    opened(folder, look)


def test_what_happens_is_seen_while_it_happens(folder: Path) -> None:
    recorded = training(folder)
    with Supervisor(recorded.run):

        async def watch(app: MoltingApp, pilot: Pilot[Any]) -> None:
            assert "● training" in shown(app) and "30/100" in shown(app)
            assert "2:20 left" in shown(app) or "2:18 left" in shown(app) or "2:19 left" in shown(app)
            assert "ends " in shown(app)
            recorded.steps(range(31, 41)).say(events.Phase(name="evaluating", done=2, total=6, unit="rows", eta=8.0))
            await now_says(app, pilot, "40/100")
            await now_says(app, pilot, "evaluating 2/6")
            recorded.say(
                events.Sample(step=40, question="Who are you?", answer="Rhea of the rock.", tokens=4, stop="end")
            )
            await now_says(app, pilot, "Rhea of the rock.")
            recorded.say(events.Warn(id="w", message="The warm-up is long.", remedy="Set training.warmup."))
            await now_says(app, pilot, "! warning  The warm-up is long.  Set training.warmup.")

        opened(folder, watch)


def test_a_run_that_failed_says_why_and_what_to_do(folder: Path) -> None:
    evidence = Evidence(message="CUDA ran out of memory.", remedy="Use a smaller batch.")
    training(folder).state("failed", reason="oom_cuda", why="CUDA ran out of memory.", evidence=evidence)

    async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert "✗ failed" in shown(app) and "(oom_cuda)" in shown(app)
        assert "✗ error  The run failed: CUDA ran out of memory.  Use a smaller batch." in shown(app)

    opened(folder, look)


def test_a_lost_loss_is_an_error_in_words(folder: Path) -> None:
    recorded = training(folder)
    recorded.say(
        events.Metric(
            step=31, loss=None, grad_norm=None, lr=1e-3, tokens=3100, learned=40, rows=4, seconds=2.0, epoch=2
        )
    )
    with Supervisor(recorded.run):

        async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
            assert "✗ error  The loss is not a number at step 31." in shown(app)
            assert "loss not a number" in shown(app)

        opened(folder, look)


def test_what_is_new_is_told_once_and_what_stood_before_is_not(folder: Path) -> None:
    recorded = training(folder)
    recorded.say(events.Warn(id="old", message="This was known.", remedy=""))
    with Supervisor(recorded.run):

        async def watch(app: MoltingApp, pilot: Pilot[Any]) -> None:
            toasts: list[str] = []
            app.tell = lambda said, severity="information": toasts.append(f"{severity}: {said}")  # type: ignore[method-assign]
            recorded.say(events.Warn(id="new", message="The data repeats itself.", remedy="Look at the rows."))
            recorded.say(events.Metric(step=31, loss=None, grad_norm=None, lr=1e-3, tokens=1, learned=1, rows=1,
                                       seconds=1.0, epoch=1.0))  # fmt: skip
            await until(pilot, lambda: len(toasts) >= 2)
            recorded.say(events.Warn(id="new", message="The data repeats itself.", remedy="Look at the rows."))
            await until(pilot, lambda: sum("repeats" in each.text for each in app.screen.live.log) == 2)
            await settle(app, pilot)
            await settle(app, pilot)
            assert "warning: rhea: The data repeats itself." in toasts
            assert sum(each.startswith("error: rhea: ") for each in toasts) == 1  # the loss
            assert len(toasts) == 2 and "This was known" in shown(app)

        opened(folder, watch)


@pytest.mark.parametrize("size", [(80, 24), (60, 15), (40, 10), (120, 40), (250, 70)])
def test_every_size_shows_state_and_loss(folder: Path, size: tuple[int, int]) -> None:
    recorded = training(folder)
    with Supervisor(recorded.run):

        async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
            lines = shown(app).splitlines()
            assert "● training" in lines[1] and "30/100" in lines[1]
            assert any(line.lstrip(" ─").startswith("loss 0.133") for line in lines)
            assert all(len(line) <= size[0] for line in lines)
            assert len(lines) == size[1]

        opened(folder, look, size=size)


def test_a_small_terminal_has_one_line_each_of_memory_sample_and_log(folder: Path) -> None:
    finished_run(folder)

    async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: app.machine is not None)
        await settle(app, pilot)
        lines = shown(app).splitlines()
        assert "GiB" in lines[-5]
        assert lines[-4].lstrip().startswith("samples") and "I'm Rhea." in lines[-4]
        assert lines[-3].lstrip().startswith("log") and "finished" in lines[-3]
        assert "▸ " in lines[-2], "the strip of steps"
        assert "lr 0.001 · grad 1" in lines[2]

    opened(folder, look, size=(80, 24))


def test_hostile_text_does_nothing(folder: Path) -> None:
    recorded = training(folder, steps=3)
    recorded.say(events.Sample(step=3, question=HOSTILE, answer=HOSTILE * 3, tokens=1, stop=HOSTILE))
    recorded.say(events.Log(message=HOSTILE), events.Warn(id=HOSTILE, message=HOSTILE, remedy=HOSTILE))
    recorded.say(events.Phase(name=HOSTILE), events.Memory(host=-(10**30), host_peak=10**30, disk_free=-1))

    async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await settle(app, pilot)
        screen = shown(app)
        assert "[@click=app.quit]x" in screen
        assert not any(sign in screen for sign in ("\x1b", "\x07", "\x9b", "\u202e"))
        for pane in ("samples", "log", "memory"):
            app.screen.query_one(f"#{pane}").focus()
            await pilot.press("z")
            await settle(app, pilot)
            await pilot.press("z")
        await pilot.click("#samples", offset=(4, 2))
        assert app.is_running and isinstance(app.screen, Live)

    with Supervisor(recorded.run):
        opened(folder, look)


def test_stop_asks_once_and_then_drops_the_file(folder: Path) -> None:
    recorded = training(folder)
    with Supervisor(recorded.run):

        async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
            assert "S stop" in shown(app)
            await pilot.press("S")
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            await pilot.press("tab", "enter")
            await until(pilot, lambda: (recorded.run.control / "stop").exists())
            await pilot.press("w")
            await until(pilot, lambda: (recorded.run.control / "save-now").exists())

        opened(folder, play)


def test_the_footer_follows_the_state(folder: Path) -> None:
    recorded = training(folder)
    with Supervisor(recorded.run):

        async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
            recorded.state("stopping", "interrupted")
            await now_says(app, pilot, "■ interrupted")
            await now_says(app, pilot, "r resume")
            assert "S stop" not in shown(app)

        opened(folder, play)


def test_empty_states_say_what_comes_or_what_to_press(folder: Path) -> None:
    Recorded(make_run(folder, "queued")).state("queued")

    async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert "No steps yet: queued." in shown(app)
        assert "No samples: the spec names no probe questions. e edits a copy" in shown(app).replace("\n", " ")

    opened(folder, look, size=(200, 40))


def test_ascii_all_of_it(folder: Path) -> None:
    finished_run(folder)

    async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: app.machine is not None)
        await settle(app, pilot)
        painted = [filtered(app, y) for y in range(app.size.height)]
        assert all(line.isascii() for line in painted)
        assert any("v finished" in line for line in painted)

    opened(folder, look, look=Look(rate=20.0, ascii=True))


def filtered(app: MoltingApp, y: int) -> str:
    """A line as it goes to the terminal."""
    segments = list(app.screen._compositor.render_strips()[y])
    for each in app.get_line_filters():
        segments = each.apply(segments, app.screen.background_colors[0])
    return "".join(segment.text for segment in segments)


@needs_compiler
def test_the_memory_of_the_gpu_shows_this_run_and_the_others(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = NvmlStub(tmp_path)
    stub.load(monkeypatch)
    monkeypatch.setattr(gpu_service, "_AGAIN", 0.0)
    recorded = training(folder)
    recorded.say(
        events.Memory(host=2 * GIB, host_peak=2 * GIB, disk_free=80 * GIB, device=2 * GIB, device_reserved=3 * GIB)
    )
    with Supervisor(recorded.run) as supervisor:
        stub.answer(gpu(pid=supervisor.process.pid, pid_used=3 * GIB))

        async def watch(app: MoltingApp, pilot: Pilot[Any]) -> None:
            await now_says(app, pilot, "run 3.0")
            assert "others 9.0" in shown(app) and "free 12.0" in shown(app)
            assert "GPU0 12.0 / 24.0 GiB" in shown(app) and "util 97 %  71 °C" in shown(app)
            assert "GPU0 ▓▓▓▓░░░░ 12.0/24.0 GiB" in shown(app).splitlines()[0]
            stub.answer(gpu(lost=True))
            await now_says(app, pilot, "The GPU is lost")
            stub.answer(gpu(23 * GIB + GIB // 2, pid=supervisor.process.pid, pid_used=3 * GIB))
            await now_says(app, pilot, "! warning  The device's memory is 98 % full")

        opened(folder, watch)


def test_a_million_steps_do_not_hold_up_the_keys(folder: Path) -> None:
    recorded = training(folder, steps=3)
    recorded.raw(b"".join(events.encode(recorded_step(n)) for n in range(4, 100_000)))

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert "99,999/" in shown(app)
        began = time.perf_counter()
        await pilot.press("plus")
        await settle(app, pilot)
        assert time.perf_counter() - began < 3.0
        assert app.screen.query_one("#loss", Plot).window is not None

    opened(folder, play)


def test_a_run_that_cannot_be_read_says_so(folder: Path) -> None:
    recorded = training(folder)
    path = recorded.run.attempt(1).events
    path.unlink()
    path.symlink_to("/dev/zero")

    async def scenario(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("enter")
        await now_says(app, pilot, "✗ error")
        assert "events.jsonl" in "".join(shown(app).split())  # broken where the row ends

    drive(folder, scenario)
