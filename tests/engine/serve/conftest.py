"""`molting serve` as people start it, on a tiny run, shared by a module's tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from engine.contract.rundir import RunDir
from tests.support.host import ROOT, Hosted, hosted
from tests.support.tiny import tiny_llama
from tests.support.trained_runs import run_with_adapter


class Serving(NamedTuple):
    url: str
    key: str
    run: RunDir
    place: Hosted
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].removesuffix("/v1"))


def start(place: Hosted, run: RunDir, *options: str, **env: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "molting_tui", "--runs", str(run.path.parent), "serve", run.id, *options]
    more = {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(place.runtime), "LANG": "en_US.UTF-8"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(argv, env=place.env | more | env, text=True, start_new_session=True, **pipes)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    root = tmp_path_factory.mktemp("serve")
    base = tiny_llama(root / "tiny", initializer_range=0.1)
    run = run_with_adapter(root / "runs", base, generation={"max_new_tokens": 12})
    with hosted(tmp_path_factory.mktemp("h")) as place:
        process = start(place, run)
        try:
            assert process.stdout
            first, second = process.stdout.readline(), process.stdout.readline()
            assert first.startswith("Serving at http://127.0.0.1:"), (first, process.stderr.read())
            yield Serving(first.split()[2], second.removeprefix("API key: ").strip(), run, place, process)
        finally:
            process.terminate()
            process.communicate(timeout=30)
