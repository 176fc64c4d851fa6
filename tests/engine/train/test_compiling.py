"""Compiled layers compute the same, once for every layer and length; and a failure is told from others."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch._dynamo.utils import counters

from engine.contract.spec import Data, Method, Model, Spec, Training
from engine.train import batch, compiling, learn
from engine.train.attention import tree_attention
from engine.train.loss import summed_loss
from tests.support.voices import plain_model, with_adapter


class Row(msgspec.Struct):
    input_ids: list[int]
    labels: list[int]


def rows(*lengths: int) -> list[Row]:
    system = list(range(40, 70))
    own = [[(number * 7 + i) % 500 + 3 for i in range(length)] for number, length in enumerate(lengths)]
    return [Row(system + ids, [-100] * len(system) + ids) for ids in own]


def gradients(model: torch.nn.Module, some: list[Row]) -> list[torch.Tensor]:
    model.zero_grad()
    with tree_attention(model):
        summed_loss(model, batch.pack(some)).backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def test_one_graph_serves_every_layer_and_length() -> None:
    model = with_adapter(plain_model(), strength=0.05).train()
    steps = [rows(5, 9), rows(12, 30, 7), rows(300, 280), rows(8)]
    expected = [gradients(model, some) for some in steps]
    counters.clear()
    compiling.compile_layers(model, backend="aot_eager")
    for some, grads in zip(steps, expected, strict=True):
        for ours, theirs in zip(gradients(model, some), grads, strict=True):
            assert (ours - theirs).norm() <= 1e-5 * theirs.norm() + 1e-7
    # The first layer has no gradient to give back, the others have; and a tree is one block or many.
    assert counters["stats"]["unique_graphs"] <= 4
    assert not counters["graph_break"]
    compiling.back_to_eager(model)
    assert torch.equal(gradients(model, steps[0])[0], expected[0][0])


def test_a_compiler_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config

    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    torch._dynamo.reset()
    broken = torch.compile(lambda x: (x * 3 + 1).sin())
    with pytest.raises(Exception, match="compiler") as caught:
        broken(torch.ones(4))
    assert compiling.failed(caught.value)
    assert not compiling.failed(RuntimeError("shapes differ"))


def of_run(*, stream: bool = False) -> learn.Rows:
    """Four rows of 100 tokens a step, which share 60: 220 of 400 pass through the model."""
    step = [Row([*range(60), *[100 + number] * 40], [-100] * 100) for number in range(4)]
    return learn.Rows(lambda number: step, heldout=[], count=0 if stream else 4, longest=100, funnel=lambda: None)


@pytest.mark.parametrize(
    ("wanted", "steps", "kind", "rows", "device", "expected"),
    [
        ("auto", 454, "lora", of_run(), "cpu", False),
        ("auto", 455, "lora", of_run(), "cpu", True),
        ("auto", 455, "lora", of_run(), "cuda:0", False),
        ("auto", 455, "qlora", of_run(), "cpu", False),
        ("auto", 399, "lora", of_run(stream=True), "cpu", False),
        ("auto", 400, "lora", of_run(stream=True), "cpu", True),
        (True, 1, "qlora", of_run(), "cpu", True),
        (False, 9999, "lora", of_run(), "cpu", False),
    ],
)
def test_auto_is_for_long_runs(
    monkeypatch: pytest.MonkeyPatch,
    wanted: bool | str,
    steps: int,
    kind: str,
    rows: learn.Rows,
    device: str,
    expected: bool,
) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: f"/usr/bin/{name}")
    training = Training(compile=wanted, max_steps=steps, packing=True)
    spec = Spec(model=Model(base="demo"), data=Data(train="rows.jsonl"), training=training, method=Method(kind=kind))
    assert compiling.worthwhile(spec, rows, device) is expected
    # With less memory at a resume the same rows take more parts, and the run goes on as it began.
    narrow = msgspec.structs.replace(spec, training=msgspec.structs.replace(training, batch_tokens=100))
    assert compiling.worthwhile(narrow, rows, device) is expected
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    assert compiling.worthwhile(spec, rows, device) is (wanted is True)
