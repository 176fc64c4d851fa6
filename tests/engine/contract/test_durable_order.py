"""What a power cut may cost is decided by the order of the system calls, so that order is written down here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.contract import durable
from tests.support.faults import install


class Heard:
    """Stands in for the module `os` and notes what was made durable, renamed and created, by name."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").resolve()
        self.calls.append(("sync", f"{path.name}/" if path.is_dir() else path.name))
        os.fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        self.calls.append(("rename", Path(target).name))
        os.rename(source, target)  # noqa: PTH104

    def mkdir(self, path: Path, mode: int) -> None:
        self.calls.append(("mkdir", Path(path).name))
        os.mkdir(path, mode)  # noqa: PTH102


def calls(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> list[tuple[str, str]]:
    heard = Heard()
    with monkeypatch.context() as patch:
        install(patch, heard, durable)
        do()
    return heard.calls


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


def test_new_content_is_on_the_disk_before_it_has_the_name_and_the_name_before_it_returns(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (content, staged), *rest = calls(monkeypatch, lambda: durable.write_replace(home / "owner.json", b"new"))
    assert content == "sync" and staged.startswith(".owner.json.")
    assert rest == [("rename", "owner.json"), ("sync", "home/")]
    made = calls(monkeypatch, lambda: durable.write_new(home / "spec.toml", b"new"))
    assert made == [("sync", "spec.toml"), ("sync", "home/")]


def test_a_new_folder_is_known_to_its_parent(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = calls(monkeypatch, lambda: durable.make_private_dir(home / "a" / "b"))
    assert made == [("mkdir", "a"), ("sync", "home/"), ("mkdir", "b"), ("sync", "a/")]


def test_all_of_a_sealed_directory_is_on_the_disk_before_it_has_its_name(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = home / ".staging"
    (staging / "nested").mkdir(parents=True)
    (staging / "adapter.safetensors").write_bytes(b"weights")
    (staging / "nested" / "rng_state.pth").write_bytes(b"state")
    made = calls(monkeypatch, lambda: durable.seal(staging, home / "step-1"))
    before, after = made[: made.index(("rename", "step-1"))], made[made.index(("rename", "step-1")) + 1 :]
    contents = {("sync", name) for name in ("adapter.safetensors", "rng_state.pth", "nested/")}
    assert set(before[:-2]) == contents
    assert before[-2:] == [("sync", durable.MANIFEST), ("sync", ".staging/")], "the manifest vouches, so it comes last"
    assert after == [("sync", "home/")]
