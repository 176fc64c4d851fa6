"""Which GPU a run claims, by what NVML and CUDA_VISIBLE_DEVICES say."""

from __future__ import annotations

import pytest

from engine.train import device

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
