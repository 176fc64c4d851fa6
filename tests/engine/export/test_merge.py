"""A merge is proven on the files it wrote, both ways: the same model passes, another one never gets its name."""

from __future__ import annotations

import json
from types import SimpleNamespace

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.contract import calls, durable, outputs, summary
from engine.contract.errors import MoltingError
from engine.contract.spec import Data, Generation, Model, Spec
from engine.data.conversation import Turn
from engine.data.of_spec import encoder_for
from engine.export import card, weights
from engine.export import merge as merging
from engine.export.merge import merge
from engine.export.proof import judged
from engine.infer.session import open_session
from tests.support.tiny import tiny_llama
from tests.support.trained_runs import PROBES, run_with_adapter

# Sharp enough that rounding to 16 bits makes no ties, as trained models are.
SHARP = {"initializer_range": 0.2, "hidden": 64}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("m") / "tiny", dtype="bfloat16", **SHARP)


@pytest.fixture(scope="module")
def run(tmp_path_factory, base):
    return run_with_adapter(tmp_path_factory.mktemp("runs"), base, strength=0.1)


def merged(run, target, told=None, **options):
    request = outputs.MergeRequest(run=str(run.path), models=str(target.parent / "models"), to=str(target), **options)
    return merge(request, (lambda line: None) if told is None else told.append)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    target = tmp_path_factory.mktemp("out") / "rhea"
    return merged(run, target), target


def test_the_merged_model_is_proven_sealed_and_says_what_it_is(exported, run):
    found, target = exported
    assert found.proof.passed
    assert found.proof.kl < 0.02 < found.proof.effect
    assert found.proof.probes == len(PROBES)
    assert (found.precision, found.gguf) == ("bf16", "")
    assert durable.check_seal(target) == []
    assert msgspec.json.decode((target / "proof.json").read_bytes(), type=outputs.MergeProof) == found.proof
    card = (target / "README.md").read_text()
    for said in (found.proof.sentence, "You are Rhea.", run.id, "rank 4", "## Limits"):
        assert said in card
    assert str(run.path) not in card
    assert {tensor.dtype for tensor in load_file(target / "model.safetensors").values()} == {torch.bfloat16}
    assert not [path for path in target.parent.iterdir() if path != target]  # no staging left


