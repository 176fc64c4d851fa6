"""Other machines, through a real sshd on loopback with keys, home and port of its own."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from benchmarks.on_pty import OnPty
from engine.contract import events
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.settings import Remote, Settings
from molting_tui.app import MoltingApp
from molting_tui.screens.dialog import Confirm
from molting_tui.services import push, ssh
from molting_tui.services.ssh import machine
from molting_tui.widgets.run_table import RunTable
from tests.support.command import Said
from tests.support.pilot import drive, settle, shown, until
from tests.support.runs import Recorded, Supervisor, finished_run, make_run
from tests.support.sshd import WHY_NOT, Box, ssh_world

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


class There:
    """Both sides: `box` and `far` are other machines, `env` is how commands are run on this one."""

    def __init__(self, folder: Path, env: dict[str, str], boxes: list[Box]) -> None:
        self.folder, self.env = folder, env
        self.box, self.far = boxes

    def molting(self, *args: str) -> Said:
        argv = [sys.executable, "-m", "molting_tui", *args]
        done = subprocess.run(argv, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="module")
def there() -> Iterator[There]:
    # Not below pytest's own folder, whose path is too long for the socket of an open connection.
    with (
        tempfile.TemporaryDirectory(prefix="mh-") as place,
        pytest.MonkeyPatch.context() as patch,
        ssh_world(Path(place), "box", "far") as (env, boxes),
    ):
        for name in ("PATH", "MOLTING_RUNTIME_DIR", "XDG_STATE_HOME"):
            patch.setenv(name, env[name])
        probe = subprocess.run(["ssh", "box", "true"], env=env, capture_output=True, text=True, timeout=60)
        if probe.returncode:
            pytest.skip(f"this machine's sshd does not let us in: {probe.stderr.strip()}")
        finished_run(boxes[0].runs, "rhea")
        yield There(Path(place), env, boxes)


def training(runs: Path, name: str) -> tuple[RunDir, Recorded]:
    run = make_run(runs, name)
    return run, Recorded(run, time.time()).state("queued", "starting").start().state("training").steps(range(1, 21))


def test_commands_run_there_and_keep_their_exit_codes_over_one_connection(there: There) -> None:
    listed = there.molting("--host", "box", "runs", "--json")
    assert listed.code == 0, listed.err
    (run,) = listed.json["runs"]
    assert run["name"] == "rhea" and run["path"].startswith(str(there.box.runs)) and listed.err == ""
    assert machine("box", {}).connected()  # the second finds it open
    name = "no such; touch $HOME/oops 'x' \"y\"\n"
    said = there.molting("--host", "box", "attach", name)
    assert said.code == 2 and f"is called {name!r}." in said.err
    assert not (there.box.home / "oops").exists()


@pytest.mark.parametrize(
    "name", ["-oProxyCommand=touch x", "me@-oProxyCommand=x", "", "a b", "box;id", "$(id)", "box\n", "ssh://-x", "--"]
)
def test_what_is_no_name_of_a_machine_is_refused(name: str) -> None:
    with pytest.raises(MoltingError) as refused:
        machine(name, {})
    assert refused.value.code == 2 and "\n" not in refused.value.message
    with pytest.raises(MoltingError):
        machine("ours", {"ours": Remote(ssh=name or "-")})


def test_the_name_that_is_wrong_is_the_one_that_is_told() -> None:
    with pytest.raises(MoltingError, match="'b o x' is not the name"):
        machine("b o x", {"b o x": Remote(ssh="box")})
    with pytest.raises(MoltingError, match="'b;x' is not the name"):
        machine("box", {"box": Remote(ssh="b;x")})


def test_ssh_asks_for_a_password_only_where_somebody_sits(there: There) -> None:
    """Over the app it would ask in the middle of the screen."""
    box = machine("box", {})
    assert "-oBatchMode=yes" in box.argv(["runs"]) and "-oBatchMode=yes" not in box.argv(["runs"], ask=True)


def test_an_empty_name_is_not_this_machine(there: There) -> None:
    """As a script writes it whose variable was never set: nothing is done here instead."""
    said = there.molting("--host", "", "stop", "rhea")
    assert said.code == 2 and "'' is not the name of a machine." in said.err


def test_the_command_that_starts_a_pushed_spec_can_be_pasted(there: There, tmp_path: Path) -> None:
    root = there.box.home / "it's my work"
    root.mkdir()
    config = tmp_path / "config.toml"
    config.write_text(f'[hosts]\nroomy = {{ ssh = "box", root = "{root}" }}\n')
    here = There(there.folder, there.env | {"MOLTING_CONFIG": str(config)}, [there.box, there.far])
    said = here.molting("--host", "roomy", "push", str(spec_in(tmp_path)))
    command = said.err.rpartition("`molting ")[2].partition("` starts")[0]
    assert shlex.split(command)[:3] == ["--host", "roomy", "train"] and Path(shlex.split(command)[3]).is_file()


@pytest.mark.parametrize("name", ["box", "me@box", "ssh://me@box.example.org:2222", "10.0.0.1", "fe80::1%eth0"])
def test_what_ssh_takes_is_taken(name: str) -> None:
    assert machine("ours", {"ours": Remote(ssh=name)}).ssh == name


def test_what_stands_in_the_settings_is_used_and_what_is_missing_there_is_told(there: There) -> None:
    (there.box.home / "my work").mkdir(exist_ok=True)
    program = there.box.home / "my work/molting's"
    program.write_text("#!/bin/sh\necho molting 0.0.1; pwd >&2\n")
    program.chmod(0o755)
    host = {"lab": Remote(ssh="box", molting="~/my work/molting's", root="~/my work")}
    lab = machine("lab", host)
    assert lab.greet() == "0.0.1"
    assert ssh.call(lab.argv(["runs"]))[2].strip() == str(there.box.home / "my work")
    (there.folder / "config.toml").write_text(
        '[hosts]\nlab = { ssh = "box", molting = "~/my work/molting\'s" }\nnone = { ssh = "box", molting = "/no" }\n'
    )
    lab.hang_up()
    other = there.molting("--host", "lab", "runs")
    assert other.code == 0 and "lab has molting 0.0.1, this machine" in other.err
    missing = there.molting("--host", "none", "runs")
    assert missing.code == 3 and "There is no /no on none." in missing.err and "Install Molting there" in missing.err
    with pytest.raises(MoltingError, match=r"There is no folder ~/nowhere on lab\."):
        machine("lab", {"lab": Remote(ssh="box", root="~/nowhere")}).greet()


def test_a_machine_that_is_away_is_told_in_a_sentence(there: There) -> None:
    there.far.stop()
    try:
        said = there.molting("--host", "far", "runs")
        assert said.code == 3 and said.out == ""
        assert "far cannot be reached" in said.err and "Connection refused" in said.err and "`ssh far`" in said.err
    finally:
        there.far.start()


def test_a_dropped_connection_in_mid_attach_is_made_again_and_nothing_is_missed(there: There) -> None:
    run, recorded = training(there.box.runs, "zeca")
    log = (there.folder / "attach.log").open("wb+")
    argv = [sys.executable, "-m", "molting_tui", "--host", "box", "attach", run.id]
    with Supervisor(run):
        attached = subprocess.Popen(argv, env=there.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def told() -> str:
            return Path(log.name).read_text()

        _wait(lambda: "step" in told(), told)
        recorded.t = time.time() - 60  # older than what is told again
        recorded.say(events.Eval(step=20, loss=0.77, rows=6, seconds=1.0))
        _wait(lambda: "0.77" in told(), told)
        assert there.box.cut() >= 1
        recorded.t = time.time()
        recorded.say(events.Eval(step=20, loss=0.55, rows=6, seconds=1.0))  # while nobody listens
        _wait(lambda: "The connection to box was lost; the run goes on." in told(), told)
        _wait(lambda: "0.55" in told(), told)
        recorded.say(events.End(step=20, outcome="finished", mean_loss=0.2, last_loss=0.04, eval_loss=0.5))
        recorded.state("finished")
        assert attached.wait(60) == 0
    assert told().count("was lost") == 1 and told().count("0.55") == 1 and told().count("0.77") == 1
    assert "✓ finished" in told()
    log.close()


def _wait(condition: Any, told: Any = str, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, told()
        time.sleep(0.05)


def test_another_command_says_that_the_connection_was_lost(there: There) -> None:
    run, _ = training(there.box.runs, "stubborn")
    with Supervisor(run):  # which obeys nobody, so that stop waits
        argv = [sys.executable, "-m", "molting_tui", "--host", "box", "stop", run.id]
        stopping = subprocess.Popen(argv, env=there.env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _wait(lambda: (run.control / "stop").exists())
        there.box.cut()
        _, err = stopping.communicate(timeout=60)
    assert stopping.returncode == 3
    assert b"The connection to box was lost; `molting stop` there may have been done or not." in err


def test_the_app_of_the_other_machine_opens_on_a_run_and_a_lost_one_gives_the_terminal_back(there: There) -> None:
    argv = [sys.executable, "-m", "molting_tui", "--host", "box", "--show", "rhea"]
    with OnPty(argv, **{name: value for name, value in there.env.items() if name != "TERM"}) as app:
        app.until(lambda raw: b"tok" in raw and b"\x1b[?1049h" in raw)
        there.box.cut()
        app.until(lambda raw: b"The connection to box was lost" in raw)
        ended = bytes(app.raw)
    assert ended.rindex(b"\x1b[?1049l") > ended.rindex(b"\x1b[?1049h")
    assert b"\x1b[?1003l" in ended and b"Traceback" not in ended


def test_the_app_lists_runs_of_several_machines_and_stops_one_there(there: There) -> None:
    finished_run(there.folder / "runs", "local")
    run, recorded = training(there.far.runs, "mira")

    async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: "mira" in shown(app) and "rhea" in shown(app), 25)
        await settle(app, pilot)
        (mira,) = (line for line in shown(app).splitlines() if " mira " in line)
        assert "far" in mira and "training" in mira and "20/100" in mira
        recorded.steps(range(21, 31))
        await until(pilot, lambda: "30/100" in shown(app), 30)
        there.far.stop()
        await until(pilot, lambda: "far is away since" in shown(app), 30)
        assert "30/100" in shown(app)  # as it was last seen
        app.screen.query_one(RunTable).move_to(f"far:{run.id}")
        await pilot.press("S")
        await settle(app, pilot)
        assert not isinstance(app.screen, Confirm)  # nobody there to ask
        there.far.start()
        await until(pilot, lambda: "is away" not in shown(app), 25)
        await pilot.press("S")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("tab", "enter")
        await until(pilot, lambda: (run.control / "stop").exists(), 25)
        recorded.state("stopping", "interrupted")
        await until(pilot, lambda: "interrupted" in shown(app), 30)
        await pilot.press("at")
        await until(pilot, lambda: "mira" not in shown(app) and "local" in shown(app))
        assert "host" not in shown(app).splitlines()[1]

    with Supervisor(run):
        settings = Settings(hosts={"box": Remote(), "far": Remote(), "quiet": Remote(show=False)})
        drive(there.folder / "runs", look, settings=settings)
    assert not (Path(f"far:{run.path}")).exists()


def spec_in(folder: Path) -> Path:
    (folder / "mine").mkdir(parents=True)
    (folder / "elsewhere").mkdir()
    (folder / "mine/rows.jsonl").write_text('{"messages": []}\n')
    (folder / "mine/facts.toml").write_text("# facts\n")
    (folder / "elsewhere/rows.jsonl").write_text("held out\n")
    spec = folder / "mine/spec.toml"
    spec.write_text(
        'name = "Möwe"  # a comment\n[model]\nbase = "/models/own"\n[data]\ntrain = "rows.jsonl"\n'
        'heldout = "../elsewhere/rows.jsonl"\n[sweep.grid]\n'
        f'"data.train" = ["rows.jsonl", "{folder}/elsewhere/rows.jsonl"]\n'
    )
    return spec


@pytest.mark.parametrize("by", ["rsync", "tar"])
def test_a_spec_and_its_files_are_copied(
    there: There, tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "rsync" and not push.shutil.which("rsync"):
        pytest.skip("there is no rsync here; apt-get install rsync brings it")
    if by == "tar":
        monkeypatch.setattr(push.shutil, "which", lambda name: None)
    made = push.parcel(spec_in(tmp_path))
    assert made.left == ["/models/own"]
    folder, how = push.send(made, machine("box", {}), ask=False, shown=False)
    assert how == by and folder == str(there.box.home / "molting-specs/mowe")
    copied = {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}
    assert copied == {"spec.toml", "rows.jsonl", "facts.toml", "files/rows.jsonl"}
    assert (Path(folder) / "files/rows.jsonl").read_text() == "held out\n"
    text = (Path(folder) / "spec.toml").read_text()
    assert 'heldout = "files/rows.jsonl"' in text and '["rows.jsonl", "files/rows.jsonl"]' in text
    assert "# a comment" in text and (Path(folder) / "rows.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_pushed_spec_is_started_there(there: There, tmp_path: Path) -> None:
    there.far.molting.write_text('#!/bin/sh\ncase $1 in --version) echo molting 9;; *) echo "$@";; esac\n')
    try:
        said = there.molting("--host", "far", "push", str(spec_in(tmp_path)), "--start", "--json")
    finally:
        there.far.install()
    assert said.code == 0 and said.out.split()[0] == "train" and said.out.split()[2] == "--json"
    assert Path(said.out.split()[1]).read_text().startswith("name = ")
    assert "/models/own was not copied" in said.err
    nowhere = there.molting("push", str(tmp_path))
    assert nowhere.code == 2 and "--host NAME push" in nowhere.err


def test_a_line_for_every_change_until_nobody_reads(tmp_path: Path) -> None:
    run, recorded = training(tmp_path / "runs", "rhea")
    argv = [sys.executable, "-m", "molting_tui", "--runs", str(tmp_path / "runs"), "runs", "--follow", "--json"]
    with Supervisor(run), subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
        assert following.stdout and following.stderr
        first, complete = (json.loads(following.stdout.readline()) for _ in range(2))
        assert first["run"]["id"] == run.id and first["run"]["step"] == 20 and "parent" not in first["run"]
        assert complete == {"complete": True}
        recorded.steps([21])
        assert json.loads(following.stdout.readline())["run"]["step"] == 21
        run.path.rename(tmp_path / "away")
        while json.loads(following.stdout.readline()) != {"gone": run.id}:
            pass  # it may be read once more before it is missed
        following.stdout.close()  # nothing is written any more, and yet it notices
        try:
            assert following.wait(15) == 141
        finally:
            following.send_signal(signal.SIGKILL)
        assert following.stderr.read() == b""
