from __future__ import annotations

import msgspec
import pytest
from safetensors.torch import load_file, save_file

from engine.contract import calls, durable, proofs
from engine.infer.loss import answer_loss
from engine.infer.prove import LEAST_PROBES, NEUTRAL, loss_sentence, prove
from engine.infer.session import open_session
from engine.train.learn import open_rows
from tests.support.trained_runs import HELDOUT, PROBES, seal_weights
from tests.support.voices import plain_model


def proving(run, tmp_path, told=None):
    request = calls.RunRequest(run=str(run.path), models=str(tmp_path / "models"))
    return prove(request, (lambda line: None) if told is None else told.append)


def test_an_adapter_that_changes_answers_is_effective_and_the_proof_is_kept(make_run, tmp_path):
    run, told = make_run(), []
    proof = proving(run, tmp_path, told)
    assert proof.verdict == "effective"
    assert f"{proof.kl:.3g}" in proof.sentence
    assert proof.nonzero_b == proof.total_b == 14
    assert proof.flip_rate > 0.01
    assert (proof.probes, len(proof.answers), len(proof.first_difference)) == (8, 8, 8)
    assert [pair.question for pair in proof.answers] == PROBES
    assert proof.first_difference == [pair.first_difference for pair in proof.answers]
    assert (proof.missing_keys, proof.unexpected_keys, proof.active) == (0, 0, True)
    assert proof.warnings == []
    assert proofs.is_current(run, proof)
    assert msgspec.json.decode((run.path / "proof.json").read_bytes(), type=calls.Proof) == proof
    phases = dict.fromkeys(line.phase for line in told if isinstance(line, calls.Progress))
    assert list(phases) == ["importing", "loading the model", "answering", "comparing", "held-out loss"]


def test_every_position_of_the_probes_and_their_answers_counts(make_run, tmp_path):
    run = make_run()
    proof = proving(run, tmp_path)
    session = open_session(run, tmp_path, lambda line: None)
    asked = sum(len(prompt) for prompt in session.prompts(PROBES))
    assert proof.positions == asked + sum(pair.adapter.tokens for pair in proof.answers)


def test_the_held_out_loss_is_that_of_both_voices(make_run, tmp_path):
    run = make_run()
    proof = proving(run, tmp_path)
    session = open_session(run, tmp_path, lambda line: None)
    rows = open_rows(session.spec, session.encoder).heldout
    assert proof.heldout_rows == len(rows) == len(HELDOUT)
    assert proof.heldout_loss.adapter == pytest.approx(answer_loss(session.voices.tuned, rows)[0])
    with session.voices.as_base() as model:
        assert proof.heldout_loss.base == pytest.approx(answer_loss(model, rows)[0])
    assert "2 held-out rows" in proof.sentence


@pytest.mark.parametrize("lora", [{}, {"use_rslora": True}, {"use_dora": True}])
def test_an_untrained_adapter_is_not_applied(make_run, tmp_path, lora):
    proof = proving(make_run(strength=0.0, lora=lora), tmp_path)
    assert proof.verdict == "not_applied"
    assert proof.nonzero_b == 0
    assert proof.first_difference == [None] * 8


def test_an_adapter_whose_keys_fit_nothing_is_not_applied(make_run, tmp_path):
    run = make_run()
    weights = load_file(run.adapter / "adapter_model.safetensors")
    staging = run.path / ".staging"
    run.adapter.rename(staging)
    renamed = {name.replace("layers", "blocks"): tensor for name, tensor in weights.items()}
    save_file(renamed, staging / "adapter_model.safetensors", metadata={"format": "pt"})
    durable.seal(staging, run.adapter, step=10)
    proof = proving(run, tmp_path)
    assert (proof.verdict, proof.active, proof.kl) == ("not_applied", False, 0.0)
    assert proof.missing_keys == len(weights)
    assert "missing" in proof.sentence


def test_a_slightly_trained_adapter_is_too_weak(make_run, tmp_path):
    proof = proving(make_run(strength=0.002), tmp_path)
    assert proof.verdict == "too_weak"
    assert 0 < proof.kl < 0.05
    assert proof.nonzero_b == 14
    assert "learning rate" in proof.sentence


def test_a_qlora_run_is_proven_on_its_4_bit_base(make_run, tmp_path):
    proof = proving(make_run(method={"kind": "qlora"}), tmp_path)
    assert proof.verdict == "effective"


def test_full_fine_tuning_is_proven_by_the_weights_that_changed(make_run, tmp_path):
    run = make_run(strength=None, method={"kind": "full"})
    seal_weights(run, plain_model(seed=5))
    proof = proving(run, tmp_path)
    assert proof.verdict == "effective"
    assert 0 < proof.nonzero_b <= proof.total_b


@pytest.mark.parametrize("own", [0, 3])
def test_too_few_probes_are_filled_up_with_neutral_ones_and_that_is_said(make_run, tmp_path, own):
    run = make_run()
    (run.inputs / "probes.txt").write_text("\n".join(PROBES[:own]))
    proof = proving(run, tmp_path)
    assert [pair.question for pair in proof.answers] == [*PROBES[:own], *NEUTRAL[: LEAST_PROBES - own]]
    assert "neutral" in proof.warnings[0]
    assert str(LEAST_PROBES - own) in proof.warnings[0]


def test_rows_that_are_gone_cost_the_loss_but_not_the_proof(make_run, tmp_path):
    run = make_run()
    (run.inputs / "heldout.jsonl").unlink()
    proof = proving(run, tmp_path)
    assert proof.verdict == "effective"
    assert proof.heldout_loss == calls.Losses(base=None, adapter=None)
    assert "held-out" in proof.warnings[0]


def test_a_checkpoint_stands_in_and_the_proof_says_so(make_run, tmp_path):
    run = make_run()
    run.adapter.rename(run.checkpoint(4))
    assert "step 4" in proving(run, tmp_path).warnings[0]


def test_real_training_of_a_moment_is_effective_and_lowers_the_loss(make_run, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model

    run = make_run(strength=0.0)
    session = open_session(run, tmp_path, lambda line: None)
    rows = open_rows(session.spec, session.encoder).of_step(0)
    torch.manual_seed(0)
    model = get_peft_model(session.voices.tuned.unload(), LoraConfig(r=4, target_modules="all-linear"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for step in range(30):
        row = rows[step % len(rows)]
        loss = model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    run.adapter.rename(run.path / "untrained")
    seal_weights(run, model)
    proof = proving(run, tmp_path)
    assert proof.verdict == "effective"
    assert proof.heldout_loss.adapter < proof.heldout_loss.base
    assert "fell" in proof.sentence


@pytest.mark.parametrize(("after", "words"), [(1.0, "fell: 2.000 before, 1.000 after"), (2.5, "did not fall")])
def test_the_direction_of_the_loss_is_said(after, words):
    assert words in loss_sentence(calls.Losses(base=2.0, adapter=after), 7)
    assert loss_sentence(calls.Losses(base=None, adapter=None), 0) == ""
