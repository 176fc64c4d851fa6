from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from engine.contract import durable
from engine.contract.errors import MoltingError
from tests.support import processes


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / ".staging"
    (folder / "nested").mkdir(parents=True)
    (folder / "adapter.safetensors").write_bytes(b"weights" * 100)
    (folder / "optimizer.pt").write_bytes(b"state")
    (folder / "nested" / "notes.txt").write_bytes(b"")
    return folder


@pytest.fixture
def sealed(staging: Path, tmp_path: Path) -> Path:
    durable.seal(staging, tmp_path / "step-1", step=1)
    return tmp_path / "step-1"


def test_private_dir_and_its_parents_are_0700(tmp_path: Path) -> None:
    durable.make_private_dir(tmp_path / "a" / "b")
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "a", tmp_path / "a" / "b")} == {0o700}
    durable.make_private_dir(tmp_path / "a" / "b")


def test_private_dir_over_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(NotADirectoryError):
        durable.make_private_dir(tmp_path / "a")


def test_write_replace_shows_only_the_new_content(tmp_path: Path) -> None:
    path = tmp_path / "owner.json"
    durable.write_replace(path, b"old")
    durable.write_replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_write_replace_replaces_a_symlink_and_not_what_it_points_to(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_bytes(b"precious")
    link.symlink_to(victim)
    durable.write_replace(link, b"new")
    assert victim.read_bytes() == b"precious"
    assert link.read_bytes() == b"new" and not link.is_symlink()


def test_write_new_never_overwrites(tmp_path: Path) -> None:
    durable.write_new(tmp_path / "spec.toml", b"one")
    with pytest.raises(FileExistsError):
        durable.write_new(tmp_path / "spec.toml", b"two")
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        durable.write_new(tmp_path / "dangling", b"two")
    assert (tmp_path / "spec.toml").read_bytes() == b"one" and not (tmp_path / "elsewhere").exists()


def test_a_really_short_write_is_taken_back(tmp_path: Path) -> None:
    # A limit on the size of files makes the kernel itself write short, as a full disk does.
    code = """
import os, resource, sys
from engine.contract import durable
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_APPEND)
for n in range(9):
    try:
        durable.append(fd, b"x" * 299 + b"\\n")
    except OSError as error:
        print(n, error.strerror)
        break
"""
    process = processes.start(code, tmp_path / "log")
    assert process.communicate()[0].startswith("3 the disk is full: only 100 of 300 bytes")
    assert (tmp_path / "log").read_bytes() == (b"x" * 299 + b"\n") * 3


def test_sealed_directory_is_valid_and_has_its_manifest(sealed: Path) -> None:
    assert durable.check_seal(sealed) == []
    manifest = durable.read_manifest(sealed)
    assert set(manifest.files) == {"adapter.safetensors", "optimizer.pt", "nested/notes.txt"}
    assert manifest.meta == {"step": 1} and manifest.uid == os.getuid()
    assert manifest.files["adapter.safetensors"].size == 700


def test_seal_refuses_a_taken_name(sealed: Path, tmp_path: Path) -> None:
    (tmp_path / ".staging").mkdir()
    with pytest.raises(MoltingError, match="exists already"):
        durable.seal(tmp_path / ".staging", sealed)
    assert durable.check_seal(sealed) == []


@pytest.mark.parametrize("make", [lambda p: p.symlink_to("/etc/passwd"), os.mkfifo, lambda p: p.symlink_to("/etc")])
def test_seal_refuses_what_is_not_a_plain_file(staging: Path, tmp_path: Path, make) -> None:
    make(staging / "nested" / "odd")
    with pytest.raises(MoltingError, match="only plain files"):
        durable.seal(staging, tmp_path / "step-1")
    assert not (tmp_path / "step-1").exists()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    path.write_bytes(b"W" + path.read_bytes()[1:])


def _to_symlink(path: Path) -> None:
    copy = path.with_name("..copy")
    path.rename(copy)
    path.symlink_to(copy.name)


def _to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (Path.unlink, "is missing"),
        (_truncate, "has 699 bytes; 700 were sealed"),
        (_flip, "sha256 differs"),
        (_to_symlink, "is a symlink"),
        (_to_fifo, "is a special file"),
        (_to_folder, "is a folder"),
    ],
)
def test_each_damage_is_named(sealed: Path, damage, said: str) -> None:
    damage(sealed / "adapter.safetensors")
    assert any(said in sentence for sentence in durable.check_seal(sealed)), durable.check_seal(sealed)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "rng_state.pth", "nested/evil.pkl", "modeling.py"])
def test_a_loadable_stranger_is_named(sealed: Path, name: str) -> None:
    (sealed / name).write_bytes(b"")
    (problem,) = durable.check_seal(sealed)
    assert name in problem and "was not there" in problem


def test_a_note_added_by_the_user_does_no_harm(sealed: Path) -> None:
    (sealed / "README.md").write_text("mine")
    assert durable.check_seal(sealed) == []


def test_every_problem_is_named_at_once(sealed: Path) -> None:
    (sealed / "optimizer.pt").unlink()
    _flip(sealed / "adapter.safetensors")
    assert len(durable.check_seal(sealed)) == 2


