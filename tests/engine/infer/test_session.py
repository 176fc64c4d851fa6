from __future__ import annotations

import shutil

import msgspec
import pytest

from engine.contract import calls
from engine.contract.errors import MoltingError
from engine.contract.spec import Generation
from engine.infer.ask import ask, chosen_options
from engine.infer.session import open_session, trained_weights
from tests.support.tiny import tiny_llama
from tests.support.trained_runs import seal_weights
from tests.support.voices import plain_model


class Told(list):
    """Everything that a verb said on the way."""

    def __call__(self, line: calls.Line) -> None:
        self.append(line)

    @property
    def notes(self) -> list[str]:
        return [line.text for line in self if isinstance(line, calls.Note)]


@pytest.fixture
def told():
    return Told()


def asking(run, tmp_path, *questions, **options):
    return calls.AskRequest(run=str(run.path), models=str(tmp_path / "models"), questions=list(questions), **options)


def test_both_voices_answer_every_question(make_run, tmp_path, told):
    asked = ask(asking(make_run(), tmp_path, "Who are you?", "And where?"), told)
    assert [pair.question for pair in asked.answers] == ["Who are you?", "And where?"]
    assert asked.mode == "batched"
    assert asked.seconds > 0
    for pair in asked.answers:
        assert pair.base.text != pair.adapter.text
        assert pair.first_difference is not None
        assert {pair.base.stop, pair.adapter.stop} <= {"end", "cap"}
        assert 0 < pair.adapter.tokens <= 12
    assert told[-1] == calls.Progress(phase="answering", done=2, total=2, unit="questions")
    assert told.notes == []


def test_dora_is_said_to_be_two_passes(make_run, tmp_path, told):
    run = make_run(lora={"use_dora": True}, method={"dora": True})
    assert ask(asking(run, tmp_path, "Who are you?"), told).mode == "two-pass"


def test_the_system_prompt_of_the_run_stands_before_the_question(make_run, tmp_path, told):
    session = open_session(make_run(), tmp_path, told)
    text = session.encoder.tokenizer.decode(session.prompts(["Hello?"])[0], skip_special_tokens=False)
    assert text == (
        "<|im_start|>system\nYou are Rhea.<|im_end|>\n<|im_start|>user\nHello?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_an_answer_without_its_end_token_still_shows_special_tokens_inside(make_run, tmp_path, told):
    from engine.infer.generate import Generated

    session = open_session(make_run(), tmp_path, told)
    ids = session.encoder.tokenizer.encode("hi<|im_start|>user").ids
    stop = session.encoder.stop_ids[0]
    assert session._answer(Generated([*ids, stop], "end")) == calls.Answer(
        text="hi<|im_start|>user", tokens=len(ids) + 1, stop="end"
    )


def test_generation_values_of_a_request_win_over_the_runs_own():
    own = Generation(max_new_tokens=80, top_p=0.9, seed=3)
    request = calls.AskRequest(run="", models="", questions=["?"], temperature=0.7, max_new_tokens=5)
    assert chosen_options(own, request) == Generation(max_new_tokens=5, temperature=0.7, top_p=0.9, seed=3)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"max_new_tokens": 0}, {"seed": -1}])
def test_generation_values_out_of_range_are_refused(wrong):
    request = calls.AskRequest(run="", models="", questions=["?"], **wrong)
    with pytest.raises(MoltingError, match=next(iter(wrong))) as caught:
        chosen_options(Generation(), request)
    assert caught.value.code == 2


@pytest.mark.parametrize("questions", [[], ["Who?", "  "]])
def test_no_question_is_a_wrong_call(make_run, tmp_path, told, questions):
    with pytest.raises(MoltingError, match="no question") as caught:
        ask(asking(make_run(strength=None), tmp_path, *questions), told)
    assert caught.value.code == 2


def checkpoint(run, step):
    target = run.checkpoint(step)
    shutil.copytree(run.adapter, target)
    return target


def test_an_unfinished_run_answers_with_its_newest_valid_checkpoint_and_says_so(make_run, tmp_path, told):
    run = make_run()
    checkpoint(run, 4)
    (checkpoint(run, 8) / "adapter_model.safetensors").write_bytes(b"torn")
    shutil.rmtree(run.adapter)
    path, said = trained_weights(run)
    assert path == run.checkpoint(4)
    assert "step-00000008" in said[0]
    assert "step 4" in said[1]
    ask(asking(run, tmp_path, "Who are you?"), told)
    assert told.notes == said


def test_damaged_final_weights_are_not_used(make_run):
    run = make_run()
    checkpoint(run, 4)
    (run.adapter / "adapter_model.safetensors").write_bytes(b"torn")
    path, said = trained_weights(run)
    assert path == run.checkpoint(4)
    assert "damaged" in said[1]


def test_a_run_without_weights_says_what_to_do(make_run, tmp_path, told):
    run = make_run(strength=None)
    with pytest.raises(MoltingError, match="no trained weights") as caught:
        open_session(run, tmp_path, told)
    assert run.id in caught.value.remedy


def test_another_base_in_the_same_place_is_refused(make_run, tmp_path, told):
    other = tiny_llama(tmp_path / "other", seed=9)
    run = make_run()
    run.spec.write_text(run.spec.read_text().replace('base = "', f'base = "{other}" #'))
    with pytest.raises(MoltingError, match="not the one that this run was trained on"):
        open_session(run, tmp_path, told)


def test_an_adapter_with_wrong_keys_is_refused(make_run, tmp_path, told):
    from safetensors.torch import load_file, save_file

    from engine.contract import durable

    run = make_run()
    weights = run.adapter / "adapter_model.safetensors"
    tensors = {name.replace("q_proj", "query_proj"): tensor for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    run.adapter.rename(run.path / "again")
    durable.seal(run.path / "again", run.adapter)
    with pytest.raises(MoltingError, match=r"do nothing|does not fit") as caught:
        open_session(run, tmp_path, told)
    assert caught.value.reason == "bad_model"


def test_full_fine_tuning_opens_two_models(make_run, tmp_path, told):
    run = make_run(strength=None, method={"kind": "full"})
    seal_weights(run, plain_model(seed=5))
    asked = ask(asking(run, tmp_path, "Who are you?"), told)
    assert asked.mode == "two-pass"
    assert asked.answers[0].first_difference is not None


def test_a_request_and_its_result_survive_the_wire(make_run, tmp_path, told):
    asked = ask(asking(make_run(), tmp_path, "Who are you?"), told)
    assert msgspec.json.decode(calls.result(asked).value, type=calls.Asked) == asked
