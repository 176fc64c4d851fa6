from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from engine.contract.errors import MoltingError
from molting_tui.services.view_state import ViewStore
from molting_tui.state.view import View


def pin(name: str):  # type: ignore[no-untyped-def]
    return lambda view: view.pinned.append(name)


def test_what_was_arranged_is_there_again_and_private(tmp_path: Path) -> None:
    store = ViewStore(tmp_path / "runs")
    assert store.read() == View()
    store.change(pin("a"))
    assert ViewStore(tmp_path / "runs").read().pinned == ["a"]
    assert stat.S_IMODE((tmp_path / "runs/.app/view.json").stat().st_mode) == 0o600


def test_two_apps_do_not_overwrite_each_other(tmp_path: Path) -> None:
    stores = [ViewStore(tmp_path) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda store=store, n=n: [store.change(pin(f"{n}-{i}")) for i in range(5)])
        for n, store in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores[0].read().pinned) == 20


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"pinned": 3}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_file_is_put_aside_not_lost(tmp_path: Path, raw: bytes) -> None:
    store = ViewStore(tmp_path)
    store.folder.mkdir()
    (store.folder / "view.json").write_bytes(raw)
    assert store.read() == View()
    store.change(pin("a"))
    assert store.read().pinned == ["a"]
    [kept] = store.folder.glob("view.damaged-*.json")
    assert kept.read_bytes() == raw


def test_fields_of_a_later_version_do_no_harm(tmp_path: Path) -> None:
    store = ViewStore(tmp_path)
    store.folder.mkdir()
    (store.folder / "view.json").write_text('{"v": 1, "pinned": ["a"], "new": {"x": 1}}')
    assert store.read().pinned == ["a"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(MoltingError, match="Could not remember"):
        ViewStore(tmp_path).change(pin("a"))


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / ".app").write_text("not a folder")
    assert ViewStore(tmp_path).read() == View()
    with pytest.raises(MoltingError, match="Could not remember"):
        ViewStore(tmp_path).change(pin("a"))
