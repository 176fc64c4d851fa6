from __future__ import annotations

from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from engine.contract import tomlcheck
from engine.contract.spec import Spec
from molting_tui.app import MoltingApp
from molting_tui.screens.dialog import Ask, Confirm, Failure
from molting_tui.screens.job import Job
from molting_tui.screens.live import Live
from molting_tui.screens.new_run import NewRun
from molting_tui.screens.runs import Runs
from molting_tui.widgets.run_table import RunTable
from molting_tui.widgets.spec_fields import SpecInput
from tests.support.command import Scripted
from tests.support.pilot import drive, settle, shown, typed, until
from tests.support.runs import finished_run

SPEC = """# mine
name = "rhea"

[model]
base = "demo"

[data]
train = "rows.jsonl"  # sixty

[training]
learning_rate = 1e-3  # hot
"""


def persona(home: Path) -> Path:
    folder = home / "persona"
    folder.mkdir()
    (folder / "spec.toml").write_text(SPEC)
    (folder / "rows.jsonl").write_text("{}\n")
    return folder


async def opened(app: MoltingApp, pilot: Pilot[Any], folder: Path) -> None:
    """The form on the spec of a persona folder, by keys alone."""
    await pilot.press("n")
    await until(pilot, lambda: isinstance(app.screen, Ask))
    await settle(app, pilot)
    app.screen.query_one("Input").value = str(folder)  # type: ignore[attr-defined]
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(app.screen, NewRun))
    await settle(app, pilot)


async def put(app: MoltingApp, pilot: Pilot[Any], key: str, value: str) -> None:
    """Go to a field and type a new value."""
    for box in app.screen.query(SpecInput):
        if box.field.key == key:
            box.focus()
            await pilot.press("end", "ctrl+u")
            await typed(pilot, value)
    await settle(app, pilot)


def test_a_spec_becomes_a_run(molting: Scripted, tmp_path: Path) -> None:
    folder = persona(tmp_path)
    molting.answers("create", {"run": "rhea-1", "path": str(tmp_path / "runs/rhea-1"), "state": "queued"})

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await opened(app, pilot, folder)
        assert "nothing wrong so far" in shown(app) and "ctrl+g start" in shown(app)
        await put(app, pilot, "method.rank", "32")
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(app.screen, Runs))
        assert any("rhea-1 is queued" in each.message for each in app._notifications)
        finished_run(tmp_path / "runs", "first")  # the list is no longer empty, and keys act on it at once
        await until(pilot, lambda: isinstance(app.focused, RunTable))

    drive(tmp_path / "runs", play)
    [asked] = [each for each in molting.requests if each["verb"] != "preflight"]  # the doctor looks by itself
    assert asked["verb"] == "create"
    assert (folder / "spec.toml").read_text() == SPEC  # the file is only changed when asked
    assert not Path(asked["request"]["spec"]).exists()  # what the engine read is gone again


def test_what_is_wrong_is_said_while_it_is_typed_and_nothing_starts(molting: Scripted, tmp_path: Path) -> None:
    folder = persona(tmp_path)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await opened(app, pilot, folder)
        await put(app, pilot, "method.kind", "lara")
        assert 'Did you mean "lora"?' in shown(app)
        await put(app, pilot, "data.train", "nowhere.jsonl")
        assert "2 problems" in shown(app) and "which does not exist" in shown(app)
        await pilot.press("ctrl+g")
        await settle(app, pilot)
        assert isinstance(app.screen, NewRun)
        await put(app, pilot, "method.kind", "lora")
        await put(app, pilot, "data.train", "rows.jsonl")
        assert "nothing wrong so far" in shown(app)

    drive(tmp_path / "runs", play)
    assert "create" not in [each["verb"] for each in molting.requests]


def test_the_doctor_is_asked_from_the_form(molting: Scripted, tmp_path: Path) -> None:
    folder = persona(tmp_path)
    finding = {
        "id": "warmup",
        "severity": "warning",
        "message": "warm-up is 12 % [/] of all steps",
        "remedy": "Lower it.",
    }
    molting.answers(
        "preflight", {"findings": [finding]}, {"k": "progress", "phase": "reading rows", "done": 1, "total": 2}
    )

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await opened(app, pilot, folder)
        await pilot.press("ctrl+t")
        await until(pilot, lambda: isinstance(app.screen, NewRun) and "warning warm-up is 12 % [/]" in shown(app))
        assert "try Lower it." in shown(app)

    drive(tmp_path / "runs", play)


def test_findings_come_while_typing_and_one_key_mends(molting: Scripted, tmp_path: Path) -> None:
    folder = persona(tmp_path)
    fix = [{"key": "training.learning_rate", "value": "auto"}]
    rate = {"id": "odd-rate", "severity": "warning", "message": "A rate of 9 is high.", "remedy": "Set it.", "fix": fix}
    note = {"id": "few-rows", "severity": "note", "message": "Few rows [/].", "remedy": "Write more."}
    molting.answers("preflight", {"findings": [rate, note]}, {"k": "found", "finding": note})

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await opened(app, pilot, folder)  # nothing was asked for
        await until(pilot, lambda: "A rate of 9 is high." in shown(app) and "Few rows [/]." in shown(app))
        assert "ctrl+y does it" in shown(app)
        await pilot.press("ctrl+n", "ctrl+y")  # the note has no change that mends it
        assert app.screen._form.value("training.learning_rate") == "1e-3"  # type: ignore[attr-defined]
        await pilot.press("ctrl+n", "ctrl+y")  # and round to the first
        await settle(app, pilot)
        assert app.screen._form.value("training.learning_rate") == "auto"  # type: ignore[attr-defined]
        assert next(b for b in app.screen.query(SpecInput) if b.field.key == "training.learning_rate").value == "auto"

    drive(tmp_path / "runs", play)
    assert [each["verb"] for each in molting.requests].count("preflight") >= 1
    assert (folder / "spec.toml").read_text() == SPEC


