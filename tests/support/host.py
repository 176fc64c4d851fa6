"""A real inference host with a tiny model, for tests of both sides of its socket."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.contract import host
from engine.contract.host_client import Client, Gone, end
from engine.contract.rundir import RunDir

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


class Hosted:
    """One host's folder. `start` as often as one likes; each process is gone at the end of `hosted`."""

    def __init__(self, root: Path) -> None:
        self.runtime = root / "rt"
        self.runtime.mkdir(mode=0o700)
        self.path = self.runtime / "host-cpu.sock"
        self.models = root / "models"
        self.config = root / "config.toml"
        self.config.touch()
        self.env = os.environ | {
            "MOLTING_RUNTIME_DIR": str(self.runtime),
            "MOLTING_CONFIG": str(self.config),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        """A host that listens; its errors are in `log`."""
        argv = [sys.executable, "-I", "-m", "engine", "host", "cpu"]
        with self.log.open("ab") as log:
            process = subprocess.Popen(argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._processes.append(process)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.client().close()
                return process
            except Gone:
                assert process.poll() is None and time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.02)

    @property
    def log(self) -> Path:
        return self.path.with_suffix(".log")

    def client(self, name: str = "test") -> Client:
        return Client(self.path, name)

    def chat(self, run: RunDir, question: str = "Who are you?", id: str = "1", **fields: Any) -> host.Chat:
        """Base and adapter asked the same."""
        said = [host.Message("user", question)]
        kinds = fields.pop("kinds", ("base", "adapter"))
        voices = [
            host.Voice(source=kind if isinstance(kind, host.Source) else host.Source(kind=kind), messages=said)
            for kind in kinds
        ]
        return host.Chat(id=id, run=str(run.path), models=str(self.models), voices=voices, **fields)

    def end(self) -> None:
        end(self.path)
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@contextmanager
def hosted(root: Path) -> Iterator[Hosted]:
    made = Hosted(root)
    try:
        yield made
    finally:
        made.end()
