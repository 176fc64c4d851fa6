"""Which GPU a run claims, by what NVML and CUDA_VISIBLE_DEVICES say."""

from __future__ import annotations

import os

import pytest

from engine.contract.errors import MoltingError
from engine.train import device, ranks

GPUS = [device.Gpu("GPU-aaaa", 1, 8), device.Gpu("GPU-bbbb", 2, 7)]


@pytest.mark.parametrize(
    ("visible", "claimed"),
    [
        (None, "GPU-aaaa"),
        ("0", "GPU-aaaa"),
        ("1,0", "GPU-bbbb"),
        ("GPU-bb", "GPU-bbbb"),
        ("", "cpu"),
        ("-1", "cpu"),
        ("7", "cpu"),
        ("GPU-none", "cpu"),
    ],
)
def test_claim(monkeypatch: pytest.MonkeyPatch, visible: str | None, claimed: str) -> None:
    monkeypatch.setattr(device, "_gpus", lambda: GPUS)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.claim_name() == claimed


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert all(isinstance(gpu, device.Gpu) for gpu in device._gpus())


@pytest.mark.parametrize(
    ("wanted", "names", "processes"),
    [
        ("auto", ("GPU-aaaa",), 1),
        (1, ("GPU-aaaa",), 1),
        (2, ("GPU-aaaa", "GPU-bbbb"), 2),
        (["GPU-bbbb"], ("GPU-bbbb",), 1),
        (["GPU-b", "GPU-a"], ("GPU-bbbb", "GPU-aaaa"), 2),
    ],
)
def test_a_team(
    monkeypatch: pytest.MonkeyPatch, wanted: int | str | list[str], names: tuple[str, ...], processes: int
) -> None:
    monkeypatch.setattr(device, "visible_gpus", lambda: GPUS)
    assert device.team(wanted) == device.Team(names, processes)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (3, "this machine has 2 GPUs"),
        (["GPU-cccc"], "no GPU 'GPU-cccc'"),
        (["GPU-"], "no GPU 'GPU-'"),
        (["GPU-a", "GPU-aaaa"], "twice"),
    ],
)
def test_a_team_that_is_not_there(monkeypatch: pytest.MonkeyPatch, wanted: int | list[str], says: str) -> None:
    monkeypatch.setattr(device, "visible_gpus", lambda: GPUS)
    with pytest.raises(MoltingError, match=says) as raised:
        device.team(wanted)
    assert raised.value.remedy


def test_without_a_gpu_a_team_shares_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "visible_gpus", list)
    assert device.team(4) == device.Team(("cpu",), 4)
    with pytest.raises(MoltingError):
        device.team(["GPU-aaaa"])


def test_each_process_sees_its_own_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    monkeypatch.setenv("LOCAL_RANK", "1")
    ranks.take_device()
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["LOCAL_RANK"]) == ("GPU-b", "0")
    ranks.take_device()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-b"
