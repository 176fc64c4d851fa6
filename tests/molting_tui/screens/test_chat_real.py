"""Chat with a real inference host and a tiny model: killed in the middle, found again, left to the next app."""

from __future__ import annotations

import os
import signal

import pytest

from engine.contract import host
from molting_tui.screens.chat import Chat
from molting_tui.services import chat_store
from tests.support.host import hosted
from tests.support.pilot import drive, settle, shown, typed, until
from tests.support.runs import Recorded
from tests.support.tiny import tiny_llama
from tests.support.trained_runs import run_with_adapter

LONG = {"max_new_tokens": 450, "repetition_penalty": 1.3}  # a tiny model, and still seconds
PATIENCE = 90.0


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A run that can be asked, and a folder in which the app starts a host of its own."""
    with hosted(tmp_path) as made:
        for name in ("MOLTING_RUNTIME_DIR", "MOLTING_CONFIG", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
            monkeypatch.setenv(name, made.env[name])
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        base = tiny_llama(tmp_path / "models" / "tiny", initializer_range=0.1, max_position_embeddings=4096)
        run = run_with_adapter(tmp_path / "runs", base, generation=LONG)
        Recorded(run).state("queued", "starting").start().state("training", "finished")
        yield run, made


async def opened(app, pilot):
    await pilot.press("c")
    await until(pilot, lambda: isinstance(app.screen, Chat) and app.screen.opened is not None, PATIENCE)


async def ends(app, pilot):
    """Wait for the answers; an error that came instead is told."""
    await until(pilot, lambda: not isinstance(app.screen, Chat) or app.screen.answering is None, PATIENCE)
    assert isinstance(app.screen, Chat), shown(app)


async def speaks(app, pilot):
    await until(pilot, lambda: app.screen.answering and all(voice.tokens for voice in app.screen.answering.voices))


def welcome(made):
    with made.client() as client:
        return client.welcome.pid


def test_a_conversation_outlives_its_host_and_its_app(place):
    run, made = place
    pids = []

    async def first_app(app, pilot):
        await opened(app, pilot)
        pids.append(welcome(made))
        await typed(pilot, "Who are you")
        await pilot.press("enter")
        await speaks(app, pilot)
        os.kill(pids[0], signal.SIGKILL)
        await until(pilot, lambda: "This answer is not whole; R asks again." in " ".join(shown(app).split()))
        half = chat_store.latest(run)[0]
        assert {reply.stop for reply in half.replies[half.at].values()} == {"lost"}
        await until(pilot, lambda: app.screen.opening is None and app.screen.trouble is None, PATIENCE)  # by itself
        pids.append(welcome(made))
        await pilot.press("escape", "R")
        await speaks(app, pilot)
        await ends(app, pilot)
        assert "not whole" not in shown(app)

    async def next_app(app, pilot):
        await opened(app, pilot)
        assert welcome(made) == pids[1] and "Who are you" in shown(app)
        await typed(pilot, "And now")
        await pilot.press("enter")
        await speaks(app, pilot)
        await pilot.press("ctrl+c")
        await ends(app, pilot)
        await settle(app, pilot)
        assert shown(app).count("stopped by you") == 2

    drive(run.path.parent, first_app)
    drive(run.path.parent, next_app)
    assert pids[0] != pids[1]
    said, damaged = chat_store.latest(run)
    assert not damaged and [turn.question for turn in said.path()] == ["Who are you", "And now"]
    replies = said.replies[said.path()[0].id]
    assert {reply.stop for reply in replies.values()} <= {"end", "cap"} and replies["adapter"].kl > 0
    with made.client() as client:  # what the app showed is what the host says to the same question now
        asked = made.chat(run, "Who are you", options=said.path()[0].options)
        texts = [reply.text for reply in client.replies(asked) if isinstance(reply, host.VoiceDone)]
    assert texts == [replies["base"].text, replies["adapter"].text]