def test_another_program_gets_the_answers_of_the_run_from_the_folder_alone(exported, run):
    """Loaded by transformers as anybody would, with the template and end tokens that lie in it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target = exported[1]
    model = AutoModelForCausalLM.from_pretrained(target).float().eval()
    tokenizer = AutoTokenizer.from_pretrained(target)
    session = open_session(run, target.parent / "models", lambda line: None)
    messages = [{"role": "system", "content": "You are Rhea."}, {"role": "user", "content": PROBES[0]}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert ids["input_ids"][0].tolist() == session.prompts(PROBES[:1])[0]
    made = model.generate(**ids)[0, ids["input_ids"].shape[1] :].tolist()
    assert len(made) <= 12  # the run's cap is in generation_config.json
    (pair,), _, _ = session.answer(PROBES[:1], session.prompts(PROBES[:1]), session.spec.generation, lambda line: None)
    said = tokenizer.decode(made, skip_special_tokens=False).removesuffix("<|im_end|>").strip()
    assert said == pair.adapter.text != pair.base.text
    assert json.loads((target / "generation_config.json").read_text())["eos_token_id"] == 2


def spoilt(change):
    """A stand-in for the writer that spoils what was written, as a bad disk or a bad merge would."""
    from engine.export.weights import save_merged

    def save(job, encoder, tell):
        save_merged(job, encoder, tell)
        tensors = load_file(job.staging / "model.safetensors")
        save_file(change(tensors), job.staging / "model.safetensors", {"format": "pt"})

    return save


def without_one_layer(tensors):
    """As if the adapter of one layer had been forgotten and another put in its place."""
    name = "model.layers.1.mlp.down_proj.weight"
    return tensors | {name: -tensors[name]}


def test_what_is_not_the_adapter_is_not_exported(run, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.export.weights.save_merged", spoilt(without_one_layer))
    with pytest.raises(MoltingError, match="not the adapter, so nothing was exported") as failed:
        merged(run, tmp_path / "out" / "rhea")
    assert failed.value.code == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_a_merge_that_forgot_the_adapter_fails(run, base, tmp_path, monkeypatch):
    """The plain base is close to the adapter in size and shape; the proof must still see it."""
    monkeypatch.setattr("engine.export.weights.save_merged", spoilt(lambda _: load_file(base / "model.safetensors")))
    with pytest.raises(MoltingError, match="nothing was exported"):
        merged(run, tmp_path / "rhea")
    assert not (tmp_path / "rhea").exists()


@pytest.mark.parametrize(
    ("measured", "passed"),
    [
        ({"kl": 0.0, "agreement": 1.0, "effect": 0.0}, True),  # an adapter that does nothing merges into nothing
        ({"kl": 0.001, "agreement": 0.99, "effect": 1.0}, True),
        ({"kl": 0.03, "agreement": 0.99, "effect": 1.0}, False),
        ({"kl": 0.001, "agreement": 0.85, "effect": 1.0}, False),
        ({"kl": 0.01, "agreement": 0.99, "effect": 0.015}, False),  # most of a weak adapter is lost in rounding
        ({"kl": float("inf"), "agreement": 1.0, "effect": 1.0}, False),
    ],
)
def test_the_verdict(measured, passed):
    proof = judged(**measured, identical=8, probes=8, positions=100)
    assert proof.passed is passed
    assert "100 greedy tokens" in proof.sentence


@pytest.mark.parametrize(
    ("lora", "method"),
    [({"use_dora": True}, {"dora": True}), ({}, {"kind": "qlora"})],
    ids=["dora", "qlora"],
)
def test_other_methods_are_merged_into_the_16_bit_base(base, tmp_path, lora, method):
    run, told = run_with_adapter(tmp_path / "runs", base, strength=0.1, lora=lora, method=method), []
    found = merged(run, tmp_path / "rhea", told)
    assert found.proof.passed
    config = json.loads((tmp_path / "rhea" / "config.json").read_text())
    assert "quantization_config" not in config
    notes = " ".join(line.text for line in told if isinstance(line, calls.Note))
    assert ("not into the quantised ones" in notes) == (method.get("kind") == "qlora")
    assert ("in 4 bits" in (tmp_path / "rhea" / "README.md").read_text()) == (method.get("kind") == "qlora")


def test_there_is_nothing_to_merge_in_a_full_fine_tuning(base, tmp_path):
    run = run_with_adapter(tmp_path / "runs", base, strength=None, method={"kind": "full"})
    with pytest.raises(MoltingError, match="nothing to merge") as refused:
        merged(run, tmp_path / "rhea")
    assert refused.value.code == 2
    assert str(run.adapter) in refused.value.remedy


def test_a_base_that_is_quantised_itself_is_refused(base, tmp_path, monkeypatch):
    run = run_with_adapter(tmp_path / "runs", base)
    monkeypatch.setattr(merging, "is_quantized", lambda folder: True)
    with pytest.raises(MoltingError, match="quantised themselves"):
        merged(run, tmp_path / "rhea")


def test_a_quantised_base_is_known_by_its_config(tmp_path):
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "bitsandbytes"}}')
    with pytest.raises(MoltingError, match="quantised themselves"):
        merging.plain_options(Spec(model=Model(base="b"), data=Data(train="x")), tmp_path)


def test_a_card_names_no_folder_of_this_machine_and_no_text_of_others_runs_in_it():
    assert card._base("/home/ana/models/smol") == card._base("./smol/") == "smol"
    assert card._base("org/smol") == "org/smol"
    assert card._table([("base", "a\x1b[2J <b>|\n")]).endswith("| base | a[2J &lt;b>/ |")


def test_all_end_tokens_of_the_run_end_an_answer_elsewhere():
    model = SimpleNamespace(config=SimpleNamespace(bos_token_id=1, pad_token_id=None))
    made = weights.settings(model, SimpleNamespace(stop_ids=[2, 0]), Generation(temperature=0.7, max_new_tokens=9))
    assert (made.eos_token_id, made.pad_token_id, made.temperature, made.max_new_tokens) == ([2, 0], 2, 0.7, 9)


def test_a_name_that_is_taken_is_left_alone(run, tmp_path):
    (tmp_path / "rhea").mkdir()
    (tmp_path / "rhea" / "mine").write_text("x")
    with pytest.raises(MoltingError, match="exists already") as refused:
        merged(run, tmp_path / "rhea")
    assert refused.value.code == 2
    assert (tmp_path / "rhea" / "mine").read_text() == "x"


@pytest.mark.parametrize(
    ("where", "words"),
    [("engine.infer.fit.free", "not loaded"), ("engine.contract.durable.free_bytes", "free in")],
)
def test_what_will_not_fit_is_said_before_anything_is_loaded(run, tmp_path, monkeypatch, where, words):
    monkeypatch.setattr(where, lambda place: 1000)
    told = []
    with pytest.raises(MoltingError, match=words):
        merged(run, tmp_path / "rhea", told)
    assert "loading the model" not in [line.phase for line in told if isinstance(line, calls.Progress)]
    assert not (tmp_path / "rhea").exists()


def test_weights_that_are_broken_are_one_sentence(base, tmp_path):
    run = run_with_adapter(tmp_path / "runs", base)
    file = run.adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({name: torch.full_like(value, float("nan")) for name, value in tensors.items()}, file)
    (run.adapter / durable.MANIFEST).unlink()
    staging = run.path / ".again"
    run.adapter.rename(staging)
    durable.seal(staging, run.adapter, step=10)
    with pytest.raises(MoltingError, match="NaN or infinite"):
        merged(run, tmp_path / "rhea")
    assert not (tmp_path / "rhea").exists()


class TestGguf:
    """The converter is llama.cpp's: a stand-in script shows what is done with it."""

    SCRIPT = "import sys\nopen(sys.argv[sys.argv.index('--outfile') + 1], 'wb').write({!r})\nsys.exit({})\n"

    def converter(self, folder, written, status):
        folder.mkdir()
        (folder / "convert_hf_to_gguf.py").write_text(self.SCRIPT.format(written, status))
        return str(folder)

    def test_it_lies_in_the_folder_and_the_modelfile_names_it(self, run, tmp_path, monkeypatch):
        monkeypatch.setenv("LLAMA_CPP", self.converter(tmp_path / "llama.cpp", b"GGUF1234", 0))
        found = merged(run, tmp_path / "rhea", gguf=True)
        assert found.gguf == f"{run.id}.gguf"
        assert (tmp_path / "rhea" / found.gguf).read_bytes() == b"GGUF1234"
        assert f"FROM ./{run.id}.gguf\n" in (tmp_path / "rhea" / "Modelfile").read_text()
        assert found.gguf in durable.read_manifest(tmp_path / "rhea").files
        assert found.notes == []

    @pytest.mark.parametrize(("written", "status"), [(b"GGUF", 1), (b"nonsense", 0)])
    def test_a_converter_that_fails_costs_the_file_alone(self, tmp_path, monkeypatch, written, status):
        from engine.export import gguf

        monkeypatch.setenv("LLAMA_CPP", self.converter(tmp_path / "llama.cpp", written, status))
        made, note = gguf.convert(tmp_path, "rhea", lambda line: None)
        assert made == ""
        assert f"ended with status {status}" in note
        assert not (tmp_path / "rhea.gguf").exists()

    def test_a_package_that_the_converter_lacks_is_named(self, tmp_path, monkeypatch):
        from engine.export import gguf

        folder = tmp_path / "llama.cpp"
        folder.mkdir()
        (folder / "convert_hf_to_gguf.py").write_text("import surely_not_installed\n")
        monkeypatch.setenv("LLAMA_CPP", str(folder))
        assert "-m pip install surely_not_installed`" in gguf.convert(tmp_path, "rhea", lambda line: None)[1]

    def test_without_a_converter_it_is_said_how_to_get_one(self, tmp_path, monkeypatch):
        from engine.export import gguf

        monkeypatch.delenv("LLAMA_CPP", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        made, note = gguf.convert(tmp_path, "rhea", lambda line: None)
        assert made == ""
        assert "LLAMA_CPP" in note and "none on PATH" in note


def test_the_system_prompt_and_the_template_of_the_run_are_in_the_modelfile(exported, run):
    spec = summary.load_spec(run)
    encoder = encoder_for(spec, merging.Path(spec.model.base))
    text = (exported[1] / "Modelfile").read_text()
    assert 'SYSTEM """You are Rhea."""' in text
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert "FROM ./\n" in text
    assert encoder.prompt_ids([Turn("user", "x")])