def test_a_doctor_that_fails_is_a_line_and_typing_goes_on(molting: Scripted, tmp_path: Path) -> None:
    folder = persona(tmp_path)
    molting.fails("preflight", "The model [/] is refused.", code=1)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await opened(app, pilot, folder)
        await until(pilot, lambda: "cannot tell yet: The model [/] is refused." in shown(app))
        await put(app, pilot, "name", "zeca")
        assert isinstance(app.screen, NewRun)

    drive(tmp_path / "runs", play)


def test_the_spec_is_written_back_with_its_comments(molting: Scripted, tmp_path: Path) -> None:
    folder = persona(tmp_path)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await opened(app, pilot, folder)
        await put(app, pilot, "training.learning_rate", "2e-4")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, NewRun) and "2e-4" in (folder / "spec.toml").read_text())
        await settle(app, pilot)
        await pilot.press("escape")  # nothing unsaved, so nothing is asked
        await until(pilot, lambda: isinstance(app.screen, Runs))

    drive(tmp_path / "runs", play)
    assert (folder / "spec.toml").read_text() == SPEC.replace("1e-3", "2e-4")


def test_leaving_with_changes_asks(molting: Scripted, tmp_path: Path) -> None:
    folder = persona(tmp_path)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await opened(app, pilot, folder)
        await put(app, pilot, "name", "zeca")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, NewRun))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("tab", "enter")
        await until(pilot, lambda: isinstance(app.screen, Runs))

    drive(tmp_path / "runs", play)


def test_a_run_begets_a_child_from_its_own_spec(molting: Scripted, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "runs", "rhea")
    (run.inputs / "rows.jsonl").write_text("{}\n")
    kept: list[str] = []
    molting.answers("create", {"run": "rhea-2", "path": str(tmp_path / "runs/rhea-2"), "state": "queued"})

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, NewRun))
        await settle(app, pilot)
        await put(app, pilot, "method.rank", "32")
        kept.append(app.screen._form.standing_alone(Path.exists))  # type: ignore[attr-defined]
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(app.screen, Runs))

    drive(tmp_path / "runs", play)
    spec = tomlcheck.load(kept[0], Spec)
    assert (spec.parent, spec.method.rank, spec.data.train) == (run.id, 32, str(run.inputs / "rows.jsonl"))


def test_what_the_engine_refuses_is_told_and_the_form_stays(molting: Scripted, tmp_path: Path) -> None:
    folder = persona(tmp_path)
    molting.fails("create", "The rows [/] hold no answer.", remedy="Look at rows.jsonl.", code=1)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await opened(app, pilot, folder)
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(app.screen, Failure))
        await settle(app, pilot)
        assert "The rows [/] hold no answer." in shown(app) and "try Look at rows.jsonl." in shown(app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, NewRun))

    drive(tmp_path / "runs", play)


def test_waiting_can_be_cancelled_even_if_the_engine_is_silent(
    molting: Scripted, tmp_path: Path, monkeypatch: Any
) -> None:
    import sys

    from molting_tui.services import engine

    folder = persona(tmp_path)
    marker = tmp_path / "started"
    code = f"import pathlib, time; pathlib.Path({str(marker)!r}).touch(); time.sleep(600)"
    monkeypatch.setattr(engine, "ENGINE", (sys.executable, "-c", code))

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await opened(app, pilot, folder)
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(app.screen, Job) and marker.exists())
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, NewRun))

    drive(tmp_path / "runs", play)


def test_the_demo_starts_from_the_empty_screen_by_one_key(molting: Scripted, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "elsewhere", "rhea")
    molting.answers("demo-model", {"path": str(tmp_path / "models/demo")}, {"k": "note", "text": "making the model"})
    molting.answers("preflight", {"findings": []})
    molting.answers("create", {"run": run.id, "path": str(run.path), "state": "queued"})

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("d")
        await until(pilot, lambda: any(isinstance(screen, Live) for screen in app.screen_stack))

    drive(tmp_path / "runs", play)
    assert [each["verb"] for each in molting.requests][:3] == ["demo-model", "preflight", "create"]


def test_resume_asks_the_engine(molting: Scripted, tmp_path: Path) -> None:
    from tests.support.runs import Recorded, make_run

    run = make_run(tmp_path / "runs", "rhea")
    Recorded(run).state("queued", "starting").start().state("training").steps([1]).state("stopping", "interrupted")
    molting.answers("resume", {"run": run.id, "path": str(run.path), "state": "queued"})

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("r")
        await until(pilot, lambda: bool(app._notifications))
        assert "queued again" in next(iter(app._notifications)).message

    drive(tmp_path / "runs", play)
    assert molting.requests[0]["request"]["run"] == str(run.path)
