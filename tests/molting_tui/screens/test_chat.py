"""The Chat screen on a scripted host: what a user sees and does."""

from __future__ import annotations

import threading

import pytest

from engine.contract import host
from molting_tui.services import chat_store
from molting_tui.state.chat import Turn
from tests.support.chat_host import answers, began, delta, done, ended, fake_host
from tests.support.chat_screen import ask, chatting, says
from tests.support.pilot import drive, settle, shown, typed, until


def test_both_voices_stream_and_are_saved_and_told_apart(place):
    go_on = threading.Event()

    def script(session, request):
        session.say(began(request), delta(request, 0, "I am a", 3), delta(request, 1, "I am Rhea", 3))
        go_on.wait(10)
        session.say(delta(request, 0, " model.", 5), ended(request, 0, "I am a model.", 5, "cap"))
        session.say(delta(request, 1, ", the radio.", 7), ended(request, 1, "I am Rhea, the radio.", 7))
        session.say(done(request, differs=2, kl=1.8))

    async def play(app, pilot, hosted):
        await typed(pilot, "Who")
        await pilot.press("enter")
        await until(pilot, lambda: "I am a" in shown(app) and "I am Rhea" in shown(app))
        assert chat_store.latest(place[0])[0].title == "Who"  # the question is safe before it is answered
        go_on.set()
        await says(app, pilot, "1 turn saved")
        seen = shown(app)
        (line,) = [row for row in seen.splitlines() if "I am a model." in row]
        assert line.index("I am a model.") < line.index("│") < line.index("I am Rhea, the radio.")
        assert "B cap · 5 tok · 4 tok/s · first after 0.1 s" in seen and "A end token · 7 tok" in seen
        assert "differs from token 3 on · KL of the first token 1.8" in seen
        said, damaged = chat_store.latest(place[0])
        assert not damaged and {r.text for r in said.replies[said.at].values()} == {
            "I am a model.",
            "I am Rhea, the radio.",
        }

    chatting(place, play, script)


def test_history_is_each_voices_own_or_the_same_for_all(place):
    async def play(app, pilot, hosted):
        await ask(app, pilot, "One")
        await ask(app, pilot, "Two")
        said = [[message.content for message in voice.messages] for voice in hosted.asked[-1].voices]
        assert said == [["One", "base says", "Two"], ["One", "adapter says", "Two"]]
        await pilot.press("escape", "H")
        await says(app, pilot, "all are told A's answers")
        await pilot.press("enter")
        await ask(app, pilot, "Three")
        said = [[message.content for message in voice.messages] for voice in hosted.asked[-1].voices]
        assert said[0] == said[1] == ["One", "adapter says", "Two", "adapter says", "Three"]

    chatting(place, play, answers("base says", "adapter says"))


def test_editing_asks_beside_and_brackets_move_between_the_branches(place):
    async def play(app, pilot, hosted):
        await ask(app, pilot, "One")
        await ask(app, pilot, "Two")
        await pilot.press("escape", "up", "e")
        await typed(pilot, "x")
        await pilot.press("enter")
        await until(pilot, lambda: len(hosted.asked) == 3 and app.screen.answering is None)
        assert [message.content for message in hosted.asked[-1].voices[0].messages] == ["Onex"]
        await says(app, pilot, "branch 2 of 2")
        assert "Two" not in shown(app)
        await pilot.press("escape", "left_square_bracket")
        await says(app, pilot, "branch 1 of 2")
        assert "Two" in shown(app)
        await pilot.press("f")  # `One` is chosen: what comes next stands beside `Two`
        await ask(app, pilot, "Three")
        assert [turn.question for turn in app.screen.pane.conversation.path()] == ["One", "Three"]

    chatting(place, play, answers("a", "b"))


def test_an_answer_is_stopped_and_asked_again(place):
    def script(session, request):
        session.say(began(request), delta(request, 0, "for", 1), delta(request, 1, "ever", 1))
        while not session.stopped(request):
            threading.Event().wait(0.01)
        for voice, said in enumerate(("for", "ever")):
            session.say(ended(request, voice, said, 1, "stopped"))
        session.say(done(request, stopped=True))

    async def stopped_by(key):
        await until(pilot_now[0], lambda: screen().answering is not None and screen().answering.under_way)
        await pilot_now[0].press(key)
        await until(pilot_now[0], lambda: screen().answering is None)
        await settle(screen().app, pilot_now[0])
        assert shown(screen().app).count("stopped by you · 1 tok") == 2

    pilot_now = []

    def screen():
        return pilot_now[0].app.screen

    async def play(app, pilot, hosted):
        pilot_now.append(pilot)
        await typed(pilot, "Go")
        await pilot.press("enter")
        await stopped_by("ctrl+c")
        await pilot.press("escape", "R")
        await stopped_by("S")
        await pilot.press("R")
        await stopped_by("escape")
        assert "branch 3 of 3" in shown(app)

    chatting(place, play, script)


