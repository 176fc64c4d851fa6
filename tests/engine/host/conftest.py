"""A host with a tiny model and a run on it, shared by a module's tests: importing torch takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.contract.rundir import RunDir
from tests.support.host import Hosted, hosted
from tests.support.tiny import tiny_llama
from tests.support.trained_runs import run_with_adapter


@pytest.fixture(scope="module", name="place")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with hosted(tmp_path_factory.mktemp("host")) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "tiny", initializer_range=0.1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, base: Path) -> RunDir:
    return run_with_adapter(tmp_path_factory.mktemp("runs"), base, generation={"max_new_tokens": 24})