def test_a_quick_check_sees_sizes_only(sealed: Path) -> None:
    _flip(sealed / "adapter.safetensors")
    assert durable.check_seal(sealed, hashes=False) == []
    _truncate(sealed / "adapter.safetensors")
    assert durable.check_seal(sealed, hashes=False)


@pytest.mark.parametrize("text", ["", "{}", "\0\0\0", '{"v":1,"files":[],"uid":0}', "[" * 100_000])
def test_a_damaged_manifest_is_a_sentence(sealed: Path, text: str) -> None:
    (sealed / durable.MANIFEST).write_text(text)
    (problem,) = durable.check_seal(sealed)
    assert "is damaged" in problem


def test_a_manifest_of_another_user_or_version_is_not_believed(sealed: Path) -> None:
    path = sealed / durable.MANIFEST
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"uid": os.getuid() + 1}))
    assert "another user" in durable.check_seal(sealed)[0]
    path.write_text(json.dumps(content | {"v": 2}))
    assert "version 2" in durable.check_seal(sealed)[0]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_a_manifest_owned_by_another_user_is_not_believed(sealed: Path) -> None:
    os.chown(sealed / durable.MANIFEST, 12345, -1)
    assert "another user" in durable.check_seal(sealed)[0]


def test_a_manifest_cannot_reach_outside_its_directory(sealed: Path) -> None:
    path = sealed / durable.MANIFEST
    content = json.loads(path.read_text())
    content["files"]["../../etc/passwd"] = {"size": 1, "sha256": ""}
    path.write_text(json.dumps(content))
    assert durable.check_seal(sealed) == [f"{sealed}/../../etc/passwd is missing."]


def test_no_manifest_symlink_or_fifo_hangs_or_passes(sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(sealed)
    assert durable.check_seal(tmp_path / "link")
    assert durable.check_seal(tmp_path / "nothing")
    (sealed / durable.MANIFEST).unlink()
    assert "never finished" in durable.check_seal(sealed)[0]
    os.mkfifo(sealed / durable.MANIFEST)
    assert "not a manifest" in durable.check_seal(sealed)[0]


def test_free_bytes_of_a_path_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert durable.free_bytes(tmp_path / "a" / "b") > 0


@pytest.mark.parametrize(
    ("number", "reason", "word"), [(28, "disk_full", "space"), (122, "disk_full", "space"), (5, "exception", "health")]
)
def test_explain_says_what_and_what_to_do(number: int, reason: str, word: str) -> None:
    error = durable.explain(OSError(number, os.strerror(number)), "save the checkpoint")
    assert error.reason == reason and "Could not save the checkpoint" in error.message and word in error.remedy


# Writes or seals, and is killed by itself at system call number n.
KILLED_AT = """
import os, signal, sys
from pathlib import Path
from engine.contract import durable
from tests.support.faults import FaultyOs
root, fault = Path(sys.argv[1]), FaultyOs(int(sys.argv[2]), "kill")
durable.os = fault
durable.write_replace(root / "owner.json", b"new")
durable.seal(root / ".staging", root / "step-1")
print("through")
"""


def test_kill_9_at_every_system_call(tmp_path: Path) -> None:
    path, target = tmp_path / "owner.json", tmp_path / "step-1"
    said, n = "", 0
    while not said:
        n += 1
        shutil.rmtree(target, ignore_errors=True)
        shutil.rmtree(tmp_path / ".staging", ignore_errors=True)
        (tmp_path / ".staging").mkdir()
        (tmp_path / ".staging" / "adapter.safetensors").write_bytes(b"weights")
        path.write_bytes(b"old")
        process = processes.start(KILLED_AT, tmp_path, n)
        said = process.communicate()[0]
        assert said or process.returncode == -signal.SIGKILL
        assert path.read_bytes() in (b"old", b"new")
        assert not target.exists() or durable.check_seal(target) == []
    assert n > 20 and target.exists()


SEAL_FOREVER = """
import itertools, os, sys
from pathlib import Path
from engine.contract import durable
root, first = Path(sys.argv[1]), int(sys.argv[2])
for step in itertools.count(first):
    staging = root / f".staging-{step}"
    staging.mkdir()
    for name in ("adapter.safetensors", "optimizer.pt", "rng_state.pth"):
        (staging / name).write_bytes(os.urandom(100_000))
    durable.seal(staging, root / f"step-{step:08d}", step=step)
    print(step, flush=True)
"""


def test_kill_9_during_seal_never_shows_a_broken_directory(tmp_path: Path) -> None:
    chance = random.Random(7)
    seen = 0
    for kill in range(40):
        process = processes.start(SEAL_FOREVER, tmp_path, kill * 1000)
        if kill % 2:
            processes.line(process)
        time.sleep(chance.uniform(0.1, 0.16) if kill % 2 == 0 else chance.uniform(0, 0.03))
        processes.end(process)
        sealed = [path for path in tmp_path.iterdir() if path.name.startswith("step-")]
        assert [sentence for path in sealed for sentence in durable.check_seal(path)] == []
        seen += len(sealed)
        subprocess.run(["rm", "-rf", *map(str, sealed)], check=True)
    assert seen >= 20
    assert list(tmp_path.glob(".staging-*")), "no kill ever fell into a seal: the test proves nothing"
