"""What the doctor says of memory: by component, with changes that were forecast to fit."""

from __future__ import annotations

import msgspec
import pytest

from engine.checks.memory import Room, changed, suffices, ways_to_fit
from engine.contract.calls import Finding
from engine.contract.spec import Data, Method, Model, Spec, Training
from engine.train.forecast import Forecast, Sizes, estimated, forecast

GB = 10**9
# Phi-3-mini: 3.8 billion numbers, 197 million of them in embedding and head.
PHI = Sizes(
    layers=32, hidden=3072, inner=8192, vocab=32_064, kv=2 * 32 * 3072, linear=3_624 * 10**6, other=197 * 10**6,
    largest_linear=50 * 10**6, largest=98 * 10**6, adapted={"qkv_proj": 32 * 12_288, "o_proj": 32 * 6144},
)  # fmt: skip


def spec(kind: str = "qlora", **training: object) -> Spec:
    values = {"batch": 4, "packing": False, "max_steps": 50, **training}
    return Spec(
        model=Model(base="phi", precision="bf16"),
        data=Data(train="rows"),
        method=Method(kind=kind),  # type: ignore[arg-type]
        training=Training(**values),  # type: ignore[arg-type]
    )


def settle(wanted: Spec) -> tuple[Spec, Forecast]:
    """As the machine would, with an estimate in the place of a count."""
    on = wanted.training.gradient_checkpointing is True
    length = min(512, wanted.data.max_length)
    counted = estimated(PHI, wanted.training.batch * length, wanted.training.batch * 80, checkpointing=on)
    return wanted, forecast(PHI, wanted, counted, device="cuda", checkpointing=on, longest=length)


def found(wanted: Spec, free: float) -> list[Finding]:
    return list(suffices(wanted, Room(round(free), "NVIDIA GeForce RTX 3050"), settle, 512))


def test_a_card_of_four_gigabytes_takes_phi_3_in_four_bits_when_told_how() -> None:
    (finding,) = found(spec(gradient_checkpointing=False), 3.9 * GB)
    assert (finding.id, finding.severity) == ("no-memory", "error")
    assert "Training needs" in finding.message and "3.90 GB are free on NVIDIA GeForce RTX 3050" in finding.message
    assert "weights 2.2" in finding.evidence and "activations" in finding.evidence
    assert finding.fix and finding.fix[0].key == "training.gradient_checkpointing"
    changes = [(change.key, change.value) for change in finding.fix]
    assert found(changed(spec(gradient_checkpointing=False), changes), 3.9 * GB) == [], "what is offered fits"


def test_in_sixteen_bits_it_does_not_even_load() -> None:
    (finding,) = found(spec("lora", gradient_checkpointing=True, batch=1), 3.9 * GB)
    assert "weights 7.64 GB" in finding.evidence
    assert 'method.kind = "qlora"' in finding.remedy
    assert ("method.kind", "qlora") in [(change.key, change.value) for change in finding.fix]


def test_what_nothing_makes_fit_is_said_without_a_fix() -> None:
    (finding,) = found(spec(gradient_checkpointing=True, batch=1), 1.5 * GB)
    assert finding.fix == [] and "No setting makes it fit" in finding.remedy


def test_little_room_is_a_warning_and_ample_room_silence() -> None:
    _, made = settle(spec())
    (finding,) = found(spec(), made.peak * 1.05)
    assert (finding.id, finding.severity) == ("little-memory", "warning")
    assert found(spec(), made.peak * 1.2) == []


@pytest.mark.parametrize("packing", [True, False])
def test_smaller_batches_keep_the_rows_of_a_step(packing: bool) -> None:
    wanted = spec(batch=6, accumulation=2, packing=packing, batch_tokens=4096)
    for way in ways_to_fit(wanted, 512):
        assert changed(wanted, way.changes).rows_per_step == 12, way


def test_the_cheapest_change_comes_first() -> None:
    wanted = Spec(
        model=Model(base="phi", precision="bf16"),
        data=Data(train="rows"),
        method=Method(kind="qlora", double_quant=False),
        training=Training(batch=2, packing=False, gradient_checkpointing=False),
    )
    first, second, third, *_, last = ways_to_fit(wanted, 512)
    assert first.changes[0][0] == "method.double_quant"
    assert second.changes[0][0] == "training.gradient_checkpointing"
    assert third.changes[0] == ("training.batch", 1)
    assert last.changes[-1][0] == "method.rank"


def test_more_gpus_are_offered_where_one_does_not_suffice() -> None:
    def on_several(wanted: Spec) -> tuple[Spec, Forecast]:
        cards = 1 if wanted.devices == "auto" else int(wanted.devices)  # type: ignore[call-overload]
        counted = estimated(PHI, 512, 80, checkpointing=True)
        training = msgspec.structs.replace(wanted.training, shard=cards > 1)
        split = msgspec.structs.replace(wanted, training=training)
        return split, forecast(PHI, split, counted, device="cuda", checkpointing=True, longest=512, world=cards)

    wanted = spec("lora", gradient_checkpointing=True, batch=1)
    (finding,) = suffices(wanted, Room(5 * GB, "a card", more=4), on_several, 512)
    assert [(change.key, change.value) for change in finding.fix] == [("devices", 3)]
    assert "the model split over 3 GPUs" in finding.remedy
    assert changed(wanted, [("devices", 3)]).devices == 3


def test_a_split_model_takes_its_part_of_the_weights_in_each_process() -> None:
    counted = estimated(PHI, 512, 80, checkpointing=True)
    whole, split = (
        forecast(PHI, spec("lora", shard=on), counted, device="cuda", checkpointing=True, world=8)
        for on in (False, True)
    )
    assert whole.weights / 8 < split.weights < whole.weights / 4
    assert split.adapter == whole.adapter and split.optimizer == whole.optimizer
