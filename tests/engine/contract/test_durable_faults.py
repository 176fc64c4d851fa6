"""Every system call fails in turn, once or from then on: what was there before stays, or what is new is whole."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.contract import durable, journal
from engine.contract.journal import JournalReader, JournalWriter
from tests.support.faults import ERRORS, FaultyOs, install, open_descriptors

OLD, NEW = b"old content", b"new content, longer than the old"
pytestmark = pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])


def faults(lasting: bool, *, short: bool = False) -> Iterator[FaultyOs]:
    """Faults at call 1, 2, 3 …, for each error, until one comes too late to be met."""
    for error in ERRORS:
        for fail_at in range(1, 200):
            fault = FaultyOs(fail_at, error, lasting=lasting, short=short)
            yield fault
            if not fault.failed:
                assert fail_at > 3, "nothing was made to fail"
                break
        else:
            raise AssertionError("it never got through")


def test_write_replace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool) -> None:
    path = tmp_path / "owner.json"
    for fault in faults(lasting):
        durable.write_replace(path, OLD)
        before = open_descriptors()
        with monkeypatch.context() as patch:
            install(patch, fault, durable)
            try:
                durable.write_replace(path, NEW)
                assert path.read_bytes() == NEW
            except OSError as error:
                assert error.errno == fault.error
        assert path.read_bytes() in (OLD, NEW)
        assert open_descriptors() == before
        strays = [each for each in tmp_path.iterdir() if each != path]
        assert all(each.match(".owner.json.*.tmp") for each in strays)
        assert lasting or not strays
        for stray in strays:
            stray.unlink()


def test_write_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool) -> None:
    path = tmp_path / "spec.toml"
    for fault in faults(lasting):
        path.unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            install(patch, fault, durable)
            try:
                durable.write_new(path, NEW)
                assert path.read_bytes() == NEW
            except OSError:
                assert lasting or not path.exists()


def test_make_private_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool) -> None:
    for fault in faults(lasting):
        shutil.rmtree(tmp_path / "a", ignore_errors=True)
        with monkeypatch.context() as patch:
            install(patch, fault, durable)
            try:
                durable.make_private_dir(tmp_path / "a" / "b")
                assert (tmp_path / "a" / "b").is_dir()
            except OSError as error:
                assert error.errno == fault.error
        durable.make_private_dir(tmp_path / "a" / "b")  # and a second try always gets through


def test_seal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool) -> None:
    staging, target = tmp_path / ".staging", tmp_path / "step-1"
    for fault in faults(lasting):
        shutil.rmtree(target, ignore_errors=True)
        shutil.rmtree(staging, ignore_errors=True)
        (staging / "nested").mkdir(parents=True)
        (staging / "adapter.safetensors").write_bytes(b"weights")
        (staging / "nested" / "rng_state.pth").write_bytes(b"state")
        before = open_descriptors()
        with monkeypatch.context() as patch:
            install(patch, fault, durable)
            try:
                durable.seal(staging, target, step=1)
                assert target.exists()
            except OSError as error:
                assert error.errno == fault.error
        assert open_descriptors() == before
        assert not target.exists() or durable.check_seal(target) == []
        if not target.exists():
            durable.seal(staging, target, step=1)  # what is left in staging never spoils another try
            assert durable.check_seal(target) == []


def test_check_seal_never_passes_what_it_could_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool
) -> None:
    staging, target = tmp_path / ".staging", tmp_path / "step-1"
    staging.mkdir()
    (staging / "adapter.safetensors").write_bytes(b"weights")
    durable.seal(staging, target)
    for fault in faults(lasting):
        with monkeypatch.context() as patch:
            install(patch, fault, durable)
            problems = durable.check_seal(target)
        assert bool(problems) == fault.failed


@pytest.mark.parametrize("short", [False, True], ids=["refused", "short"])
@pytest.mark.parametrize("exclusive", [False, True], ids=["shared", "exclusive"])
def test_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool, short: bool, exclusive: bool) -> None:
    path = tmp_path / "events.jsonl"
    for fault in faults(lasting, short=short):
        path.unlink(missing_ok=True)
        if not exclusive:
            path.write_bytes(b'{"n":-1}\n{"torn":')
        before = open_descriptors()
        acknowledged = _write_some(path, fault, monkeypatch, exclusive)
        assert open_descriptors() == before
        whole = [line for line in JournalReader(path).read() if _decodes(line)]
        assert [line for line in whole if line in acknowledged] == acknowledged
        # What was refused may be there or not; half of it, run together with the next line, never.
        assert all(line in [b'{"n":%d}' % n for n in range(-1, 6)] for line in whole)


def _decodes(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _write_some(path: Path, fault: FaultyOs, monkeypatch: pytest.MonkeyPatch, exclusive: bool) -> list[bytes]:
    """Write five lines while the disk fails, then one more when it is well again; those acknowledged."""
    acknowledged: list[bytes] = []
    with monkeypatch.context() as patch:
        install(patch, fault, durable, journal)
        try:
            writer = JournalWriter(path, exclusive=exclusive)
        except OSError:
            return []
        for n in range(5):
            line = b'{"n":%d}' % n
            try:
                writer.write(line, durable=n == 2)
                acknowledged.append(line)
            except OSError as error:
                assert error.errno in (fault.error, errno.ENOSPC)
    writer.write(b'{"n":5}')
    writer.close()
    return [*acknowledged, b'{"n":5}']
