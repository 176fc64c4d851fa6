from __future__ import annotations

import itertools
import json
import os
import random
import stat
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import journal
from engine.contract.errors import MoltingError
from engine.contract.journal import MAX_LINE, JournalReader, JournalWriter
from tests.support import processes
from tests.support.faults import open_descriptors


def everything(reader: JournalReader, tail: int) -> list[bytes]:
    """All that a reader gives by its tail and backwards."""
    lines = reader.tail(tail)
    for block in reader.iter_backwards():
        lines = block + lines
    return lines


def test_written_lines_are_read_once_and_in_order(tmp_path: Path) -> None:
    writer, reader = JournalWriter(tmp_path / "log"), JournalReader(tmp_path / "log")
    assert reader.read() == []
    writer.write(b"one")
    writer.write(b"two\n")
    assert reader.read() == [b"one", b"two"]
    assert reader.read() == []
    writer.write(b"three", durable=True)
    assert reader.read() == [b"three"]
    assert not reader.restarted and reader.damaged == 0
    writer.close()
    writer.close()


def test_the_file_is_private_and_exclusive(tmp_path: Path) -> None:
    JournalWriter(tmp_path / "log").close()
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        JournalWriter(tmp_path / "log")


@pytest.mark.parametrize("line", [b"a\nb", b"x" * (MAX_LINE + 1)])
def test_a_line_that_no_reader_would_accept_is_not_written(tmp_path: Path, line: bytes) -> None:
    writer = JournalWriter(tmp_path / "log")
    with pytest.raises(ValueError, match="one line"):
        writer.write(line)
    writer.write(b"x" * MAX_LINE)
    writer.close()
    assert [len(found) for found in JournalReader(tmp_path / "log").read()] == [MAX_LINE]


def test_syncs_are_rare_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    writer = JournalWriter(tmp_path / "log")
    for _ in range(100):
        writer.write(b"{}")
    assert len(synced) <= 1
    writer.write(b"{}", durable=True)
    assert 1 <= len(synced) <= 2
    shared = JournalWriter(tmp_path / "lifecycle", exclusive=False)
    before = len(synced)
    for _ in range(5):
        shared.write(b"{}")
    assert len(synced) == before + 5


