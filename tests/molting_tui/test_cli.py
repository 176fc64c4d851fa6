"""The command line as a process: exit codes, sentences instead of tracebacks, and what it may not import."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import rundir, summary
from engine.contract.errors import MoltingError
from tests.support.command import Scripted, environment, run_molting
from tests.support.runs import Recorded, Supervisor, finished_run, make_run

HEAVY = ["torch", "transformers", "numpy", "scipy", "trl", "peft", "datasets", "pandas", "pyarrow"]


def test_without_a_command_it_says_which_there_are(tmp_path: Path) -> None:
    said = run_molting(home=tmp_path)
    assert said.code == 2 and said.out == ""
    for command in ("demo", "init", "train", "runs", "attach", "stop", "resume", "ask", "prove", "doctor"):
        assert f"molting {command}" in said.err or f"| {command}" in said.err


@pytest.mark.parametrize("command", ["doctor", "train", "sweep"])
def test_rows_are_no_spec(tmp_path: Path, command: str) -> None:
    (tmp_path / "rows.json").write_text("[]")
    said = run_molting(command, str(tmp_path / "rows.json"), home=tmp_path)
    assert said.code == 2 and "rows.json holds rows" in said.err and "molting data FILE" in said.err


def test_a_file_is_no_folder_of_runs(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("x")
    said = run_molting("--runs", str(file), "runs", home=tmp_path)
    assert said.code == 2 and said.out == "" and f"{file} is not a folder of runs." in said.err


@pytest.mark.parametrize(
    "args", [["nonsense"], ["--nope"], ["attach"], ["ask", "x"], ["stop", "a", "b"], ["runs", "--x"]]
)
def test_a_wrong_call_exits_2_without_a_traceback(tmp_path: Path, args: list[str]) -> None:
    said = run_molting(*args, home=tmp_path)
    assert said.code == 2 and said.out == "" and "Traceback" not in said.err and said.err


def test_help_and_version(tmp_path: Path) -> None:
    assert run_molting("--version", home=tmp_path).out.startswith("molting 0.")
    said = run_molting("train", "--help", home=tmp_path)
    assert said.code == 0 and "--follow" in said.out


@pytest.mark.parametrize(("package", "heavy"), [("molting_tui.commands", [*HEAVY, "textual"]), ("molting_tui", HEAVY)])
def test_nothing_heavy_is_imported(package: str, heavy: list[str]) -> None:
    """Commands start without Textual; nothing of the app or the command line loads the engine's libraries."""
    code = (
        "import sys, pkgutil, importlib, molting_tui.__main__, molting_tui.cli\n"
        f"for module in pkgutil.walk_packages(importlib.import_module({package!r}).__path__, '{package}.'):\n"
        "    importlib.import_module(module.name)\n"
        f"heavy = [name for name in {heavy!r} if name in sys.modules]\n"
        "ours = [n for n in sys.modules if n.startswith('engine.') and not n.startswith('engine.contract')]\n"
        "print(heavy + ours)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]", done.stderr


def test_the_first_screen_waits_for_nothing_that_it_does_not_show() -> None:
    """Requests to the engine, grading, the GPU's library and other screens come after the first paint."""
    late = ["engine.contract.calls", "engine.contract.grades", "engine.contract.rows", "pynvml", "psutil", "tomlkit"]
    late += [f"molting_tui.{name}" for name in ("cli", "services.task", "screens.live", "screens.chat", "screens.data")]
    code = (
        "import sys, molting_tui.__main__, molting_tui.commands.open_app, molting_tui.app, molting_tui.screens.runs\n"
        f"print([name for name in {late!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]", done.stderr


def test_runs_starts_fast(tmp_path: Path) -> None:
    """Against a bare interpreter that imports what cannot be avoided, in the same moment."""

    def best(argv: list[str]) -> float:
        times = []
        for _ in range(4):
            began = time.perf_counter()
            subprocess.run(argv, check=True, capture_output=True, env=environment(tmp_path))
            times.append(time.perf_counter() - began)
        return min(times)

    ours = best([sys.executable, "-m", "molting_tui", "runs"])
    floor = best([sys.executable, "-c", "import typer, msgspec, pydantic, typing, pathlib, subprocess"])
    assert ours < 4 * floor


def test_an_unforeseen_error_is_a_sentence_and_a_private_log(tmp_path: Path) -> None:
    code = (
        "import sys; from molting_tui import __main__, cli; from molting_tui.commands import runs\n"
        "from engine.contract import rundir\n"
        "rundir.listed = lambda where: 1 / 0\n"
        "sys.argv = ['molting', 'runs']; __main__.main()"
    )
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(tmp_path), cwd=tmp_path)
    assert done.returncode == 3 and done.stdout == "" and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 2
    (log,) = (tmp_path / ".local/state/molting").iterdir()
    assert str(log) in done.stderr and "ZeroDivisionError" in log.read_text() and log.stat().st_mode & 0o777 == 0o600


def test_all_errors_of_the_settings_are_told(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[paths]\nrunz = 'x'\nmodels = 3\n")
    said = run_molting("runs", home=tmp_path, MOLTING_CONFIG=str(config))
    assert said.code == 2 and "line 2" in said.err and "line 3" in said.err and "runs" in said.err


def test_a_settings_file_that_is_named_and_not_there_is_told(tmp_path: Path) -> None:
    said = run_molting("runs", home=tmp_path, MOLTING_CONFIG=str(tmp_path / "none.toml"))
    assert (said.code, said.out) == (2, "")
    assert f"MOLTING_CONFIG names {tmp_path}/none.toml, and there is no such file." in said.err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["ask", "x", "hi", "--temperature", "warm"], "number"),
        (["ask", "x", "hi", "--temperature", "9"], "5"),
        (["serve", "x", "--port", "abc"], "'--port'"),
        (["host", "bogus"], "is not one of"),
        (["export", "x"], "Missing option '--to'. Choose from"),
        (["draft", "x"], "Missing option '--out' / '-o'.\n"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(tmp_path: Path, argv: list[str], said: str) -> None:
    told = run_molting(*argv, home=tmp_path)
    assert told.code == 2 and said in told.err
    assert not any(word in told.err for word in ("Value error", "Input should", "unable to parse", "valid integer"))


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_plain_locales_do_not_crash(tmp_path: Path, locale: str) -> None:
    finished_run(tmp_path / "runs", "Cláudio 漢字")
    env = {"LANG": locale, "LC_ALL": locale, "PYTHONUTF8": "0"}
    said = run_molting("--runs", str(tmp_path / "runs"), "runs", home=tmp_path, **env)
    assert said.code == 0 and "v  Cl" in said.out and "finished" in said.out
    assert run_molting("--runs", str(tmp_path / "runs"), "attach", "cl", home=tmp_path, **env).code == 0
    said = run_molting("--runs", str(tmp_path / "runs"), "runs", home=tmp_path, PYTHONIOENCODING="ascii")
    assert said.code == 0 and said.out.isascii()


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    Recorded(run).state("queued", "starting").start(steps=5000).steps(range(1, 5000), loss=1.0).state("failed")
    command = (
        f"{sys.executable} -m molting_tui --runs {tmp_path / 'runs'} attach {run.id} | head -1; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment(tmp_path))
    assert "queued" in done.stdout and "Traceback" not in done.stderr and "Error" not in done.stderr


def test_ctrl_c_while_following_says_that_the_run_goes_on(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    Recorded(run).state("queued", "starting").start().state("training").steps([1])
    with Supervisor(run) as supervisor:
        argv = [sys.executable, "-m", "molting_tui", "--runs", str(tmp_path / "runs"), "attach", "rhea"]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path))
        assert process.stdout
        while b"step" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert b"it goes on" in err and run.id.encode() in err and b"Traceback" not in err
        assert supervisor.process.poll() is None


def test_a_terminal_gets_a_rewritten_line_and_colours(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    recorded = Recorded(run).state("queued", "starting").start().state("training").steps(range(1, 51))
    with Supervisor(run):
        shown = on_a_terminal(
            ["--runs", str(tmp_path / "runs"), "attach", "rhea"],
            tmp_path,
            until="50/100",
            then=lambda: recorded.state("finished"),
        )
    assert "\x1b[32m✓ finished" in shown and "\r\x1b[K● training" in shown


def on_a_terminal(args: list[str], home: Path, *, until: str, then: object) -> str:
    """What `molting ARGS` writes to a pty; `then` is called once `until` was seen on a rewritten line."""
    pid, fd = pty.fork()
    if pid == 0:
        argv = [sys.executable, "-m", "molting_tui", *args]
        os.execve(sys.executable, argv, environment(home, TERM="xterm-256color", COLUMNS="100"))
    shown, called = b"", False
    while True:
        try:
            chunk = os.read(fd, 65536)
        except OSError:  # the other side is closed
            chunk = b""
        if not chunk:
            break
        shown += chunk
        if not called and b"\r\x1b[K" in shown and until.encode() in shown:
            called = True
            then()  # type: ignore[operator]
    os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return shown.decode()


def test_json_is_one_object_even_for_hostile_names(tmp_path: Path) -> None:
    name = "x\x1b]52;c;aGk=\x07\u202e[/]"
    finished_run(tmp_path / "runs", name)
    said = run_molting("--runs", str(tmp_path / "runs"), "runs", "--json", home=tmp_path)
    assert said.out.isascii() and said.out.count("\n") == 1
    assert json.loads(said.out)["runs"][0]["name"] == name
    said = run_molting("--runs", str(tmp_path / "runs"), "runs", home=tmp_path)
    assert "\x1b" not in said.out and "\u202e" not in said.out and "␛]52" in said.out


@given(name=st.text(max_size=400))
def test_any_name_makes_a_safe_slug(name: str) -> None:
    slug = rundir.slug(name)
    assert 1 <= len(slug) <= 40 and set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not slug.startswith("-") and "/" not in slug and ".." not in slug


@pytest.fixture(scope="module")
def few_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    for name in ("rhea", "rhea", "zeca", "Zé da Rádio"):
        finished_run(runs, name)
    return runs


@given(wanted=st.one_of(st.text(max_size=30), st.sampled_from(["..", "/etc", "../../x", "-rf", "", ".", "rhea/", "z"])))
def test_looking_a_run_up_finds_one_or_says_so(few_runs: Path, wanted: str) -> None:
    try:
        found = rundir.find(few_runs, wanted, summary.name_of)
    except MoltingError as error:
        assert error.code == 2 and error.message
    else:
        assert found.path.parent == few_runs
        assert found.id.startswith(wanted) or summary.name_of(found) == wanted


def test_a_prefix_that_means_two_runs_is_refused_with_both(molting: Scripted, tmp_path: Path) -> None:
    one, two = (finished_run(tmp_path / "runs", "rhea") for _ in range(2))
    said = molting("attach", "rhea")
    assert said.code == 2 and one.id in said.err and two.id in said.err
    assert molting("attach", one.id).code == 0
    assert molting("attach", one.id[:-1]).code == 0
