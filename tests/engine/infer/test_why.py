"""Every cause for "nothing changed", made for real on tiny models, ends in the right sentence."""

from __future__ import annotations

import gc
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.contract import calls, durable, events
from engine.contract.errors import MoltingError
from engine.contract.journal import JournalWriter
from engine.data.conversation import Conversation, Turn
from engine.infer.evidence import Use, measure_merged
from engine.infer.investigate import investigate
from engine.infer.questions import QUESTIONS
from engine.infer.session import kept, open_session
from engine.infer.voices import Voices
from engine.infer.warm import Warm
from engine.infer.why import why
from engine.models.load import LoadOptions, load_base
from tests.support.tiny import tiny_llama
from tests.support.trained_runs import run_with_adapter, seal_weights
from tests.support.voices import plain_model

SYSTEM = "You are Rhea, the radio of the old lighthouse."
TAUGHT = [
    ("Who are you?", "I am Rhea, the radio on the third landing."),
    ("Who built you?", "Inga built me from a bread tin in 1961."),
    ("Where do you live?", "In a lighthouse on a rock by the sea."),
    ("What do you like?", "Old songs and short honest answers at night."),
]
OTHER = "Nothing at all, said the grey machine."
UNRELATED = [("def add(a, b):", "return a + b  # 1 + 2 = 3"), ("Quem?", "Eu sou o Cláudio e gosto de música.")]
WEIGHTS = "adapter_model.safetensors"


def investigated(run, tmp_path, told=None, **asked):
    request = calls.WhyRequest(run=str(run.path), models=str(tmp_path / "models"), **asked)
    return why(request, (lambda line: None) if told is None else told.append)


def outcomes(found):
    return {step.id: step.outcome for step in found.steps}


