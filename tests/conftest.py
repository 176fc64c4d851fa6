"""Fixtures that several tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded: tests share the cores

from tests.support.world import World, world


@pytest.fixture(scope="module", name="world")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A place for real runs, one for each test module."""
    with world(tmp_path_factory.mktemp("world")) as made:
        yield made
