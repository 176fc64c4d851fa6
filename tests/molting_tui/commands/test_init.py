"""`molting init`: a folder that can be trained from, and names that are refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.contract import places, tomlcheck
from engine.contract.spec import Spec
from tests.support.command import Scripted, run_molting

FILES = {"rows.jsonl", "heldout.jsonl", "system.txt", "facts.toml", "probes.txt", "spec.toml"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_private_folder_to_fill(molting: Scripted, tmp_path: Path) -> None:
    said = molting("init", "Zé o rádio", "--json")
    folder = Path(said.json["path"])
    assert said.code == 0 and folder == tmp_path / "Zé o rádio"
    assert {path.name for path in folder.iterdir()} == FILES
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())


def test_what_it_writes_is_valid_and_names_the_files_it_wrote(molting: Scripted, tmp_path: Path) -> None:
    molting("init", "ana")
    folder = tmp_path / "ana"
    spec = tomlcheck.load(folder / "spec.toml", Spec)
    named = (spec.data.train, spec.data.heldout, spec.data.system_file, spec.evaluation.probes)
    assert spec.model.base == "demo" and all((folder / name).is_file() for name in named)
    rows = [msgspec.json.decode(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 3 and all({"role", "content"} == set(m) for row in rows for m in row["messages"])
    assert "ana" in (folder / "system.txt").read_text()
    assert msgspec.toml.decode((folder / "facts.toml").read_bytes())["facts"] == {"name": "ana"}


def test_the_next_command_finds_the_spec_by_its_folder(molting: Scripted, tmp_path: Path) -> None:
    molting("init", "ana")
    molting.answers("preflight", {"findings": []})
    assert molting("doctor", "ana").code == 0
    assert molting.requests[-1]["request"]["spec"] == str(tmp_path / "ana" / "spec.toml")


@pytest.mark.parametrize("persona", ["rhea", "zeca"])
def test_a_shipped_persona_to_start_from(molting: Scripted, tmp_path: Path, persona: str) -> None:
    assert molting("init", "mine", "--persona", persona).code == 0
    ours = tomlcheck.load(tmp_path / "mine" / "spec.toml", Spec)
    source = places.shipped() / "personas" / persona
    theirs = tomlcheck.load(source / "spec.toml", Spec)
    assert ours == msgspec.structs.replace(theirs, name="mine")
    assert (tmp_path / "mine" / "rows.jsonl").read_bytes() == (source / "rows.jsonl").read_bytes()


def test_an_unknown_persona_names_those_there_are(molting: Scripted, tmp_path: Path) -> None:
    said = molting("init", "mine", "--persona", "../../etc")
    assert said.code == 2 and "rhea" in said.err and "zeca" in said.err and not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    "name",
    ["../../x", "/etc/x", "-rf", "", ".", "..", "a" * 300, "a\nb", "a/b", ".hidden", "x\x1b[31m", "a ", "\udcff", "a."],
)
def test_hostile_names_are_refused_in_a_sentence(molting: Scripted, tmp_path: Path, name: str) -> None:
    before = names(tmp_path)
    said = molting("init", "--", name)
    assert said.code == 2 and said.err.startswith("error: ") and "try: " in said.err and said.out == ""
    assert len(said.err.splitlines()) == 2 and "\x1b" not in said.err
    assert names(tmp_path) == before


def test_a_dash_name_without_dashes_is_a_wrong_call(molting: Scripted) -> None:
    assert molting("init", "-rf").code == 2


def test_nothing_is_written_over(molting: Scripted, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "file").touch()
    for name in ("full", "link", "file"):
        said = molting("init", name)
        assert said.code == 2 and "exists already" in said.err
    assert names(tmp_path / "full") == {"mine.txt"} and names(tmp_path / "empty") == set()
    assert molting("init", "empty").code == 0


def test_a_disk_that_refuses_is_a_sentence(tmp_path: Path) -> None:
    """/proc refuses even root."""
    said = run_molting("init", "x", home=tmp_path, cwd=Path("/proc"))
    assert said.code == 3 and "Could not write /proc/x" in said.err and "Traceback" not in said.err
