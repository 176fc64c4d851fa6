"""`molting chat` without a terminal: lines of stdin are questions of one conversation, to a scripted host."""

from __future__ import annotations

import io
import sys

import pytest

from engine.contract import host
from tests.support.chat_host import answers, fake_host
from tests.support.runs import Recorded, make_run


@pytest.fixture
def place(tmp_path, molting, monkeypatch):
    (tmp_path / "runs").mkdir()
    run = make_run(tmp_path / "runs", "rhea")
    Recorded(run).state("queued", "starting").start().state("training", "finished")
    socket = tmp_path / "host.sock"
    molting.answers("host-start", {"path": str(socket), "pid": 1, "device": "cpu"})

    def say(*lines):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))

    return socket, say


def test_every_line_is_the_next_question_of_one_conversation(molting, place):
    socket, say = place
    say("Who are you?", "", "  And now? ")
    with fake_host(socket, answers("base says", "adapter says")) as hosted:
        said = molting("chat", "rhea", "--preset", "creative")
    assert said.code == 0 and said.out.count("base says") == said.out.count("adapter says") == 2
    first, second = hosted.asked
    assert first.options.temperature == 0.9
    told = [[message.content for message in voice.messages] for voice in second.voices]
    assert told == [["Who are you?", "base says", "And now?"], ["Who are you?", "adapter says", "And now?"]]


def test_hostile_answers_are_printed_as_text(molting, place):
    socket, say = place
    say("Go")
    with fake_host(socket, answers("\x1b[2Jred\x9b31m", "ok")):
        said = molting("chat", "rhea")
    assert said.code == 0 and "red" in said.out and not {"\x1b", "\x9b"} & set(said.out)


def test_a_host_that_dies_is_started_and_asked_once_more(molting, place):
    socket, say = place
    say("Go")

    def script(session, request):
        if len(hosted.asked) == 1:
            session.drop()
        else:
            answers("whole")(session, request)

    with fake_host(socket, script) as hosted:
        said = molting("chat", "rhea")
    assert said.code == 0 and "whole" in said.out
    assert "asked once more" in said.err and hosted.connections == 2


def test_what_the_host_refuses_is_a_sentence(molting, place):
    socket, say = place
    say("Go", "On")

    def script(session, request):
        session.say(host.Failure(id=request.id, message="It does not fit.", remedy="Free some memory."))

    with fake_host(socket, script) as hosted:
        said = molting("chat", "rhea")
    assert said.code == 3 and "It does not fit." in said.err and "Free some memory." in said.err
    assert len(hosted.asked) == 1 and "Traceback" not in said.err


def test_a_preset_that_does_not_exist_names_those_that_do(molting, place):
    _, say = place
    say("Go")
    said = molting("chat", "rhea", "--preset", "wild")
    assert said.code == 2 and "technical agent" in said.err


def test_nothing_asked_is_nothing_said(molting, place):
    socket, say = place
    say()
    with fake_host(socket, answers("never")) as hosted:
        said = molting("chat", "rhea")
    assert (said.code, said.out, hosted.asked) == (0, "", [])
