"""How a host begins, gives memory back, dies, and comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import ANY

import msgspec
import pytest

from engine.contract import calls, host, host_client, processes, rubric, sheets
from engine.contract.errors import MoltingError
from engine.contract.host_client import ask_to_free, end, silent
from engine.contract.spec import Generation
from engine.contract.verdict import Answered, AnswersRequest
from molting_tui.commands import host as commands
from tests.support.host import hosted

PATIENCE = 60


def wait(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def engine(place, verb, request, **env):
    argv = [sys.executable, "-I", "-m", "engine", verb]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=place.env | env)
    process.stdin.write(msgspec.json.encode(request) + b"\n")
    process.stdin.close()
    return process


def lines(process):
    with process.stdout as out:
        said = [calls.decode_line(line) for line in out]
    process.wait()
    return said


def asking(place, run, **options):
    return calls.AskRequest(run=str(run.path), models=str(place.models), questions=["Who are you?"], **options)


@pytest.fixture
def alone(tmp_path):
    with hosted(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def asked(place, run):
    """`ask` as the command line does it, through a host that runs already."""
    return msgspec.json.decode(lines(engine(place, "ask", asking(place, run)))[-1].value, type=calls.Asked)


def test_ask_goes_through_the_host_and_answers_as_without_it(asked, place, run):
    from engine.infer.ask import ask

    here = ask(asking(place, run), lambda line: None)
    assert asked.answers == here.answers and asked.mode == here.mode


def test_the_second_question_finds_the_model_warm(asked, place, run):
    said = lines(engine(place, "ask", asking(place, run)))
    assert "loading the model" not in [line.phase for line in said if isinstance(line, calls.Progress)]
    with place.client() as client:
        state = client.ask(host.Status(id="s"))
    assert [model.name for model in state.models] == ["tiny"]
    assert state.models[0].adapters == [f"{run.id}/adapter"]


def test_a_failure_of_a_verb_keeps_its_sentence_and_code(place, run):
    (*_, last) = lines(engine(place, "ask", msgspec.structs.replace(asking(place, run), questions=[" "])))
    assert (last.message, last.code) == ("There is no question to ask.", 2)


def answering(place, run, **fields):
    return AnswersRequest(run=str(run.path), models=str(place.models), rubric=str(rubric.find("rhea")), **fields)


def test_answer_sheets_are_made_with_the_warm_model(asked, place, run):
    said = lines(engine(place, "answers", answering(place, run)))
    assert "loading the model" not in [line.phase for line in said if isinstance(line, calls.Progress)]
    made = msgspec.json.decode(said[-1].value, type=Answered)
    assert made.items == 16 and len(sheets.read(Path(made.path)).items) == 16


def test_a_sheet_that_nobody_waits_for_any_more_is_never_sealed(asked, place, run):
    before = len(sheets.readable(run)[0])
    with place.client() as client:
        request = msgspec.Raw(msgspec.json.encode(answering(place, run, samples=20)))
        for reply in client.replies(host.Call(id="1", verb="answers", request=request)):
            if isinstance(reply, host.Progress) and reply.phase == "answering":
                client.send(host.Cancel(id="c", target="1"))
    assert reply.stopped
    assert len(sheets.readable(run)[0]) == before


def test_a_host_of_older_code_is_replaced_when_idle_and_named_when_at_work(alone, run, monkeypatch):
    from engine.host import start

    for name in ("MOLTING_RUNTIME_DIR", "MOLTING_CONFIG", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, alone.env[name])
    first, versions = alone.start(), iter(["newer"])
    monkeypatch.setattr(start, "version", lambda: next(versions, ANY))
    with start.connect("test") as client:
        assert client.welcome.pid != first.pid
    assert first.wait(PATIENCE) == 0
    monkeypatch.setattr(start, "version", lambda: "newest")
    with alone.client("Ana") as busy:
        busy.send(alone.chat(run))
        assert busy.receive().phase == "importing"
        with pytest.raises(MoltingError, match=r"older code\. .* at work: chat for Ana") as refused:
            start.connect("test")
        assert "molting host stop" in refused.value.remedy


def test_a_host_that_hangs_keeps_no_run_waiting(alone, monkeypatch):
    """Frozen after its welcome: the supervisor goes on without it."""
    monkeypatch.setenv("MOLTING_RUNTIME_DIR", str(alone.runtime))
    monkeypatch.setattr(host_client, "FREES", 0.3)
    process = alone.start()
    welcomed = host_client.Client.send

    def send(client, frame):
        if isinstance(frame, host.Free):
            process.send_signal(signal.SIGSTOP)
        welcomed(client, frame)

    monkeypatch.setattr(host_client.Client, "send", send)
    assert ask_to_free("cpu", "a run starts") is None
    process.kill()


def test_a_host_that_does_not_answer_is_named_and_not_told_as_absent(alone, monkeypatch):
    monkeypatch.setattr(host_client, "ANSWERS", 0.2)
    process = alone.start()
    assert f"process {process.pid}" in silent(alone.path).message
    process.send_signal(signal.SIGSTOP)
    monkeypatch.setenv("MOLTING_RUNTIME_DIR", str(alone.runtime))
    for order in ("status", "free"):
        with pytest.raises(MoltingError, match=f"process {process.pid}.* does not answer") as told:
            commands.host(commands.Order(order))
        assert told.value.code == 3 and "molting host stop" in told.value.remedy
    process.kill()
    process.wait(PATIENCE)
    assert silent(alone.path) is None


def test_memory_is_given_back_to_a_run_that_starts(asked, place, monkeypatch):
    monkeypatch.setenv("MOLTING_RUNTIME_DIR", str(place.runtime))
    freed = ask_to_free("cpu", "a run starts")
    assert freed.busy == "" and not freed.exits
    with place.client() as client:
        assert client.ask(host.Status(id="s")).models == []


def test_a_busy_host_says_for_whom_it_works_and_keeps_its_memory(place, run, monkeypatch):
    monkeypatch.setenv("MOLTING_RUNTIME_DIR", str(place.runtime))
    with place.client("Ana") as client:
        client.send(place.chat(run, options=Generation(max_new_tokens=450, repetition_penalty=1.3)))
        while not isinstance(client.receive(), host.Delta):
            pass
        assert ask_to_free("cpu", "a run starts").busy == "chat for Ana"
        client.send(host.Cancel(id="c", target="1"))


def test_no_host_no_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("MOLTING_RUNTIME_DIR", str(tmp_path))
    assert ask_to_free("cpu", "a run starts") is None


def test_a_killed_host_is_started_again_and_the_question_asked_once_more(alone, run):
    first = alone.start()
    process = engine(alone, "ask", asking(alone, run, max_new_tokens=450))
    said = []
    with process.stdout as out:
        for raw in out:
            said.append(calls.decode_line(raw))
            if first.poll() is None and getattr(said[-1], "phase", "") == "answering":
                first.kill()
                first.wait()
    process.wait()
    assert first.returncode == -signal.SIGKILL
    notes = [line.text for line in said if isinstance(line, calls.Note)]
    assert any("started again" in note for note in notes), said
    assert isinstance(said[-1], calls.Result), said


def test_what_a_killed_host_left_does_not_stop_the_next_one_which_is_one(alone):
    alone.start().kill()
    wait(lambda: os.path.lexists(alone.path))
    asked_at_once = [engine(alone, "host-start", calls.HostRequest(), HF_TOKEN="hf_secretsecret") for _ in range(3)]
    places = [msgspec.json.decode(lines(each)[-1].value, type=calls.HostPlace) for each in asked_at_once]
    assert len({each.pid for each in places}) == 1
    environment = Path(f"/proc/{places[0].pid}/environ").read_bytes()
    assert b"hf_secret" not in environment and b"MOLTING_RUNTIME_DIR" in environment
    assert os.getsid(places[0].pid) == places[0].pid
    outputs = {str(Path(f"/proc/{places[0].pid}/fd/{fd}").readlink()) for fd in (0, 1, 2)}
    assert outputs == {"/dev/null", str(alone.log)}


def test_a_host_that_ends_as_soon_as_it_starts_is_told_at_once_with_its_last_words(alone, monkeypatch):
    from engine.host import start

    monkeypatch.setenv("MOLTING_RUNTIME_DIR", str(alone.runtime))
    began = []

    def spawn(where):
        began.append(where)
        broken = [sys.executable, "-c", "raise SystemExit('libcudart.so.12 is not there')"]
        return processes.spawn_detached(broken, stdout=where.log, env=alone.env, cwd=alone.runtime)

    monkeypatch.setattr(start, "_spawn", spawn)
    with pytest.raises(
        MoltingError, match=r"ends as soon as it starts\. It said last: libcudart\.so\.12 is not"
    ) as told:
        start.connect("test")
    assert len(began) == 3 and str(alone.log) in told.value.remedy


def test_a_host_that_nobody_asks_ends_by_itself_and_leaves_no_socket(alone):
    alone.config.write_text("[host]\nidle_minutes = 0.01\n")
    process = alone.start()
    with alone.client() as client:
        assert isinstance(client.receive(), host.Bye)
    assert process.wait(PATIENCE) == 0
    assert not alone.path.exists()


def test_a_host_at_work_is_not_idle_however_long_it_takes(tmp_path):
    from engine.host.server import Server

    ended, socket = [], tmp_path / "socket"
    socket.touch()
    stands = SimpleNamespace(
        worker=SimpleNamespace(last_work=time.monotonic() - 99.0),
        place=SimpleNamespace(path=socket, log=tmp_path / "log"),
        busy="a long answer",
        idle_seconds=1.0,
        end=ended.append,
    )
    Server._look(stands, socket.stat().st_ino)
    assert ended == []
    stands.busy = ""
    Server._look(stands, socket.stat().st_ino)
    assert len(ended) == 1 and "nobody asked anything" in ended[0]


def test_a_host_that_cannot_be_reached_any_more_ends(alone):
    process = alone.start()
    alone.path.unlink()
    assert process.wait(PATIENCE) == 0


def test_end_ends_a_stopped_process_too(alone):
    process = alone.start()
    process.send_signal(signal.SIGSTOP)
    assert end(alone.path, patience=0.2)
    assert process.wait(PATIENCE) == -signal.SIGKILL


def test_an_unexpected_error_in_the_middle_is_a_sentence_and_the_next_answer_is_right(place, run, tmp_path, capfd):
    """In this process, so that something can be broken."""
    from engine.host import chat
    from engine.host.work import Job, Worker

    worker = Worker(tmp_path / "host.log", {}, lambda job: None)

    def ask(goes_on=False):
        said = []
        worker.turns.add("me", Job(msgspec.structs.replace(place.chat(run), goes_on=goes_on), said.append))
        wait(lambda: said and isinstance(said[-1], host.LAST))
        return said

    before = [reply.text for reply in ask() if isinstance(reply, host.VoiceDone)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat._Row, "hear", lambda row, token: 1 / 0)
        assert worker.resident
        last = ask()[-1]
    assert worker.resident == []  # no model that was at work is trusted, nor its memory kept
    assert "ZeroDivisionError" in last.message and "Traceback" not in last.message
    assert last.log == str(tmp_path / "host.log")
    assert "ZeroDivisionError" in capfd.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat.Conversation, "go_on", lambda one, waits: 1 / 0)
        ask(goes_on=True)
        wait(lambda: worker._warm.residents == [])
    assert [reply.text for reply in ask() if isinstance(reply, host.VoiceDone)] == before


def test_what_will_not_fit_is_refused_before_it_is_loaded(base, run, tmp_path, monkeypatch):
    from engine.infer import fit
    from engine.infer.session import open_session

    monkeypatch.setattr(fit, "free", lambda device: 1000)
    with pytest.raises(MoltingError, match=r"tiny needs about .* so it was not loaded") as refused:
        open_session(run, tmp_path, lambda line: None)
    assert refused.value.reason == "oom_host"


def test_what_was_not_used_for_longest_makes_room(base, run, tmp_path, monkeypatch):
    from engine.infer import fit, session, warm
    from engine.models.load import LoadOptions

    models = warm.Warm()
    first = models.base(base, LoadOptions(precision="fp32"), tmp_path, lambda *_: None)
    first.used -= 60
    monkeypatch.setattr(fit, "free", lambda device: 0 if models.residents else 1 << 40)
    models.base(base, LoadOptions(precision="bf16"), tmp_path, lambda *_: None)
    assert [each.options.precision for each in models.residents] == ["bf16"]
    assert session.kept.get() is None
