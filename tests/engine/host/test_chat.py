"""What a client hears of an answer, from a real host."""

from __future__ import annotations

import msgspec
import pytest
import torch

from engine.contract import host
from engine.contract.host import Delta, Done, First, Source, VoiceDone
from engine.contract.spec import Generation
from engine.host.server import WAITING
from engine.infer.session import open_session
from tests.support.trained_runs import run_with_adapter

LONG = Generation(max_new_tokens=400)


def heard(place, request):
    with place.client() as client:
        return list(client.replies(request))


def of(kind, replies):
    return [reply for reply in replies if isinstance(reply, kind)]


def texts(replies):
    return {done.voice: done.text for done in of(VoiceDone, replies)}


@pytest.fixture(scope="module")
def replies(place, run):
    return heard(place, place.chat(run))


def test_both_voices_stream_together_and_their_pieces_are_their_answers(replies):
    assert isinstance(replies[-1], Done) and replies[-1].mode == "batched"
    order = [delta.voice for delta in of(Delta, replies)]
    assert order[:6] == [0, 1, 0, 1, 0, 1]
    for voice, text in texts(replies).items():
        pieces = [delta for delta in of(Delta, replies) if delta.voice == voice]
        assert "".join(piece.text for piece in pieces) == text
        assert pieces[-1].tokens == sum(len(piece.ids) for piece in pieces)


def test_the_tokens_are_those_of_separate_greedy_runs(replies, run, base):
    from engine.contract import summary
    from engine.data.conversation import Turn
    from engine.data.of_spec import encoder_for
    from engine.infer.generate import generate
    from engine.models.adapters import attach_adapter
    from engine.models.load import LoadOptions, load_base

    spec = summary.load_spec(run)
    encoder = encoder_for(spec, base)
    prompt = encoder.prompt_ids([Turn("user", "Who are you?")])
    settings = {"stop_ids": encoder.stop_ids, "pad_id": 2, "options": spec.generation}
    alone = [generate(load_base(base, LoadOptions(precision="fp32")).model, [prompt], **settings)[0]]
    tuned, _ = attach_adapter(load_base(base, LoadOptions(precision="fp32")).model, run.adapter)
    alone.append(generate(tuned, [prompt], **settings)[0])
    for voice in (0, 1):
        ids = [token for delta in of(Delta, replies) if delta.voice == voice for token in delta.ids]
        assert ids == alone[voice].ids
    assert alone[0].ids != alone[1].ids


def moved(run, models):
    """KL(base || adapter) of the first token in nats, computed apart from the host."""
    session = open_session(run, models, lambda line: None)
    (prompt,) = session.prompts(["Who are you?"])
    scores = []
    for voice in (session.voices.as_base, session.voices.as_tuned):
        with voice() as model, torch.no_grad():
            scores.append(model(input_ids=torch.tensor([prompt])).logits[0, -1].double().log_softmax(0))
    base, tuned = scores
    return float((base.exp() * (base - tuned)).sum())


def test_the_badge_says_how_far_the_first_token_moved_and_where_the_answers_part(place, run, replies):
    (first,) = of(First, replies)
    done = replies[-1]
    assert first.kl[0] == 0.0 and done.kl == first.kl
    assert first.kl[1] == pytest.approx(moved(run, place.models), rel=1e-3)
    ids = [[token for delta in of(Delta, replies) if delta.voice == voice for token in delta.ids] for voice in (0, 1)]
    parted = next(index for index, (a, b) in enumerate(zip(*ids, strict=False)) if a != b)
    assert done.first_difference == [None, parted]


def test_times_are_told_for_each_voice(replies):
    for done in of(VoiceDone, replies):
        assert 0.0 < done.to_first <= done.seconds
        assert done.per_second > 0.0
        assert done.stop in ("end", "cap")


def test_each_side_may_have_its_own_history_and_then_no_kl_is_claimed(place, run):
    request = place.chat(run)
    said = [host.Message("user", "Hi."), host.Message("assistant", "Yes?"), host.Message("user", "Who are you?")]
    request.voices[1] = host.Voice(source=Source(kind="adapter"), messages=said)
    done = heard(place, request)[-1]
    assert done.kl == [0.0, None]