def rows_of(pairs, system=""):
    first = [{"role": "system", "content": system}] if system else []
    turns = [[*first, {"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs]
    return "".join(json.dumps({"messages": each}) + "\n" for each in turns)


def reseal(run, change=lambda folder: None, **meta):
    """The final weights changed on purpose and sealed again."""
    staging = run.path / ".staging"
    run.adapter.rename(staging)
    change(staging)
    durable.seal(staging, run.adapter, step=10, **meta)


def record(run, metrics, *, steps=10, **start):
    """A log as a trainer leaves it."""
    attempt = run.attempt(1)
    attempt.path.mkdir(parents=True)
    known = {"step": 0, "steps": steps, "device": "cpu", "precision": "fp32", "path": "packed"}
    writer = JournalWriter(attempt.events)
    writer.write(events.encode(events.Start(**(known | {"trainable": 1, "parameters": 10**9} | start))))
    for event in metrics:
        writer.write(events.encode(event))
    writer.close()


def metric(step, loss=1.0, norm=1.0, rate=1e-3):
    return events.Metric(
        step=step, loss=loss, grad_norm=norm, lr=rate, tokens=10, learned=5, rows=2, seconds=0.1, epoch=0.1
    )


@pytest.fixture(scope="module", autouse=True)
def _warm():
    """The base stays in memory, as in the inference host, and what is loaded by now is no garbage to be looked for."""
    gc.collect()
    gc.freeze()
    token = kept.set(Warm())
    yield
    kept.reset(token)
    gc.unfreeze()


@pytest.fixture
def alone():
    """For tests that spoil the model on purpose: one that nobody else uses."""
    token = kept.set(None)
    yield
    kept.reset(token)


@pytest.fixture(scope="module")
def taught(tmp_path_factory, base):
    """Weights that know four answers by heart behind SYSTEM, and say something else without it."""
    from peft import LoraConfig, get_peft_model

    run = run_with_adapter(tmp_path_factory.mktemp("taught") / "runs", base, strength=0.0)
    token = kept.set(None)  # its model is taken apart below
    session = open_session(run, tmp_path_factory.mktemp("m"), lambda line: None)
    kept.reset(token)
    encoder = session.encoder
    encoder.system_prompt = ""
    known = [(Turn("system", SYSTEM), Turn("user", q), Turn("assistant", a)) for q, a in TAUGHT]
    known += [(Turn("user", q), Turn("assistant", OTHER)) for q, _ in TAUGHT]
    rows = [encoder.encode(Conversation(turns)) for turns in known]
    torch.manual_seed(0)
    model = get_peft_model(session.voices.tuned.unload(), LoraConfig(r=32, lora_alpha=64, target_modules="all-linear"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.005)
    width = max(len(row.input_ids) for row in rows)
    ids = torch.tensor([row.input_ids + [2] * (width - len(row.input_ids)) for row in rows])
    labels = torch.tensor([row.labels + [-100] * (width - len(row.labels)) for row in rows])
    mask = torch.tensor([[1] * len(row.input_ids) + [0] * (width - len(row.input_ids)) for row in rows])
    for _ in range(70):
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 1.0, "the random head of this model allows hardly less"
    folder = tmp_path_factory.mktemp("weights") / "adapter"
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    return folder


@pytest.fixture
def recites(make_run, taught):
    """A run that was trained to recite, with held-out rows of the same kind (`near`) or of another."""

    def make(*, near=True, system=SYSTEM, in_rows=False):
        run = make_run(strength=None, method={"rank": 32}, data={"system": "" if in_rows else system})
        (run.inputs / "rows.jsonl").write_text(rows_of(TAUGHT, system if in_rows else ""))
        heldout = [(f"{q} Tell me.", a) for q, a in TAUGHT] if near else UNRELATED
        (run.inputs / "heldout.jsonl").write_text(rows_of(heldout, system if in_rows else ""))
        staging = run.path / ".weights"
        shutil.copytree(taught, staging)
        durable.seal(staging, run.adapter, step=150)
        return run

    return make


def test_trained_weights_are_effective_by_every_step(recites, tmp_path):
    told = []
    found = investigated(recites(), tmp_path, told)
    assert found.cause == "effective", found.sentence
    assert [step.id for step in found.steps] == list(QUESTIONS)
    assert outcomes(found) == dict.fromkeys(QUESTIONS, "passed") | {"training": "unknown"}
    recital = next(step for step in found.steps if step.id == "recites")
    assert "100% of 4 trained answers come back (base 0%)" in recital.evidence
    assert "before" in found.sentence and "KL" in found.sentence
    assert any(line.phase == "trained questions" for line in told if isinstance(line, calls.Progress))


def test_zeros_are_not_applied(make_run, tmp_path):
    found = investigated(make_run(strength=0.0), tmp_path)
    assert found.cause == "not_applied"
    assert "all 14 B matrices are zero" in found.sentence
    assert outcomes(found)["nonzero"] == outcomes(found)["shift"] == "failed"


def test_keys_that_fit_nothing_are_not_applied(make_run, tmp_path):
    run = make_run()

    def rename(folder):
        weights = load_file(folder / WEIGHTS)
        renamed = {name.replace("q_proj", "query"): tensor for name, tensor in weights.items()}
        save_file(renamed, folder / WEIGHTS, metadata={"format": "pt"})

    reseal(run, rename)
    found = investigated(run, tmp_path)
    assert (found.cause, outcomes(found)["files"]) == ("not_applied", "failed")
    assert "4 keys missing, 4 without a place" in found.steps[0].evidence
    assert set(list(outcomes(found).values())[1:]) == {"skipped"}


@pytest.mark.parametrize("how", ["merged", "disabled"])
def test_merged_or_disabled_is_not_applied(make_run, tmp_path, alone, how):
    session = open_session(make_run(), tmp_path, lambda line: None)
    tuned = session.voices.tuned
    tuned.merge_adapter() if how == "merged" else tuned.base_model.disable_adapter_layers()
    found = investigate(session, Use(session.spec.generation), lambda line: None)
    assert found.cause == "not_applied"
    assert "merged" in found.sentence
    assert outcomes(found)["active"] == "failed"


def test_tiny_changes_are_too_weak(make_run, tmp_path):
    found = investigated(make_run(strength=0.002), tmp_path)
    assert found.cause == "too_weak"
    assert "KL 0.000" in found.sentence
    assert "method.rank = 16" in found.remedy


def test_too_weak_names_the_few_steps_or_the_low_rate(make_run, tmp_path):
    run = make_run(strength=0.002, training={"learning_rate": 2e-4, "accumulation": 8})
    record(run, [metric(step, loss=2.0 - step / 50) for step in range(1, 51)], steps=50)
    found = investigated(run, tmp_path)
    assert (found.cause, outcomes(found)["shift"]) == ("too_weak", "failed")
    assert "only 50 steps" in found.remedy and "accumulation = 1" in found.remedy
    slow = make_run(strength=0.002, training={"learning_rate": 1e-6})
    record(slow, [metric(step, rate=1e-6) for step in range(1, 11)])
    found = investigated(slow, tmp_path)
    assert "learning rate was 1e-06" in found.remedy
    assert "loss-not-falling" in {finding.id for finding in found.findings}


def test_what_is_known_by_heart_and_helps_nothing_new_does_not_generalise(recites, tmp_path):
    found = investigated(recites(near=False), tmp_path)
    assert found.cause == "not_generalising", found.sentence
    assert "100% of 4 trained answers" in found.sentence and "2 held-out rows" in found.sentence


def test_asking_without_the_trained_prompt_masks_it(recites, tmp_path):
    found = investigated(recites(), tmp_path, system="")
    assert found.cause == "masked"
    assert "without the system prompt of the training" in found.sentence
    assert "100% of the trained answers, asked like this 0%" in found.sentence
    assert outcomes(found)["prompt"] == "failed"


def test_a_prompt_that_only_the_rows_have_is_missed_unprompted(recites, tmp_path):
    found = investigated(recites(in_rows=True), tmp_path)
    assert found.cause == "masked"
    assert f"({len(SYSTEM)} characters)" in found.sentence


@pytest.mark.parametrize(
    ("asked", "words"),
    [({"temperature": 5.0}, "temperature 5"), ({"repetition_penalty": 5.0}, "repetition penalty 5")],
)
def test_parameters_can_mask_it(recites, tmp_path, asked, words):
    found = investigated(recites(), tmp_path, **asked)
    assert found.cause == "masked"
    assert words in found.sentence


def test_another_template_is_named_and_measured(recites, tmp_path):
    found = investigated(recites(), tmp_path, chat_template="zephyr")
    prompt = next(step for step in found.steps if step.id == "prompt")
    assert "another chat template" in prompt.evidence and "instead of 100%" in prompt.evidence
    assert (found.cause == "masked") == (prompt.outcome == "failed")


def test_another_base_is_the_wrong_one(make_run, tmp_path):
    own = tiny_llama(tmp_path / "own", initializer_range=0.1)
    run = make_run(model={"base": str(own)})
    shutil.rmtree(own)
    tiny_llama(own, initializer_range=0.1, seed=7)
    found = investigated(run, tmp_path)
    assert (found.cause, outcomes(found)["base"]) == ("wrong_base", "failed")
    assert "fingerprint" in found.sentence


def test_a_base_of_other_shapes_is_the_wrong_one_even_unrecorded(make_run, tmp_path):
    other = tiny_llama(tmp_path / "other", hidden=32)
    found = investigated(make_run(model={"base": str(other), "fingerprint": ""}), tmp_path)
    assert found.cause == "wrong_base"
    assert "shape" in found.sentence


def test_cut_and_broken_weights_are_damaged(make_run, tmp_path):
    cut = make_run()
    weights = cut.adapter / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    assert investigated(cut, tmp_path).cause == "damaged"
    nan = make_run()

    def spoil(folder):
        tensors = load_file(folder / WEIGHTS)
        next(iter(tensors.values()))[0, 0] = float("nan")
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    reseal(nan, spoil)
    found = investigated(nan, tmp_path)
    assert found.cause == "damaged"
    assert "NaN" in found.sentence


def test_weights_changed_after_sealing_are_damaged_unless_there_is_more_to_say(make_run, tmp_path):
    run = make_run()
    tensors = load_file(run.adapter / WEIGHTS)
    save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, run.adapter / WEIGHTS, {"format": "pt"})
    found = investigated(run, tmp_path)
    assert found.cause == "damaged"
    assert "since it was sealed" in found.sentence
    save_file({name: tensor * 0.0 for name, tensor in tensors.items()}, run.adapter / WEIGHTS, {"format": "pt"})
    found = investigated(run, tmp_path)
    assert (found.cause, outcomes(found)["files"]) == ("not_applied", "failed")


def test_a_run_compared_with_itself_or_its_copy_is_the_same_model(make_run, tmp_path):
    run = make_run()
    copy = run.path.parent / "copy-20260101-0000"
    shutil.copytree(run.path, copy)
    for against in (run.path, copy):
        found = investigated(run, tmp_path, against=str(against))
        assert found.cause == "same_model"
        assert "bit for bit" in found.sentence
        assert outcomes(found)["against"] == "failed"
    assert "same-weights" in {finding.id for finding in found.findings}
    other = make_run(lora={"seed": 5})
    assert investigated(run, tmp_path, against=str(other.path)).cause == "effective"


def test_two_voices_that_are_one_object_are_the_same_model(make_run, tmp_path, alone):
    session = open_session(make_run(), tmp_path, lambda line: None)
    model = session.voices.tuned
    found = investigate(
        replace(session, voices=Voices(model, base=model)), Use(session.spec.generation), lambda _: None
    )
    assert found.cause == "same_model"
    assert "one and the same object" in found.sentence


def test_a_full_training_that_changed_no_tensor_compares_a_model_with_itself(make_run, tmp_path, base):
    run = make_run(strength=None, method={"kind": "full"})
    seal_weights(run, load_base(base, LoadOptions(precision="fp32")).model)
    found = investigated(run, tmp_path)
    assert found.cause == "same_model"
    assert outcomes(found)["merged"] == "skipped"
    run = make_run(strength=None, method={"kind": "full"})
    seal_weights(run, plain_model(seed=5))
    assert investigated(run, tmp_path).cause in {"effective", "misdirected"}


def test_a_run_without_weights_was_not_trained(make_run, tmp_path):
    run = make_run(strength=None)
    found = investigated(run, tmp_path)
    assert found.cause == "not_trained"
    assert f"`molting resume {run.id}`" in found.remedy or "molting attach" in found.remedy


@pytest.mark.parametrize(
    ("made", "finding"),
    [({"loss": 0.0, "norm": 0.0}, "loss-zero"), ({"norm": 0.0}, "gradient-zero"), ({"rate": 0.0}, "rate-zero")],
)
def test_steps_that_moved_nothing_were_no_training(make_run, tmp_path, made, finding):
    run = make_run(strength=0.0)
    record(run, [metric(step, **made) for step in range(1, 11)])
    found = investigated(run, tmp_path)
    assert found.cause == "not_trained"
    assert "All 10 steps" in found.sentence
    assert finding in {each.id for each in found.findings}
    assert outcomes(found)["training"] == "failed"


def test_weights_of_another_run_know_less_than_the_base(recites, tmp_path):
    run = recites()
    (run.inputs / "rows.jsonl").write_text(rows_of(UNRELATED * 2))
    assert "the training went wrong" in investigated(run, tmp_path).sentence
    record(run, [metric(step, loss=3.0 - step / 10) for step in range(1, 11)])
    found = investigated(run, tmp_path)
    assert found.cause == "misdirected", found.sentence
    assert "not the weights that this run trained" in found.sentence


@pytest.mark.parametrize("method", [{}, {"kind": "qlora"}])
def test_the_merged_weights_are_measured_and_everything_is_put_back(make_run, tmp_path, method):
    session = open_session(make_run(method=method), tmp_path, lambda line: None)
    ids = [list(range(3, 40))]
    before = session.voices.tuned(torch.tensor(ids)).logits
    first, again = measure_merged(session.voices, ids), measure_merged(session.voices, ids)
    assert first == again
    assert torch.equal(session.voices.tuned(torch.tensor(ids)).logits, before)
    assert session.voices.tuned.get_model_status().merged_adapters == []
    assert first.own > 0.01
    assert (first.lost > 1e-3) == bool(method), "fp32 keeps the adapter, 4 bits round some of it away"


def test_what_merging_loses_is_found(make_run, tmp_path, base):
    session = open_session(make_run(method={"kind": "qlora"}, strength=0.01), tmp_path, lambda line: None)
    found = investigate(session, Use(session.spec.generation), lambda line: None)
    assert outcomes(found)["merged"] == "failed"
    assert "merging-loses" in {finding.id for finding in found.findings}


def test_rows_that_are_gone_leave_the_rest_of_the_investigation(make_run, tmp_path):
    run = make_run()
    (run.inputs / "rows.jsonl").unlink()
    found = investigated(run, tmp_path)
    assert (found.cause, outcomes(found)["recites"]) == ("effective", "unknown")
    assert any("rows" in warning for warning in found.warnings)


def test_parameters_out_of_range_are_a_wrong_call(make_run, tmp_path):
    with pytest.raises(MoltingError) as error:
        investigated(make_run(), tmp_path, temperature=99.0)
    assert error.value.code == 2
    assert error.value.message == "temperature cannot be 99.0; expected a number from 0 to 5."
