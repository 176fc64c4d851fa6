"""What the tests of several screens share."""

from __future__ import annotations

import pytest

from engine.contract import calls
from molting_tui.services import host as service
from tests.support.runs import Recorded, make_run


@pytest.fixture(name="place")
def _place(tmp_path, monkeypatch):
    """A finished run; the engine that says where the host is, and starts it, is the test."""
    folder = tmp_path / "runs"
    folder.mkdir()
    run = make_run(folder, "rhea")
    Recorded(run).state("queued", "starting").start().state("training", "finished")
    socket = tmp_path / "host.sock"
    found = calls.HostPlace(path=str(socket), pid=1, device="cpu")
    monkeypatch.setattr(service.engine, "call", lambda *args: found)
    return run, socket
