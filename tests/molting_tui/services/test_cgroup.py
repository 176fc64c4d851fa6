"""Limits of memory that the kernel sets for a container or a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from molting_tui.services.cgroup import memory_limit

MIB = 1 << 20


def group(folder: Path, limit: str, used: int, idle: int = 0, *, old: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ("memory.limit_in_bytes" if old else "memory.max")).write_text(f"{limit}\n")
    (folder / ("memory.usage_in_bytes" if old else "memory.current")).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{'total_' if old else ''}inactive_file {idle}\n")


def test_the_tightest_limit_above_a_process_counts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/job/step\n")
    root = tmp_path / "root"
    group(root / "job", str(800 * MIB), 300 * MIB, 100 * MIB)
    group(root / "job" / "step", "max", 200 * MIB)
    assert memory_limit(root, own) == (800 * MIB, 200 * MIB)


def test_version_1_and_a_container_that_sees_itself_as_the_root(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("5:cpu:/x\n4:memory:/docker/abc\n")
    group(tmp_path / "root" / "memory", str(512 * MIB), 100 * MIB, old=True)
    assert memory_limit(tmp_path / "root", own) == (512 * MIB, 100 * MIB)


@pytest.mark.parametrize("said", ["0::/\n", "", "nonsense\n"])
def test_no_limit(tmp_path: Path, said: str) -> None:
    own = tmp_path / "own"
    own.write_text(said)
    assert memory_limit(tmp_path / "none", own) is None
    assert memory_limit(tmp_path / "none", tmp_path / "missing") is None