def test_a_host_killed_in_mid_answer_is_told_kept_and_found_again(place):
    def script(session, request):
        if len(hosted_now[0].asked) == 1:
            session.say(began(request), delta(request, 0, "half an", 2), delta(request, 1, "answer", 2))
            threading.Event().wait(0.2)
            session.drop()
        else:
            answers("whole", "both whole")(session, request)

    hosted_now = []

    async def play(app, pilot, hosted):
        hosted_now.append(hosted)
        await typed(pilot, "Go")
        await pilot.press("enter")
        await says(app, pilot, "This answer is not whole; R asks again.")
        assert "half an" in shown(app) and "broken off before its end" in shown(app)
        await until(pilot, lambda: hosted.connections == 2 and len(hosted.opened) == 2)  # by itself
        await pilot.press("escape", "R")
        await until(pilot, lambda: "both whole" in shown(app))
        assert len(app.screen.pane.conversation.turns) == 1 and "half an" not in shown(app)

    chatting(place, play, script)


def test_the_next_app_goes_on_and_conversations_are_searched(place):
    async def first(app, pilot, hosted):
        await ask(app, pilot, "About the sea")
        await pilot.press("escape", "n")
        await ask(app, pilot, "About bread")

    async def second(app, pilot, hosted):
        await says(app, pilot, "About bread")
        await pilot.press("escape", "slash")
        await typed(pilot, "sea")
        await until(pilot, lambda: "About bread" not in shown(app).split("Conversations")[-1])
        await pilot.press("enter")
        await says(app, pilot, "About the sea")
        await ask_here(app, pilot)
        assert [m.content for m in hosted.asked[-1].voices[1].messages] == ["About the sea", "adapter says", "And"]

    async def ask_here(app, pilot):
        await pilot.press("enter")
        await typed(pilot, "And")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.saved == 2)

    chatting(place, first, answers("base says", "adapter says"))
    chatting(place, second, answers("base says", "adapter says"))


HOSTILE = "\x1b[2J\x1b]52;c;aGk=\x07[@click=app.quit]x[/] \u202eevil\x9b31m"


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
def test_hostile_answers_look_strange_and_do_nothing(place, size):
    def script(session, request):
        session.say(began(request))
        session.say(delta(request, 0, HOSTILE, 1), delta(request, 1, "x" * 1_000_000, 2))
        session.say(*(delta(request, 0, "ha ", n) for n in range(2, 60_000)))
        while not session.stopped(request):
            session.say(delta(request, 0, "on and on ", 60_000))
        session.say(ended(request, 0, HOSTILE, 60_000, "stopped"), ended(request, 1, "x", 2, "stopped"))
        session.say(done(request, stopped=True))

    async def play(app, pilot, hosted):
        await typed(pilot, "Go")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.answering is None and app.screen.saved == 1, 30)
        await settle(app, pilot)
        await pilot.press("escape", "home")
        await until(pilot, lambda: "[@click=app.quit]x[/]" in shown(app))
        assert not {"\x1b", "\x9b", "\u202e", "\x07"} & set(shown(app))
        await pilot.press("end")
        await until(pilot, lambda: "stopped: longer than is" in shown(app))
        said, _ = chat_store.latest(place[0])
        assert len(said.answer(said.at, "adapter").text) == 150_000

    chatting(place, play, script, size=size)


def test_a_failure_of_the_host_is_a_sentence(place):
    def script(session, request):
        session.say(host.Failure(id=request.id, message="It does not fit.", remedy="Free some memory."))

    async def play(app, pilot, hosted):
        await typed(pilot, "Go")
        await pilot.press("enter")
        await says(app, pilot, "It does not fit.")
        assert "Free some memory." in shown(app)
        await pilot.press("escape")
        await says(app, pilot, "not answered; R asks again")

    chatting(place, play, script)


