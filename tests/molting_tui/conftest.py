"""The scripted command line, for every test of a command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Scripted


@pytest.fixture
def molting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Scripted]:
    before = os.umask(0o077)  # main() sets it for its process, which is this one
    yield Scripted(tmp_path, monkeypatch, capfd)
    os.umask(before)
