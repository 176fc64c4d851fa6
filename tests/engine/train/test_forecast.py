"""Forecasts of memory, what is free, and what earlier runs teach."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import msgspec
import pytest

from engine.contract.spec import Data, Method, Model, Spec, Training
from engine.models.memory import host_free, host_total
from engine.models.safetensors_header import Tensor
from engine.train import calibration, memory
from engine.train.forecast import Counted, Sizes, forecast, sizes, trainable, weight_bytes
from engine.train.memory import Line
from tests.support.tiny import tiny_llama

MIB = 1 << 20


def spec(kind: str = "lora", precision: str = "bf16", **training: object) -> Spec:
    return Spec(
        model=Model(base="x", precision=precision),  # type: ignore[arg-type]
        data=Data(train="x"),
        method=Method(kind=kind, rank=8),  # type: ignore[arg-type]
        training=Training(max_steps=4, **training),  # type: ignore[arg-type]
    )


def model() -> Sizes:
    """One layer of Llama-3.1-8B's widths."""
    shapes = {
        "model.embed_tokens.weight": (128_256, 4096),
        "lm_head.weight": (128_256, 4096),
        "model.layers.0.self_attn.q_proj.weight": (4096, 4096),
        "model.layers.0.self_attn.k_proj.weight": (1024, 4096),
        "model.layers.0.mlp.up_proj.weight": (14_336, 4096),
        "model.norm.weight": (4096,),
    }
    config = {"num_hidden_layers": 1, "hidden_size": 4096, "vocab_size": 128_256, "num_attention_heads": 32}
    config |= {"num_key_value_heads": 8}
    return sizes(config, {name: Tensor("BF16", shape, 0, 0) for name, shape in shapes.items()})


def test_embeddings_and_head_are_not_quantised() -> None:
    """1.96 GiB of Llama-3.1-8B stay in 16 bits, and constants cost what bitsandbytes documents."""
    found = model()
    shared = 2 * (2 * 128_256 * 4096 + 4096)
    linear = 4096 * (4096 + 1024 + 14_336)
    assert weight_bytes(found, spec("qlora")) == pytest.approx(shared + linear * (0.5 + (1 / 64) * (1 + 4 / 256)))
    plain = msgspec.structs.replace(spec("qlora"), method=Method(kind="qlora", double_quant=False))
    assert weight_bytes(found, plain) == pytest.approx(shared + linear * (0.5 + 4 / 64))
    assert weight_bytes(found, spec()) == shared + 2 * linear
    assert weight_bytes(found, spec("full")) == 2 * (shared + 2 * linear)


def test_only_the_named_modules_are_learned() -> None:
    found, wanted = model(), Method(rank=8, target_modules=["q_proj"])
    assert trainable(found, spec()) == 8 * (8192 + 5120 + 18_432)
    assert trainable(found, msgspec.structs.replace(spec(), method=wanted)) == 8 * 8192
    assert trainable(found, spec("full")) == found.numbers


def test_full_training_keeps_gradients_and_two_moments() -> None:
    made = forecast(model(), spec("full"), Counted(MIB, MIB, 0), device="cuda", checkpointing=False)
    assert made.train_peak >= 16 * model().numbers
    adapter = forecast(model(), spec(), Counted(MIB, MIB, 0), device="cuda", checkpointing=False)
    assert adapter.train_peak < made.train_peak / 5
    assert made.peak == made.raw


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny") / "model", hidden=64, layers=12, vocab=512)


