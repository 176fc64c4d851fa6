"""`molting doctor --fix`, as it is typed: the change is shown, asked for, and written with its comments kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from tests.support.diagnosed import persona, shipped_rows
from tests.support.tiny import tiny_llama

ARGV = ["-m", "molting_tui", "doctor"]
COMMENT = "# slow on purpose, says Ana\n"


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("model") / "tiny", max_position_embeddings=2048)


@pytest.fixture(name="env")
def _env(tmp_path: Path) -> dict[str, str]:
    own = {"XDG_STATE_HOME": str(tmp_path / "state"), "MOLTING_RUNTIME_DIR": str(tmp_path / "runtime")}
    return {**os.environ, **own, "NO_COLOR": "1", "TERM": "xterm-256color"}


@pytest.fixture(name="spec")
def _spec(tmp_path: Path, model: Path) -> Path:
    """A plan whose warm-up takes most of its steps, with a comment beside it."""
    file = persona(tmp_path / "p", model, shipped_rows(), training={"epochs": 8, "warmup": 0.9})
    file.write_text(file.read_text("utf-8").replace("warmup = 0.9", f"{COMMENT}warmup = 0.9"), encoding="utf-8")
    return file


def asked(spec: Path, env: dict[str, str], answer: str) -> str:
    """Everything a person sees who answers the question with `answer`."""
    argv = [*ARGV, str(spec), "--fix"]
    terminal = pexpect.spawn(sys.executable, argv, env=env, dimensions=(60, 160), timeout=120, encoding="utf-8")
    terminal.expect(r"Write this to spec.toml\?")
    before = str(terminal.before)
    assert "-warmup = 0.9" in before and "+warmup = 0.05" in before
    terminal.sendline(answer)
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0, before + str(terminal.before)
    return str(terminal.before)


def test_no_leaves_the_spec_as_it_was(spec: Path, env: dict[str, str]) -> None:
    before = spec.read_bytes()
    said = asked(spec, env, "n")
    assert "Nothing was changed." in said and "long-warmup" in said
    assert spec.read_bytes() == before


def test_yes_writes_it_and_looks_again(spec: Path, env: dict[str, str]) -> None:
    said = asked(spec, env, "y")
    assert "Written to" in said and "long-warmup" not in said
    written = spec.read_text("utf-8")
    assert COMMENT + "warmup = 0.05" in written and "0.9" not in written


def test_without_a_terminal_nothing_is_written_unless_told(spec: Path, env: dict[str, str]) -> None:
    before = spec.read_bytes()
    argv = [sys.executable, *ARGV, str(spec), "--fix"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and "there is no terminal to ask on" in done.stderr and "--yes" in done.stderr
    assert spec.read_bytes() == before
    done = subprocess.run([*argv, "--yes"], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert "warmup = 0.05" in spec.read_text("utf-8")