def test_a_torn_tail_means_wait(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"a":1}\n{"b"')
    reader = JournalReader(path)
    assert reader.read() == [b'{"a":1}']
    assert reader.read() == [] and reader.damaged == 0
    with path.open("ab") as file:
        file.write(b":2}\n")
    assert reader.read() == [b'{"b":2}'] and reader.damaged == 0


def test_a_torn_tail_that_is_taken_back_and_written_otherwise_is_not_mixed_up(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntorn tw")
    reader = JournalReader(path)
    assert reader.read() == [b"one"]
    path.write_bytes(b"one\nsomething else\n")
    assert reader.read() == [b"something else"] and not reader.restarted


def test_a_tail_of_nuls_is_waited_for_and_then_damage(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n" + b"\0" * 5000)
    reader = JournalReader(path)
    assert reader.read() == [b"one"] and reader.damaged == 0
    writer = JournalWriter(path, exclusive=False)
    writer.write(b"two")
    assert reader.read() == [b"two"] and reader.damaged == 1
    assert everything(JournalReader(path), 1) == [b"one", b"two"]


def test_a_writer_that_continues_closes_the_torn_line_first(tmp_path: Path) -> None:
    path = tmp_path / "lifecycle.jsonl"
    path.write_bytes(b'{"state":"queued"}\n{"state":"sta')
    JournalWriter(path, exclusive=False).close()
    assert path.read_bytes().endswith(b'"sta'), "nothing is changed before there is something to say"
    writer = JournalWriter(path, exclusive=False)
    writer.write(b'{"state":"failed"}')
    writer.write(b'{"state":"queued"}')
    assert path.read_bytes() == b'{"state":"queued"}\n{"state":"sta\n{"state":"failed"}\n{"state":"queued"}\n'


def test_a_monstrous_line_is_skipped_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.write(b"first\n")
        for _ in range(30):
            file.write(b"x" * (1 << 20))
    reader = JournalReader(path)
    tracemalloc.start()
    assert reader.read() == [b"first"] and reader.damaged == 0, "unfinished: wait"
    with path.open("ab") as file:
        file.write(b"\nlast\n")
    assert reader.read() == [b"last"] and reader.damaged == 1
    backwards = JournalReader(path)
    assert everything(backwards, 1) == [b"first", b"last"] and backwards.damaged == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("after", [b"", b"new\n", b"new line, and longer than before\n"])
def test_a_file_cut_short_is_read_anew(tmp_path: Path, after: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthree\n")
    reader = JournalReader(path)
    reader.read()
    reader.count_damage()
    path.write_bytes(after)
    assert reader.read() == after.splitlines()
    assert reader.restarted and reader.damaged == 0
    reader.read()
    assert not reader.restarted


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    reader = JournalReader(path)
    assert reader.read() == [b"one"]
    (tmp_path / "other").write_bytes(b"uno\ndos\n")
    (tmp_path / "other").rename(path)
    assert reader.read() == [b"uno", b"dos"] and reader.restarted
    path.unlink()
    assert reader.read() == [] and not reader.restarted
    path.write_bytes(b"eins\n")
    assert reader.read() == [b"eins"] and reader.restarted


def test_going_back_ends_when_the_file_was_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_CHUNK", 17)
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"%d\n" % n for n in range(100)))
    reader = JournalReader(path)
    reader.tail(5)
    back = reader.iter_backwards()
    next(back)
    path.write_bytes(b"new\n")
    assert reader.read() == [b"new"] and reader.restarted
    assert list(back) == []


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_not_a_plain_file_is_refused_at_once(tmp_path: Path, make) -> None:
    make(tmp_path / "log")
    reader = JournalReader(tmp_path / "log")
    for _ in range(2):
        with pytest.raises(MoltingError):
            reader.read()
    with pytest.raises(MoltingError):
        reader.tail(3)
    with pytest.raises((MoltingError, OSError)):
        JournalWriter(tmp_path / "log", exclusive=False)


def test_readers_that_are_dropped_leave_no_descriptor_open(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\n")
    before = open_descriptors()
    for _ in range(50):
        JournalReader(tmp_path / "log").read()
    assert open_descriptors() == before


@given(
    lines=st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"")), max_size=30),
    cuts=st.lists(st.integers(0, 1300), max_size=8),
    torn=st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"")),
    tail=st.integers(0, 12),
)
@settings(max_examples=300, deadline=None)
def test_any_content_in_any_pieces_reads_the_same_forwards_and_backwards(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], cuts: list[int], torn: bytes, tail: int
) -> None:
    path = tmp_path_factory.getbasetemp() / f"log-{random.getrandbits(60)}"
    content = b"".join(line + b"\n" for line in lines)
    good = [line for line in lines if line and b"\0" not in line and len(line) <= 16]
    bad = sum(1 for line in lines if line and (b"\0" in line or len(line) > 16))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "MAX_LINE", 16)
        patch.setattr(journal, "_CHUNK", 17)
        reader, found = JournalReader(path), []
        edges = sorted({0, *(min(cut, len(content)) for cut in cuts), len(content)})
        with path.open("ab", buffering=0) as file:
            for start, stop in itertools.pairwise(edges):
                file.write(content[start:stop])
                found += reader.read()
            file.write(torn)
            found += reader.read()
        assert (found, reader.damaged, reader.restarted) == (good, bad, False)
        back = JournalReader(path)
        last = back.tail(tail)
        assert last == good[len(good) - min(tail, len(good)) :]
        with path.open("ab") as file:
            file.write(b"\nend\n")
        after = back.read()
        assert after[-1:] == [b"end"]
        before = [line for block in [*back.iter_backwards()][::-1] for line in block]
        assert before + last == good
    path.unlink()


WRITE_FOREVER = """
import itertools, json, sys
from pathlib import Path
from engine.contract.journal import JournalWriter
writer = JournalWriter(Path(sys.argv[1]), exclusive=False)
writer._sync_every = 2.0
print("ready", flush=True)
for n in itertools.count():
    writer.write(json.dumps({"kill": int(sys.argv[2]), "n": n, "pad": "x" * 60000}).encode())
"""


def test_kill_9_in_the_middle_of_writing_costs_at_most_the_torn_line(tmp_path: Path) -> None:
    path, chance = tmp_path / "log", random.Random(3)
    reader, kills = JournalReader(path), 12
    seen: dict[int, int] = {}
    for kill in range(kills):
        writer = processes.start(WRITE_FOREVER, path, kill)
        processes.line(writer)
        stop_at = time.monotonic() + chance.uniform(0, 0.03)
        killed = False
        while not killed:
            if killed := time.monotonic() > stop_at:
                processes.end(writer)
            for line in reader.read():
                try:
                    event = json.loads(line)
                except ValueError:
                    reader.count_damage()
                    continue
                assert event["n"] == seen.get(event["kill"], -1) + 1, "a line was lost or came twice"
                seen[event["kill"]] = event["n"]
    assert reader.damaged <= kills and len(seen) >= kills // 2
    assert not reader.restarted


@pytest.mark.parametrize("sizes", [[10, 300_000, 5], [3, MAX_LINE + 5, 700_000, 4, 2 * MAX_LINE], [900_000] * 3, []])
def test_blocks_hold_what_read_gives(sizes: list[int], tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"".join(b"%d" % n + b"x" * size + b"\n" for n, size in enumerate(sizes)) + b"torn")
    whole, parts = JournalReader(log), JournalReader(log)
    lines = [line for block in parts.blocks() for line in parts.usable(block.split(b"\n"))]
    assert lines == whole.read()
    assert parts.damaged == whole.damaged == sum(size > MAX_LINE for size in sizes)
