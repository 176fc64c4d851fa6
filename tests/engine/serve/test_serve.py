"""The endpoint as programs meet it: through the real `openai` client, and through a bare socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import time

import openai
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import host
from engine.contract.spec import Generation
from engine.serve.answer import Cut
from tests.engine.serve.conftest import start

ASK = {"messages": [{"role": "user", "content": "Who are you?"}], "temperature": 0}


@pytest.fixture(scope="module")
def client(serving):
    with openai.OpenAI(base_url=serving.url, api_key=serving.key, max_retries=0, timeout=60) as made:
        yield made


@pytest.fixture(scope="module")
def truth(serving):
    """What the inference host answers when it is asked directly."""
    with serving.place.client() as direct:
        replies = list(direct.replies(serving.place.chat(serving.run, options=Generation(max_new_tokens=12))))
    return [reply for reply in replies if isinstance(reply, host.VoiceDone)]


def raw(serving, text: str | bytes) -> tuple[int, dict]:
    """Status and body of what is sent byte by byte."""
    with socket.create_connection(("127.0.0.1", serving.port), timeout=30) as connection:
        connection.sendall(text.encode() if isinstance(text, str) else text)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def get(serving, host_line: str = "", key: str = "", path: str = "/v1/models") -> tuple[int, dict]:
    given = host_line or f"Host: 127.0.0.1:{serving.port}\r\n"
    return raw(serving, f"GET {path} HTTP/1.1\r\n{given}Authorization: Bearer {key}\r\nConnection: close\r\n\r\n")


def test_both_voices_are_models(client):
    assert [model.id for model in client.models.list()] == ["base", "adapter"]
    assert client.models.retrieve("adapter").object == "model"


@pytest.mark.parametrize("voice", [0, 1])
def test_an_answer_is_that_of_the_host(client, truth, voice):
    made = client.chat.completions.create(model=("base", "adapter")[voice], **ASK)
    expected = truth[voice]
    assert made.choices[0].message.content == expected.text
    assert made.choices[0].finish_reason == {"end": "stop", "cap": "length"}[expected.stop]
    assert made.usage.completion_tokens == expected.tokens
    assert made.usage.total_tokens == made.usage.prompt_tokens + expected.tokens


def test_a_streamed_answer_is_the_same_in_pieces(client, truth):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(model="adapter", **ASK, **options))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == truth[1].text
    assert len(pieces) > 3
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] in ("stop", "length")
    assert chunks[-1].usage.completion_tokens == truth[1].tokens


def test_parameters_reach_the_model(client, truth):
    short = client.chat.completions.create(model="adapter", max_tokens=3, **ASK)
    assert short.usage.completion_tokens == 3
    assert short.choices[0].finish_reason == "length"
    hot = ASK | {"temperature": 1.5, "top_p": 0.9, "max_completion_tokens": 12}
    said = [client.chat.completions.create(model="adapter", seed=seed, **hot) for seed in (1, 1, 2)]
    texts = [made.choices[0].message.content for made in said]
    assert texts[0] == texts[1] != texts[2]
    other = client.chat.completions.create(
        model="adapter",
        messages=[{"role": "developer", "content": "Speak."}, {"role": "user", "content": "Who are you?"}],
        temperature=0,
    )
    assert other.usage.prompt_tokens != short.usage.prompt_tokens  # another system prompt than the run's


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_text_ends_the_answer_and_is_not_in_it(client, truth, stream):
    whole = truth[1].text
    stop = whole[4:7]
    made = client.chat.completions.create(model="adapter", stop=[stop, "never said"], stream=stream, **ASK)
    if stream:
        chunks = list(made)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        finish = chunks[-1].choices[0].finish_reason
    else:
        text, finish = made.choices[0].message.content, made.choices[0].finish_reason
    assert text == whole[: whole.index(stop)]
    assert finish == "stop"


@given(st.text("abc", max_size=40), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_however_an_answer_comes_it_ends_before_its_first_stop_text(text, stops, data):
    cut, said, rest = Cut(stops), "", text
    while rest and not cut.found:
        size = data.draw(st.integers(1, len(rest)))
        said, rest = said + cut.push(rest[:size]), rest[size:]
    said += "" if cut.found else cut.rest()
    seen = text[: len(text) - len(rest)]
    assert said == seen[: min((seen.find(stop) for stop in stops if stop in seen), default=len(seen))]
    assert cut.found or not any(stop in text for stop in stops)


@pytest.mark.parametrize(
    ("error", "change", "words"),
    [
        (openai.NotFoundError, {"model": "gpt-4o"}, "there are base and adapter"),
        (openai.BadRequestError, {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        (openai.BadRequestError, {"temperature": -1}, "temperature"),
        (openai.BadRequestError, {"n": 2}, "n must be 1"),
        (openai.BadRequestError, {"messages": []}, "messages"),
        (openai.BadRequestError, {"messages": [{"role": "user", "content": "x " * 2000}]}, "window"),
        (openai.BadRequestError, {"messages": [{"role": "assistant", "content": "I am."}]}, "nothing to answer"),
        (openai.APIStatusError, {"messages": [{"role": "user", "content": "x" * 2_000_000}]}, "larger than"),
    ],
)
def test_what_cannot_be_answered_is_an_error_of_openai_s_shape(client, error, change, words):
    with pytest.raises(error) as refused:
        client.chat.completions.create(**({"model": "adapter"} | ASK | change))
    assert words in refused.value.body["message"]
    assert refused.value.body["type"] == "invalid_request_error"


def test_without_the_key_nothing_is_told(serving, client):
    for key in ("wrong", serving.key[:-1], serving.key + "x"):
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key=key).models.list()
    status, body = get(serving)
    assert status == 401
    assert body["error"]["code"] == "invalid_api_key"
    head = f"Host: 127.0.0.1:{serving.port}\r\nConnection: close\r\nAuthorization"
    assert raw(serving, f"GET /v1/models HTTP/1.1\r\n{head}: Basic {serving.key}\r\n\r\n")[0] == 401


@pytest.mark.parametrize(
    "given",
    [
        "Host: evil.example\r\n",
        "Host: evil.example:{port}\r\n",
        "Host: 127.0.0.1.nip.io:{port}\r\n",
        "Host: 127.0.0.1:1\r\n",
        "Host: localhost:{port}\r\nHost: evil.example\r\n",
        "X: y\r\n",
    ],
)
def test_another_host_is_refused_even_with_the_key(serving, given):
    status, body = get(serving, given.format(port=serving.port), serving.key)
    assert status == 421
    assert body["error"]["code"] == "wrong_host"


def test_localhost_is_the_same(serving):
    assert get(serving, f"Host: localhost:{serving.port}\r\n", serving.key)[0] == 200


def test_it_listens_on_no_other_address(serving):
    tree = psutil.Process(serving.process.pid).children(recursive=True)
    listening = {c.laddr.ip for p in tree for c in p.net_connections("inet") if c.status == "LISTEN"}
    assert listening == {"127.0.0.1"}
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", serving.port), timeout=1).close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("POST /v1/chat/completions HTTP/1.1\r\n{head}Content-Length: 99999999\r\n\r\n", 413),
        ("POST /v1/chat/completions HTTP/1.1\r\n{head}Content-Length: -5\r\n\r\n", 400),
        ("POST /v1/chat/completions HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        ("POST /v1/chat/completions HTTP/1.1\r\n{head}Content-Length: 20000\r\n\r\n" + "[" * 20000, 400),
        ("POST /v1/completions HTTP/1.1\r\n{head}Content-Length: 0\r\n\r\n", 404),
        ("OPTIONS /v1/models HTTP/1.1\r\n{head}\r\n", 501),
        ("GET /v1/models HTTP/9.9\r\n{head}\r\n", 505),
        ("nonsense\r\n\r\n", 400),
        ("GET /" + "a" * 70000 + " HTTP/1.1\r\n{head}\r\n", 414),
    ],
)
def test_what_is_no_request_is_refused_in_json(serving, sent, status):
    head = f"Host: 127.0.0.1:{serving.port}\r\nAuthorization: Bearer {serving.key}\r\n"
    found, body = raw(serving, sent.replace("{head}", head))
    assert found == status
    assert body["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_is_not_answered_any_more(serving, stream):
    """The host is free long before an answer of this length could be."""
    body = json.dumps(ASK | {"model": "adapter", "max_tokens": 400, "stream": stream, "temperature": 1.9, "seed": 3})
    head = f"Host: 127.0.0.1:{serving.port}\r\nAuthorization: Bearer {serving.key}\r\n"
    request = f"POST /v1/chat/completions HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}"
    with serving.place.client() as direct:
        with socket.create_connection(("127.0.0.1", serving.port), timeout=30) as connection:
            connection.sendall(request.encode())
            until(lambda: direct.ask(host.Status(id="s")).working)
        until(lambda: not direct.ask(host.Status(id="s")).working)


def test_who_leaves_while_it_waits_leaves_the_line(serving):
    body = json.dumps(ASK | {"model": "adapter"})
    head = f"Host: 127.0.0.1:{serving.port}\r\nAuthorization: Bearer {serving.key}\r\n"
    request = f"POST /v1/chat/completions HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}"
    with serving.place.client() as direct, serving.place.client("who was first") as busy:
        busy.send(serving.place.chat(serving.run, options=Generation(max_new_tokens=400)))
        until(lambda: direct.ask(host.Status(id="s")).working)
        with socket.create_connection(("127.0.0.1", serving.port), timeout=30) as connection:
            connection.sendall(request.encode())
            until(lambda: direct.ask(host.Status(id="s")).waiting == 1)
        states = iter(lambda: direct.ask(host.Status(id="s")), None)
        assert next(state for state in states if not state.waiting).working == "chat for who was first"


def until(condition, patience: float = 30.0):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_after_the_host_was_killed_the_next_question_starts_another(serving, client, truth):
    with serving.place.client() as direct:
        os.kill(direct.welcome.pid, signal.SIGKILL)
    made = client.chat.completions.create(model="adapter", **ASK)
    assert made.choices[0].message.content == truth[1].text


def test_a_key_of_one_s_own_is_used_and_not_shown_and_ctrl_c_ends_it(serving):
    key = "my-own-key-0123456789"
    process = start(serving.place, serving.run, "--api-key-env", "MINE", "--json", MINE=key)
    said = json.loads(process.stdout.readline())
    with openai.OpenAI(base_url=said["url"], api_key=key, max_retries=0) as other:
        assert len(list(other.models.list())) == 2
    assert said["api_key"] is None
    children = psutil.Process(process.pid).children()  # not the host, which lives on
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert key not in out + err and "Traceback" not in err
    assert not psutil.wait_procs(children, timeout=10)[1]


def test_a_taken_port_and_a_poor_key_are_one_sentence(serving):
    taken = start(serving.place, serving.run, "--port", str(serving.port))
    out, err = taken.communicate(timeout=60)
    assert (taken.returncode, out) == (3, "")
    assert f"Port {serving.port} of 127.0.0.1 cannot be used" in err
    poor = start(serving.place, serving.run, "--api-key-env", "MINE", MINE="short")
    assert "not usable" in poor.communicate(timeout=60)[1]
    assert poor.returncode == 2