@pytest.fixture
def conversation(place, run, monkeypatch):
    """`say(question, ahead)`: the next turn of a conversation in which each voice has its own history, on a model in
    this process. Gives the tokens of both, and the sizes of what the model computed, as (rows, tokens)."""
    from transformers.models.llama.modeling_llama import LlamaModel

    from engine.host.chat import Conversation
    from engine.infer.session import kept
    from engine.infer.warm import Warm

    warm, said, sizes, own = Warm(), ([], []), [], LlamaModel.forward
    before_us = kept.set(warm)

    def forward(self, input_ids=None, **kwargs):
        sizes.append(tuple(input_ids.shape))
        return own(self, input_ids=input_ids, **kwargs)

    def say(question, ahead):
        request = place.chat(run, options=Generation(max_new_tokens=24))
        for before in said:
            before.append(host.Message("user", question))
        request.voices = [
            msgspec.structs.replace(voice, messages=list(before))
            for voice, before in zip(request.voices, said, strict=True)
        ]
        sizes.clear()
        one = Conversation(request, warm, lambda reply: None, lambda line: None)
        one.answer()
        answered = list(sizes)
        for voice, before in enumerate(said):
            before.append(host.Message("assistant", one.texts[voice]))
        one.go_on(lambda: not ahead)
        return [one.made[voice].ids for voice in (0, 1)], answered, sizes[len(answered) :]

    monkeypatch.setattr(LlamaModel, "forward", forward)
    yield say
    kept.reset(before_us)


QUESTIONS = ["Who are you?", "And who built you, if anybody did?", "Say all of that again."]


def test_what_a_conversation_begins_with_is_computed_while_its_reader_reads(conversation):
    for question in QUESTIONS:
        _, answered, ahead = conversation(question, ahead=True)
        assert [rows for rows, _ in ahead] == [1, 1]  # its turn, for each voice
        first = next(size for size in answered if size[0] == 2)
        if question is not QUESTIONS[0]:
            assert answered[0] == first and first[1] < len(question) + 16  # nothing before the question itself


def test_a_conversation_has_the_same_tokens_whatever_was_computed_ahead(conversation, place, run, base):
    from engine.contract import summary
    from engine.data.conversation import Turn
    from engine.data.of_spec import encoder_for
    from engine.infer.generate import generate
    from engine.models.load import LoadOptions, load_base

    encoder, plain = encoder_for(summary.load_spec(run), base), load_base(base, LoadOptions(precision="fp32")).model
    turns = []
    for question in QUESTIONS:
        ids, _, ahead = conversation(question, ahead=False)
        assert ahead == []  # somebody waited
        turns.append(Turn("user", question))
        options = Generation(max_new_tokens=24)
        made = generate(plain, [encoder.prompt_ids(turns)], stop_ids=encoder.stop_ids, pad_id=2, options=options)
        assert made[0].ids == ids[0]
        text = [token for token in ids[0] if token not in encoder.stop_ids]
        turns.append(Turn("assistant", encoder.tokenizer.decode(text, skip_special_tokens=False)))


def test_an_edited_system_prompt_changes_the_prompt(place, run):
    request = place.chat(run)
    began = [of(host.Began, heard(place, request))[0].prompt_tokens]
    request.voices = [host.Voice(source=v.source, messages=v.messages, system="") for v in request.voices]
    began.append(of(host.Began, heard(place, request))[0].prompt_tokens)
    assert began[1][0] < began[0][0]


def test_a_merged_voice_answers_apart_and_like_the_adapter(place, run):
    replies = heard(place, place.chat(run, kinds=("base", "adapter", "merged")))
    assert replies[-1].mode == "two-pass"
    assert "different models" in of(host.Began, replies)[0].why
    assert texts(replies)[1] == texts(replies)[2] != texts(replies)[0]
    assert replies[-1].kl[2] == pytest.approx(replies[-1].kl[1], abs=1e-4)


