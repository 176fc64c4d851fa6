"""Loading for real: precisions, 4 bits trained on a CPU, context stretching, the kept 4-bit model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.contract.errors import MoltingError
from engine.models import quantized, rope
from engine.models.adapters import attach_adapter
from engine.models.device import choose_device, choose_precision, cpu_has_bf16
from engine.models.load import LoadedModel, LoadOptions, load_base, load_tokenizer
from engine.models.quantized import prequantized
from engine.models.rope import apply_rope
from tests.support.tiny import tiny_config, tiny_llama

IDS = torch.tensor([[1, 5, 6, 7, 9, 30, 31, 33]])
NF4 = LoadOptions(quantization="nf4", precision="bf16", device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Wide enough for blocks of 64 x 256 weights, which double quantisation works on.
    return tiny_llama(tmp_path_factory.mktemp("base") / "tiny", hidden=128, initializer_range=0.1)


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits.float()


def answer(model: Any) -> list[int]:
    generated = model.generate(
        input_ids=IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=12, do_sample=False, pad_token_id=2
    )
    return generated[0, IDS.shape[1] :].tolist()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_loads_what_transformers_would_load(folder: Path, precision: str) -> None:
    from transformers import AutoModelForCausalLM

    loaded = load_base(folder, LoadOptions(precision=precision, device="cpu"))  # type: ignore[arg-type]
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    assert loaded.precision == precision and loaded.quantization == "none"
    assert not loaded.model.training
    assert loaded.model.name_or_path == str(folder)
    assert loaded.model.generation_config.eos_token_id == 2
    ours, expected = loaded.model.state_dict(), theirs.state_dict()
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) and ours[name].dtype == dtype for name in expected)
    assert loaded.weight_bytes == theirs.get_memory_footprint()


def test_shards_and_tied_embeddings(tmp_path: Path) -> None:
    sharded = tiny_llama(tmp_path / "sharded", max_shard_size="100KB", tie_word_embeddings=True)
    whole = tiny_llama(tmp_path / "whole", tie_word_embeddings=True)
    options = LoadOptions(precision="fp32", device="cpu")
    model = load_base(sharded, options).model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(logits(model), logits(load_base(whole, options).model))


def test_tokenizer_keeps_its_template(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Olá"}], tokenize=False)
    assert text == "<|im_start|>user\nOlá<|im_end|>\n"


def test_damaged_tokenizer_is_told(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(MoltingError, match=r"tokenizer in .* cannot be loaded") as caught:
        load_tokenizer(copy)
    assert caught.value.reason == "bad_model"


def train_steps(model: Any, steps: int, learning_rate: float = 0.01) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate)
    losses = []
    model.train()
    for _ in range(steps):
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


def with_lora(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))


def test_qlora_trains_saves_reloads_and_answers(folder: Path, tmp_path: Path) -> None:
    from bitsandbytes.nn import Linear4bit

    loaded = load_base(folder, NF4)
    linears = [module for module in loaded.model.modules() if isinstance(module, Linear4bit)]
    assert loaded.quantization == "nf4" and len(linears) == 14
    assert all(linear.weight.quant_state.nested for linear in linears), "double quantised"
    assert loaded.weight_bytes < 0.6 * load_base(folder, LoadOptions(precision="bf16", device="cpu")).weight_bytes
    before = answer(loaded.model)

    tuned = with_lora(loaded.model)
    losses = train_steps(tuned, 30)
    assert losses[-1] < 0.5 * losses[0]
    after, expected = answer(tuned), logits(tuned)
    assert after != before
    tuned.save_pretrained(tmp_path / "adapter")

    again, report = attach_adapter(load_base(folder, NF4).model, tmp_path / "adapter")
    assert report.missing_keys == [] and report.unexpected_keys == []
    assert answer(again) == after
    assert torch.equal(logits(again), expected)
    trainable, _ = attach_adapter(load_base(folder, NF4).model, tmp_path / "adapter", trainable=True)
    assert any(parameter.requires_grad for parameter in trainable.parameters())


def test_answering_between_steps_does_not_stop_4_bit_training(folder: Path) -> None:
    """bitsandbytes repacks weights at the first answer on some CPUs; training then got no gradient, silently."""
    plain, interrupted = with_lora(load_base(folder, NF4).model), with_lora(load_base(folder, NF4).model)
    answer(interrupted.eval())
    assert train_steps(interrupted, 3) == train_steps(plain, 3)


def test_int8(folder: Path) -> None:
    loaded = load_base(folder, LoadOptions(quantization="int8", device="cpu"))
    full = load_base(folder, LoadOptions(precision="fp32", device="cpu"))
    assert loaded.quantization == "int8" and loaded.weight_bytes < full.weight_bytes
    assert torch.nn.functional.cosine_similarity(logits(loaded.model), logits(full.model), dim=-1).min() > 0.9


def test_kept_4_bit_model_is_the_same_model(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / ".quantized"
    first = load_base(folder, NF4, cache=cache)
    kept = [path for path in cache.iterdir() if not path.name.startswith(".")]
    assert len(kept) == 1 and first.warnings == []

    monkeypatch.setattr(quantized, "_save", pytest.fail)
    second = load_base(folder, NF4, cache=cache)
    assert second.quantization == "nf4" and second.model.name_or_path == str(folder)
    assert second.weight_bytes == first.weight_bytes
    assert torch.equal(logits(first.model), logits(second.model))
    assert prequantized(folder, NF4, cache) == kept[0]
    assert load_tokenizer(kept[0]).chat_template == load_tokenizer(folder).chat_template
    losses = train_steps(with_lora(second.model), 3)
    assert losses == train_steps(with_lora(first.model), 3)


def test_kept_model_is_keyed_by_weights_and_options(folder: Path, tmp_path: Path) -> None:
    other = tiny_llama(tmp_path / "tiny", hidden=128, seed=1)
    cache = tmp_path / "cache"
    plain = LoadOptions(quantization="nf4", double_quant=False, precision="bf16", device="cpu")
    paths = {prequantized(folder, NF4, cache), prequantized(other, NF4, cache), prequantized(folder, plain, cache)}
    assert len(paths) == 3


def test_damaged_kept_model_is_made_anew(folder: Path, tmp_path: Path) -> None:
    kept = prequantized(folder, NF4, tmp_path / "cache")
    (kept / "model.safetensors").write_bytes(b"half")
    loaded = load_base(folder, NF4, cache=tmp_path / "cache")
    assert loaded.quantization == "nf4"
    assert (kept / "model.safetensors").stat().st_size > 1000


def test_full_disk_costs_the_kept_model_not_the_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantized, "free_bytes", lambda path: 1000)
    loaded = load_base(folder, NF4, cache=tmp_path / "cache")
    assert loaded.quantization == "nf4"
    assert "was not kept" in loaded.warnings[0]
    assert not list((tmp_path / "cache").glob("tiny*"))


def linear(factor: float) -> LoadOptions:
    return LoadOptions(precision="fp32", device="cpu", rope={"rope_type": "linear", "factor": factor})


def test_rope_is_applied_and_survives_saving(folder: Path, tmp_path: Path) -> None:
    plain = load_base(folder, LoadOptions(precision="fp32", device="cpu"))
    stretched = load_base(folder, linear(4.0))
    assert not torch.allclose(logits(plain.model), logits(stretched.model))
    assert stretched.model.config.max_position_embeddings == 4 * plain.model.config.max_position_embeddings
    # Position 4k of the stretched model is position k of the plain one.
    ids, ones = IDS[:, :2], torch.ones(1, 2, dtype=torch.long)
    there = plain.model(input_ids=ids, attention_mask=ones, position_ids=torch.tensor([[0, 1]])).logits
    here = stretched.model(input_ids=ids, attention_mask=ones, position_ids=torch.tensor([[0, 4]])).logits
    assert torch.allclose(there, here, atol=1e-5)

    stretched.model.save_pretrained(tmp_path / "saved")
    load_tokenizer(folder).save_pretrained(tmp_path / "saved")
    reloaded = load_base(tmp_path / "saved", LoadOptions(precision="fp32", device="cpu"))
    assert torch.equal(logits(reloaded.model), logits(stretched.model))
    assert torch.equal(logits(load_base(tmp_path / "saved", linear(4.0)).model), logits(stretched.model))
    with pytest.raises(MoltingError, match="already stretches its context"):
        load_base(tmp_path / "saved", linear(2.0))


@pytest.mark.parametrize("kind", ["dynamic", "yarn"])
def test_other_ropes_are_applied_and_survive_saving(folder: Path, tmp_path: Path, kind: str) -> None:
    options = LoadOptions(precision="fp32", device="cpu", rope={"rope_type": kind, "factor": 4.0})
    plain, stretched = load_base(folder, linear(1.0)).model, load_base(folder, options).model
    own = plain.config.max_position_embeddings
    assert rope.window(stretched.config) == 4 * own
    long = torch.arange(2 * own)[None] % 400 + 3
    with torch.no_grad():
        short = torch.allclose(logits(plain), logits(stretched), atol=1e-5)
        assert short == (kind == "dynamic")  # short texts stay as they were
        assert not torch.allclose(plain(input_ids=long).logits, stretched(input_ids=long).logits)

    stretched.save_pretrained(tmp_path / "saved")
    load_tokenizer(folder).save_pretrained(tmp_path / "saved")
    for again in (LoadOptions(precision="fp32", device="cpu"), options):
        reloaded = load_base(tmp_path / "saved", again).model
        assert rope.window(reloaded.config) == 4 * own
        with torch.no_grad():
            assert torch.equal(reloaded(input_ids=long).logits, stretched(input_ids=long).logits)
    with pytest.raises(MoltingError, match="already stretches its context"):
        load_base(tmp_path / "saved", linear(2.0))


def test_rope_with_a_kept_4_bit_model(folder: Path, tmp_path: Path) -> None:
    options = LoadOptions(quantization="nf4", precision="bf16", device="cpu", rope={"factor": 4.0})
    first = load_base(folder, options, cache=tmp_path / "cache")
    second = load_base(folder, options, cache=tmp_path / "cache")
    assert torch.equal(logits(first.model), logits(second.model))
    plain = load_base(folder, NF4, cache=tmp_path / "cache")
    assert not torch.allclose(logits(plain.model), logits(second.model))


def test_rope_factor_one_changes_nothing_and_no_rope_is_told() -> None:
    config = tiny_config()
    before = config.to_dict()
    apply_rope(config, {"rope_type": "linear", "factor": 1.0})
    assert config.to_dict() == before
    from transformers import GPT2Config

    with pytest.raises(MoltingError, match="no rotary positions"):
        apply_rope(GPT2Config(), {"factor": 2.0})


def refused(folder: Path, options: LoadOptions | None = None) -> MoltingError:
    with pytest.raises(MoltingError) as caught:
        load_base(folder, options or LoadOptions(precision="fp32", device="cpu"))
    assert caught.value.remedy
    return caught.value


def test_missing_and_misshapen_tensors_are_refused(folder: Path, tmp_path: Path) -> None:
    """transformers fills missing tensors with random numbers and only warns."""
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    tensors = load_file(copy / "model.safetensors")
    lost = {name: tensor for name, tensor in tensors.items() if "layers.1.mlp" not in name}
    save_file(lost, copy / "model.safetensors", metadata={"format": "pt"})
    error = refused(copy)
    assert "lacks 3 tensors" in error.message and error.reason == "bad_model"

    save_file(
        {**tensors, "lm_head.weight": torch.zeros(512, 64)}, copy / "model.safetensors", metadata={"format": "pt"}
    )
    assert refused(copy).reason == "bad_model"


def test_unknown_architecture_and_code_of_its_own(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "marvellous"}))
    assert "'marvellous'" in refused(copy).message

    (copy / "evil.py").write_text("from pathlib import Path\nPath(__file__).with_name('canary').touch()")
    (copy / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "evil.Evil"}}))
    error = refused(copy)
    assert "auto_map" in error.message and "llama built in" in error.remedy
    assert not (copy / "canary").exists()


def test_other_quantisations_are_told(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    quantization = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    (copy / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}))
    error = refused(copy, NF4)
    assert "already quantised (gptq)" in error.message and "original weights" in error.remedy


def test_folder_that_is_quantised_already(folder: Path, tmp_path: Path) -> None:
    kept = prequantized(folder, NF4, tmp_path / "cache")
    loaded = load_base(kept, LoadOptions(precision="bf16", device="cpu"))
    assert loaded.quantization == "nf4"
    assert "cannot be trained on as int8" in refused(kept, LoadOptions(quantization="int8", device="cpu")).message


def test_devices_and_precisions(tmp_path: Path) -> None:
    assert choose_device("cpu") == "cpu"
    for wrong in ("cuda:99", "tpu", "cuda:x", ""):
        with pytest.raises(MoltingError, match="no device") as caught:
            choose_device(wrong)
        assert caught.value.code == 2
    assert choose_precision("cpu", "fp16") == "fp16"
    assert choose_precision("cpu") == ("bf16" if cpu_has_bf16() else "fp32")
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nflags : fpu avx512f avx512_bf16 sse\n")
    assert cpu_has_bf16(info)
    info.write_text("flags : fpu avx512f\nmodel name : avx512_bf16 lookalike\n")
    assert not cpu_has_bf16(info)
    assert not cpu_has_bf16(tmp_path / "nothing")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_cuda_4_bit(folder: Path) -> None:
    loaded: LoadedModel = load_base(folder, LoadOptions(quantization="nf4", device="cuda:0"))
    assert loaded.final_bytes <= loaded.peak_bytes <= loaded.reserved_bytes
    assert loaded.model(input_ids=IDS.cuda()).logits.isfinite().all()
