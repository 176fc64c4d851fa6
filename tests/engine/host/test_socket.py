"""Who may speak to the host, and what it does with those who misbehave."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time

import msgspec
import pytest

from engine.contract import host
from engine.contract.errors import MoltingError
from engine.contract.host_client import PATH_LIMIT, Gone, Place
from engine.host.server import CLIENTS

HELLO = host.encode(host.Hello(protocol=host.PROTOCOL))


OPENED = []


@pytest.fixture(autouse=True)
def _close_all():
    yield
    while OPENED:
        OPENED.pop().close()


def raw(place, *frames):
    sock = socket.socket(socket.AF_UNIX)
    OPENED.append(sock)
    sock.settimeout(20)
    sock.connect(str(place.path))
    for frame in frames:
        sock.sendall(frame)
    return sock


def all_of(sock):
    """Everything until the host closes, as frames."""
    said = b""
    try:
        while piece := sock.recv(1 << 16):
            said += piece
    except ConnectionResetError:
        pass
    return [host.decode_reply(line) for line in said.splitlines()]


def alive(place):
    with place.client() as client:
        assert isinstance(client.ask(host.Status(id="s")), host.State)


def test_the_socket_is_for_its_user_alone(place):
    assert place.path.stat().st_mode & 0o777 == 0o600
    assert place.path.parent.stat().st_mode & 0o777 == 0o700
    assert place.log.stat().st_mode & 0o077 == 0 or place.log.parent.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user for a moment")
def test_another_user_is_sent_away_even_where_permissions_would_let_him_in(place):
    reach = [place.path, *place.path.parents][:-2]
    modes = [path.stat().st_mode & 0o777 for path in reach]
    stranger = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1])\n"
        f"s.sendall({HELLO!r}); print(s.recv(100))"
    )
    try:
        for path in reach:
            path.chmod(0o777)
        told = subprocess.run([sys.executable, "-c", stranger, place.path], capture_output=True, text=True)
    finally:
        for path, mode in zip(reach, modes, strict=True):
            path.chmod(mode)
    assert told.stdout.strip() == "b''" or "reset" in told.stderr.lower() or "BrokenPipe" in told.stderr, told
    alive(place)


@pytest.mark.parametrize(
    "frame",
    [b"\x00\xff\xfe\x80 garbage\n", b"GET / HTTP/1.1\r\n", b'{"k": "hello"}\n', b"[" * 10_000 + b"\n", b'"\\ud800"\n'],
    ids=["bytes", "http", "no version", "nested", "surrogate"],
)
def test_garbage_is_answered_and_the_door_closed(place, frame):
    (reply,) = all_of(raw(place, frame))
    assert isinstance(reply, host.Failure) and reply.message
    (welcome, reply) = all_of(raw(place, HELLO, frame))
    assert isinstance(welcome, host.Welcome) and isinstance(reply, host.Failure)
    alive(place)


def test_a_huge_frame_is_refused_before_it_is_read(place):
    sock = raw(place, HELLO)
    try:
        for _ in range(64):
            sock.sendall(b"x" * (1 << 20))
    except (BrokenPipeError, ConnectionResetError):
        pass
    else:
        pytest.fail("64 MiB without a newline were taken")
    alive(place)


def test_a_client_of_another_version_is_told_so(place):
    for protocol, age in ((host.PROTOCOL + 1, "newer"), (host.PROTOCOL - 1, "older")):
        (reply,) = all_of(raw(place, host.encode(host.Hello(protocol=protocol))))
        assert age in reply.message and "molting host stop" in reply.remedy


def test_an_unknown_method_is_answered_and_the_client_stays(place):
    sock = raw(place, HELLO, b'{"k":"dance","id":"d"}\n', host.encode(host.Status(id="s")))
    with sock.makefile("rb") as file:
        replies = [host.decode_reply(file.readline()) for _ in range(3)]
    assert isinstance(replies[1], host.Failure) and replies[1].id == "d"
    assert isinstance(replies[2], host.State)


def test_an_unknown_verb_and_a_wrong_request_are_answered(place):
    with place.client() as client:
        for verb, said in (("rm", "no verb"), ("ask", "no request for ask")):
            *_, last = client.replies(host.Call(id=verb, verb=verb, request=msgspec.Raw(b"{}")))
            assert isinstance(last, host.Failure) and said in last.message


def test_the_silent_and_the_very_slow_are_sent_away(place):
    silent, slow, quiet = raw(place), raw(place, HELLO[:3]), raw(place, HELLO)
    began = time.monotonic()
    slow_said, silent_said = all_of(slow), all_of(silent)
    assert time.monotonic() - began < 15
    assert "too long" in slow_said[0].message and "too long" in silent_said[0].message
    quiet.sendall(host.encode(host.Status(id="s")))
    with quiet.makefile("rb") as file:  # an idle client that said hello may stay
        assert [type(host.decode_reply(file.readline())) for _ in range(2)] == [host.Welcome, host.State]


def test_a_client_that_does_not_read_is_dropped(place):
    sock = raw(place, HELLO)
    frames = host.encode(host.Status(id="s")) * 1000
    try:
        for _ in range(200):
            sock.sendall(frames)
    except (BrokenPipeError, ConnectionResetError):
        pass
    else:
        pytest.fail("200,000 unread answers were kept")
    alive(place)


def test_one_client_too_many_is_told_so_and_welcome_once_another_left(place):
    for _ in range(CLIENTS + 1):
        with raw(place).makefile("rwb") as file:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                file.write(HELLO)
                file.flush()
            last = host.decode_reply(file.readline())
    assert isinstance(last, host.Failure) and f"{CLIENTS} clients" in last.message
    OPENED.pop(0).close()
    deadline = time.monotonic() + 20
    while isinstance(last, host.Failure) and time.monotonic() < deadline:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError), raw(place, HELLO).makefile("rb") as file:
            last = host.decode_reply(file.readline())
    assert isinstance(last, host.Welcome)


def test_two_requests_of_one_name_are_one_too_many(place, run):
    with place.client() as client:
        client.send(place.chat(run))
        client.send(place.chat(run))
        seen = []
        while not any(isinstance(reply, host.Done) for reply in seen):
            seen.append(client.receive())
    assert any(isinstance(reply, host.Failure) and "still at work" in reply.message for reply in seen)


def test_a_request_too_large_for_a_frame_is_not_sent(place, run):
    with place.client() as client, pytest.raises(MoltingError, match="too large"):
        client.ask(place.chat(run, "x" * (2 << 20)))


def test_a_path_too_long_for_a_socket_is_said_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("MOLTING_RUNTIME_DIR", str(tmp_path / ("d" * 90)))
    with pytest.raises(MoltingError, match=f"{PATH_LIMIT} bytes"):
        Place("cpu")


def test_nobody_there_is_a_sentence(tmp_path):
    from engine.contract.host_client import Client

    with pytest.raises(Gone, match="No inference host answers"):
        Client(tmp_path / "nobody.sock")