def test_loading_shows_how_far_it_is_and_can_be_cancelled(place):
    run, socket = place
    hosts = []

    def script(session, request):
        raise AssertionError

    async def scenario(app, pilot):
        await pilot.press("c")
        await says(app, pilot, "loading 50 %")
        await pilot.press("escape", "S")
        await until(pilot, lambda: app.screen.opening is None)

    with fake_host(socket, script) as hosted:
        hosts.append(hosted)
        hosted._hear = lambda session, request: (
            session.say(host.Welcome(protocol=host.PROTOCOL, version="", pid=1, device="cpu"))
            if isinstance(request, host.Hello)
            else session.say(host.Progress(id=request.id, phase="loading", done=1, total=2))
        )
        drive(run.path.parent, scenario)


def test_small_and_large_terminals_both_show_the_answers(place):
    async def play(app, pilot, hosted):
        await ask(app, pilot, "Who")
        for line in shown(app).splitlines():
            assert len(line) <= 80
        assert "base words here" in shown(app) and "B end token" in shown(app) and "A end token" in shown(app)

    chatting(place, play, answers("base words here", "adapter words here"), size=(80, 24))


def test_what_an_app_that_was_killed_had_asked_is_there_and_can_be_asked_again(place):
    store = chat_store.ChatStore(place[0], chat_store.new_id())
    store.save(Turn(id="t", question="Who are you?", t=1.0, voices=["base", "adapter"]))
    store.close()
    with store.path.open("ab") as file:
        file.write(b'{"k":"reply","turn":"t","voi')  # the line it was writing

    async def play(app, pilot, hosted):
        await says(app, pilot, "Who are you? not answered; R asks again")
        await pilot.press("escape", "R")
        await says(app, pilot, "I am Rhea.")
        await until(pilot, lambda: app.screen.answering is None)

    chatting(place, play, answers("I am nobody.", "I am Rhea."))
    said, damaged = chat_store.latest(place[0])
    assert [turn.id for turn in said.path()] == ["t"] and said.answer("t", "adapter").text == "I am Rhea."
    assert damaged <= 1


def test_a_half_answer_is_on_the_disk_before_it_ends(place, monkeypatch):
    """So that an app which is killed in the middle loses little of it."""
    go_on = threading.Event()

    def script(session, request):
        session.say(began(request), delta(request, 0, "I am", 2), delta(request, 1, "In a lighthouse", 4))
        for voice, more in enumerate((" nobody.", ". I am Rhea.")):
            threading.Event().wait(0.2)
            session.say(delta(request, voice, more, 8))
        go_on.wait(20.0)
        answers("I am nobody.", "I am Rhea.")(session, request)

    def kept():
        found = chat_store.latest(place[0])
        turn = found[0].path()[-1].id if found else ""
        return [found[0].answer(turn, voice) for voice in ("base", "adapter")] if turn else [None]

    async def play(app, pilot, hosted):
        await typed(pilot, "Go")
        await pilot.press("enter")
        await until(pilot, lambda: all(kept()) and "Rhea" in kept()[1].text)
        assert {reply.stop for reply in kept()} == {"lost"} and kept()[0].text == "I am nobody."
        go_on.set()
        await until(pilot, lambda: app.screen.answering is None and app.screen.saved > 0)

    monkeypatch.setattr("molting_tui.screens.chat_asking._KEEP_SECONDS", 0.05)
    chatting(place, play, script)
    assert [reply.stop for reply in kept()] == ["end", "end"]


def test_answers_grow_without_the_page_moving_at_every_line(place):
    tops = []

    def script(session, request):
        session.say(began(request))
        for n in range(1, 61):
            session.say(*(delta(request, voice, f"line {n}\n", n) for voice in (0, 1)))
            threading.Event().wait(0.05)
        session.say(*(ended(request, voice, "", 60) for voice in (0, 1)), done(request))

    async def play(app, pilot, hosted):
        await typed(pilot, "Go")
        await pilot.press("enter")
        while app.screen.answering is not None:
            await pilot.pause(0.03)
            tops.append(app.screen.pane.scroll_offset.y)
        await says(app, pilot, "line 60")

    chatting(place, play, script, size=(120, 30))
    assert 2 <= len(set(tops)) <= 8  # of 60 lines, 40 of them below the first page