def rows(length: int = 96, count: int = 8) -> list[Line]:
    return [Line([number + 1] * length, [-100] * (length // 2) + [1] * (length // 2)) for number in range(count)]


@pytest.mark.parametrize("packing", [True, False])
def test_counted_activations_grow_with_tokens_and_shrink_with_checkpointing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: bool
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    wanted = spec(precision="fp32", batch=4, packing=packing, batch_tokens=400)
    short, long = (memory.Forecaster(tiny, memory.worst_of(rows(length))) for length in (48, 96))
    few, many = short(wanted, checkpointing=False), long(wanted, checkpointing=False)
    assert few.counted and many.counted
    assert 1.8 < many.activations / few.activations < 2.6
    assert long(wanted, checkpointing=True).activations < 0.4 * many.activations
    quarter = long(memory.with_training(wanted, batch=1, accumulation=4, batch_tokens=100), checkpointing=False)
    assert quarter.activations < 0.4 * many.activations


def test_counting_a_short_model_gives_that_of_the_whole(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.train import activations

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    wanted = spec(precision="bf16", packing=True, batch_tokens=400)
    layout = memory.laid_out(wanted, rows(count=4))
    cut = activations.count(tiny, wanted, layout, checkpointing=False)
    monkeypatch.setattr(activations, "_MANY_LAYERS", 100)
    whole = activations.count(tiny, wanted, layout, checkpointing=False)
    assert cut.activations == pytest.approx(whole.activations, rel=0.02)
    assert cut.logits == pytest.approx(whole.logits, rel=0.02)


def test_counts_are_kept_so_that_later_checks_need_no_torch(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    wanted = spec(precision="fp32", packing=True, batch_tokens=400)
    memory.Forecaster(tiny, memory.worst_of(rows()))(wanted, checkpointing=False)
    later = memory.Forecaster(tiny, memory.worst_of(rows()), counting=False)
    assert later(wanted, checkpointing=False).counted
    assert not later(wanted, checkpointing=True).counted
    (tmp_path / "molting" / "activations.json").write_text("[" * 100_000)
    assert not memory.Forecaster(tiny, memory.worst_of(rows()), counting=False)(wanted, checkpointing=False).counted


def test_auto_takes_fewer_tokens_at_once_before_it_checkpoints(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    wanted = spec(precision="fp32", batch=40)
    many = memory.Forecaster(tiny, memory.worst_of(rows(count=40)))
    ample, easy = many.settled(wanted, 1 << 50)
    assert (ample.training.batch_tokens, easy.checkpointing) == (4096, False)
    less, made = many.settled(wanted, round((easy.peak - 10 * MIB) / memory.ROOM))
    assert less.training.batch_tokens < 4096 and not made.checkpointing
    least, tight = many.settled(wanted, 1)
    assert (least.training.batch_tokens, tight.checkpointing) == (1024, True)
    never = memory.with_training(wanted, gradient_checkpointing=False)
    assert not many.settled(never, 1)[1].checkpointing


def test_a_stream_is_forecast_with_full_rows(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    worst = memory.worst_of([])(spec(batch=2, packing=False))
    assert [len(row.input_ids) for row in worst] == [1024, 1024]


# ---- what earlier runs teach


def ran(ratio: float, device: str = "cpu", method: str = "lora") -> calibration.Run:
    return calibration.Run(device=device, method=method, forecast=1000, measured=round(1000 * ratio))


def test_the_median_of_the_last_runs_alike_corrects_a_forecast() -> None:
    runs = [ran(1.2), ran(1.3), ran(9.0), ran(0.5, device="RTX 3050"), ran(0.7, method="qlora"), ran(1.25)]
    assert calibration.correction(runs, "cpu", "lora", 1000) == pytest.approx(1.275)
    assert calibration.correction(runs, "cpu", "qlora", 1000) == 1.0, "one run alone says nothing"
    assert calibration.correction([], "cpu", "lora", 1000) == 1.0


def test_old_runs_are_forgotten_and_no_correction_is_absurd() -> None:
    assert calibration.correction([ran(1.5)] * 20 + [ran(1.0)] * calibration.LAST, "cpu", "lora", 1000) == 1.0
    assert calibration.correction([ran(50.0)] * 5, "cpu", "lora", 1000) == calibration.MOST
    assert calibration.correction([ran(0.01)] * 5, "cpu", "lora", 1000) == calibration.LEAST


def test_what_a_toy_was_off_by_does_not_shrink_a_large_forecast() -> None:
    toys = [ran(0.7)] * 5
    assert calibration.correction(toys, "cpu", "lora", 1500) == calibration.LEAST
    assert calibration.correction(toys, "cpu", "lora", 5000) == 1.0


def test_a_correction_reaches_the_forecast() -> None:
    made = forecast(model(), spec(), Counted(0, 0, 0), device="cpu", checkpointing=False, correction=1.25)
    assert made.peak == round(1.25 * made.raw)


def _append_many(path: Path) -> None:
    for _ in range(20):
        calibration.append(ran(1.1), path)


def test_runs_that_end_at_once_are_all_kept_and_damage_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "state" / "memory.jsonl"
    workers = [multiprocessing.get_context("fork").Process(target=_append_many, args=(path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(calibration.load(path)) == 60
    with path.open("ab") as file:
        file.write(b'{"device": 1}\n\xff\xfe\n{"device":"cpu","method":"lo')
    calibration.append(ran(1.1), path)
    assert len(calibration.load(path)) == 61
    assert path.stat().st_mode & 0o777 == 0o600
    assert calibration.load(tmp_path / "none.jsonl") == []


# ---- what is free


def test_a_control_group_limits_what_is_free(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    inner = groups / "job" / "step"
    inner.mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("0::/job/step\n")
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text("7\n")
    assert host_free(proc, groups) > 1 << 20
    (groups / "job" / "memory.max").write_text("1000000\n")
    (groups / "job" / "memory.current").write_text("700000\n")
    assert host_free(proc, groups) == 300_000, "the group around ours counts too"
    (groups / "job" / "memory.stat").write_text("anon 1\ninactive_file 50000\n")
    assert host_free(proc, groups) == 350_000
    assert host_total(proc, groups) < 1 << 20, "what is not ours however long we wait"


def test_a_limit_of_the_first_version_of_control_groups_counts(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("4:memory:/job\n3:cpu:/\n")
    (groups / "memory" / "job").mkdir(parents=True)
    (groups / "memory" / "job" / "memory.limit_in_bytes").write_text("900000")
    (groups / "memory" / "job" / "memory.usage_in_bytes").write_text("1000000")
    assert host_free(proc, groups) == 0