def test_another_runs_adapter_shares_the_base_and_the_batch(place, run, base, tmp_path):
    other = run_with_adapter(tmp_path, base, strength=0.3)
    asked = place.chat(run, kinds=("base", "adapter", Source(kind="adapter", run=str(other.path))))
    replies = heard(place, asked)
    assert replies[-1].mode == "batched"
    assert len(set(texts(replies).values())) == 3
    assert texts(replies)[1] == texts(heard(place, place.chat(run)))[1]


def test_dora_is_answered_in_two_passes_and_says_so(place, base, tmp_path):
    run = run_with_adapter(tmp_path, base, lora={"use_dora": True}, method={"dora": True})
    replies = heard(place, place.chat(run))
    assert replies[-1].mode == "two-pass"
    assert "cannot share a batch" in of(host.Began, replies)[0].why
    assert texts(replies)[0] != texts(replies)[1]


def test_open_says_what_was_loaded(place, run, base):
    voices = [Source(kind="base"), Source(kind="adapter")]
    with place.client() as client:
        opened = client.ask(host.Open(id="o", run=str(run.path), models=str(place.models), voices=voices))
    assert (opened.run, opened.system, opened.window) == (run.id, "You are Rhea.", 512)
    assert (opened.precision, opened.quantization, opened.mode) == ("fp32", "none", "batched")
    assert "<|im_start|>" in opened.chat_template


def test_a_checkpoint_that_is_not_there_is_told_with_those_that_are(place, run):
    last = heard(place, place.chat(run, kinds=("base", Source(kind="adapter", checkpoint=7))))[-1]
    assert isinstance(last, host.Failure) and last.code == 2
    assert "no checkpoint at step 7" in last.message


def test_a_question_too_long_for_the_window_is_refused_in_a_sentence(place, run):
    last = heard(place, place.chat(run, "long " * 900))[-1]
    assert isinstance(last, host.Failure)
    assert "window" in last.message and "Traceback" not in last.message


def test_an_answer_stops_at_the_next_token_when_told_to(place, run):
    with place.client() as client:
        seen = []
        for reply in client.replies(place.chat(run, options=LONG)):
            seen.append(reply)
            if isinstance(reply, Delta) and reply.tokens == 3 and reply.voice == 0:
                client.send(host.Cancel(id="c", target="1"))
        assert seen[-1].stopped
        ended = of(VoiceDone, seen)
        assert "stopped" in {done.stop for done in ended}
        assert all(done.tokens < 400 for done in ended if done.stop == "stopped")


def test_fifty_rapid_cancels_leave_the_host_as_it_was(place, run, replies):
    with place.client() as client:
        for n in range(50):
            client.send(place.chat(run, id=f"r{n}", options=LONG))
            client.send(host.Cancel(id=f"c{n}", target=f"r{n}"))
        open_ = {f"r{n}" for n in range(50)}
        while open_:
            reply = client.receive()
            if isinstance(reply, (Done, host.Failure)):
                assert reply.stopped, reply
                open_.remove(reply.id)
    assert texts(heard(place, place.chat(run))) == texts(replies)


def test_who_leaves_in_the_middle_keeps_nobody_waiting(place, run, replies):
    client = place.client()
    for number in range(20):
        client.send(place.chat(run, id=f"r{number}", options=LONG))
    while not isinstance(client.receive(), Delta):
        pass
    client.close()
    assert texts(heard(place, place.chat(run))) == texts(replies)
    with place.client() as other:
        assert other.ask(host.Status(id="s")).waiting == 0, "what only it asked for is not worked at"


def test_a_client_has_a_bounded_line(place, run):
    with place.client() as client:
        client.send(place.chat(run, id="at work", options=LONG))
        for number in range(WAITING):
            client.send(host.Call(id=str(number), verb="rm", request=msgspec.Raw(b"{}")))
        refused = next(reply for reply in iter(client.receive, None) if isinstance(reply, host.Failure))
        assert refused.id == str(WAITING - 1) and f"{WAITING} requests" in refused.message
