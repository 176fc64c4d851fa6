"""A base model and runs on it, for `ask` and `prove`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from engine.contract.rundir import RunDir
from tests.support.tiny import tiny_llama
from tests.support.trained_runs import run_with_adapter


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose weights are large enough for its answers to vary."""
    return tiny_llama(tmp_path_factory.mktemp("models") / "tiny", initializer_range=0.1)


@pytest.fixture
def make_run(tmp_path: Path, base: Path) -> Callable[..., RunDir]:
    """`run_with_adapter` on that model, in folders of this test."""
    return partial(run_with_adapter, tmp_path / "runs", base)
