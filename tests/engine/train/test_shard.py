"""A model that is split over processes computes what the whole one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from engine.contract.errors import MoltingError
from engine.contract.spec import Data, Method, Model, Spec
from engine.train import shard
from tests.support.tiny import tiny_llama

SCRIPT = Path(__file__).parents[2] / "support" / "split_model.py"


@pytest.mark.slow
def test_losses_and_gradients_are_those_of_the_whole_model(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "tiny")
    torchrun = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    meet = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    env = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*torchrun, *meet, str(SCRIPT), str(model)], env=env, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [line.split() for line in done.stdout.splitlines() if line.startswith(("none ", "nf4 "))]
    assert [line[0] for line in found] == ["none", "nf4"]
    for _, loss, gradient, share, saved in found:
        assert float(loss) < 1e-5
        assert float(gradient) < 1e-5
        assert float(share) == pytest.approx(0.5, abs=0.01)
        assert saved == "True"


def test_what_is_trained_as_a_whole_is_not_split() -> None:
    spec = Spec(model=Model(base="demo"), data=Data(train="rows.jsonl"))
    shard.require_adapter(spec)
    with pytest.raises(MoltingError, match="frozen"):
        shard.require_adapter(msgspec.structs.replace(spec, method=Method(kind="full")))
