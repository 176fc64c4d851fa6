"""The Chat screen on a scripted host: what a user sees and does."""

from __future__ import annotations

import json
import threading

import pytest

from engine.contract import calls, host, sheets
from molting_tui.screens.chat import Chat
from molting_tui.services import chat_store
from molting_tui.services import host as service
from molting_tui.state.chat import Turn
from tests.support.chat_host import answers, began, delta, done, ended, fake_host
from tests.support.pilot import drive, settle, shown, typed, until
from tests.support.runs import Recorded, make_run


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A finished run; the engine that says where the host is, and starts it, is the test."""
    folder = tmp_path / "runs"
    folder.mkdir()
    run = make_run(folder, "rhea")
    Recorded(run).state("queued", "starting").start().state("training", "finished")
    socket = tmp_path / "host.sock"
    found = calls.HostPlace(path=str(socket), pid=1, device="cpu")
    monkeypatch.setattr(service.engine, "call", lambda *args: found)
    return run, socket


def chatting(place, play, script, **how):
    """Open Chat on the run and play; the app afterwards."""
    run, socket = place

    async def scenario(app, pilot):
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, Chat) and app.screen.opened is not None)
        await settle(app, pilot)
        await play(app, pilot, hosted)

    with fake_host(socket, script) as hosted:
        return drive(run.path.parent, scenario, **how)


async def ask(app, pilot, text="Who are you?"):
    await typed(pilot, text.replace("?", ""))
    await pilot.press("enter")
    await until(pilot, lambda: app.screen.answering is None and app.screen.saved > 0)
    await settle(app, pilot)


async def says(app, pilot, text):
    await until(pilot, lambda: text in " ".join(shown(app).split()))


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
        assert "half an" in shown(app) and "cut off: the host ended" in shown(app)
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


def test_identical_answers_prove_little_and_words_are_compared(place):
    async def play(app, pilot, hosted):
        await ask(app, pilot, "Same")
        await says(app, pilot, "identical, token for token. This proves nothing against the adapter")
        assert "W finds out why" in " ".join(shown(app).split())
        hosted.script = answers("I am a lamp", "I am Rhea a lamp")
        await pilot.press("enter")
        await ask(app, pilot, "Differs")
        await pilot.press("escape", "equals_sign")
        await says(app, pilot, "I am {+Rhea+} a lamp")

    chatting(place, play, answers("the same", differs=None, kl=0.02))


def test_presets_parameters_and_the_system_prompt_are_sent_and_shown(place):
    async def play(app, pilot, hosted):
        await pilot.press("escape", "P", "down", "down", "enter")
        await says(app, pilot, "preset creative · T 0.9 · top_p 0.95")
        await pilot.press("O")
        await until(pilot, lambda: "repetition_penalty" in shown(app))
        await pilot.press("tab", "tab", "tab", "tab", "tab", "4", "2", "enter")
        await says(app, pilot, "preset own")
        await pilot.press("Y")
        await until(pilot, lambda: "As in training" in shown(app))
        await typed(pilot, "X")
        await pilot.press("enter")
        await says(app, pilot, "system ≠ training")
        await pilot.press("enter")
        await ask(app, pilot, "Go")
        (sent,) = hosted.asked
        assert (sent.options.temperature, sent.options.top_p, sent.options.seed) == (0.9, 0.95, 42)
        assert sent.voices[0].system == sent.voices[1].system == "XYou are Rhea."

    chatting(place, play, answers("a", "b"))


def test_a_wrong_parameter_is_told_in_the_form(place):
    async def play(app, pilot, hosted):
        await pilot.press("escape", "O")
        await until(pilot, lambda: "repetition_penalty" in shown(app))
        await typed(pilot, "9")
        await pilot.press("enter")
        await says(app, pilot, "temperature cannot be '9'")

    chatting(place, play, answers("a"))


def test_a_good_answer_becomes_a_row_a_sheet_and_a_page(place, tmp_path):
    async def play(app, pilot, hosted):
        await ask(app, pilot, "Who")
        await pilot.press("escape", "A")
        await until(pilot, lambda: "Append this answer" in shown(app))
        await pilot.press("enter")
        await until(pilot, lambda: (place[0].path / "kept-rows.jsonl").exists())
        await pilot.press("G")
        await until(pilot, lambda: sheets.listed(place[0]))
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "Export the conversation" in shown(app))
        await pilot.press("enter")
        await until(pilot, lambda: list(place[0].conversations.glob("*.md")))

    chatting(place, play, answers("I am nobody.", "I am Rhea."))
    row = json.loads((place[0].path / "kept-rows.jsonl").read_text())
    assert row["messages"] == [
        {"role": "system", "content": "You are Rhea."},
        {"role": "user", "content": "Who"},
        {"role": "assistant", "content": "I am Rhea."},
    ]
    assert row["origin"]["run"] == place[0].id and row["origin"]["parameters"]["temperature"] == 0.0
    (sheet,), problems = sheets.readable(place[0])
    assert not problems and [item.answer for item in sheet.items] == ["I am nobody.", "I am Rhea."]
    (page,) = place[0].conversations.glob("*.md")
    assert "**adapter** · end token · 3 tok" in page.read_text() and ">     I am Rhea." in page.read_text()


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


def test_two_passes_and_a_third_voice_are_said(place):
    def script(session, request):
        session.say(began(request, "two-pass", "The voices are different models in memory."))
        threading.Event().wait(0.3)
        for voice in range(len(request.voices)):
            said = f"voice {voice}"
            session.say(delta(request, voice, said, 2), ended(request, voice, said, 2))
        session.say(done(request))

    async def play(app, pilot, hosted):
        await pilot.press("escape", "b", "down", "enter")
        await until(pilot, lambda: len(hosted.opened) == 2)
        await pilot.press("enter")
        await typed(pilot, "Go")
        await pilot.press("enter")
        await says(app, pilot, "Two passes. The voices are different models in memory.")
        await says(app, pilot, "voice 2")
        assert [voice.source.kind for voice in hosted.asked[0].voices] == ["base", "adapter", "merged"]
        assert "M merged" in " ".join(shown(app).split()) and "M end token" in shown(app)

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


def test_what_would_hide_the_answer_that_comes_is_not_offered(place):
    go_on = threading.Event()

    def script(session, request):
        session.say(began(request), delta(request, 0, "half", 1), delta(request, 1, "half", 1))
        go_on.wait(10)
        session.say(ended(request, 0, "half", 1), ended(request, 1, "half", 1), done(request, differs=None))

    async def play(app, pilot, hosted):
        await typed(pilot, "Go")
        await pilot.press("enter")
        await says(app, pilot, "half")
        await pilot.press("escape", "n", "b", "slash")
        await settle(app, pilot)
        assert isinstance(app.screen, Chat) and "half" in shown(app) and len(app.screen.pane.conversation.turns) == 1
        go_on.set()
        await until(pilot, lambda: app.screen.answering is None)
        await pilot.press("n")
        await says(app, pilot, "Nothing asked yet.")

    chatting(place, play, script)


def test_why_asks_exactly_as_the_chat_does(place, monkeypatch):
    asked = []

    async def play(app, pilot, hosted):
        await ask(app, pilot, "Same")
        monkeypatch.setattr(app.screen, "wait_for", lambda title, do: do_it(do))
        await pilot.press("escape", "P", "down", "down", "enter")
        await until(pilot, lambda: app.screen.options.temperature == 0.9)
        await pilot.press("W")
        await until(pilot, lambda: asked)

    async def do_it(do):
        class Task:
            def call(self, verb, request, kind):
                asked.append((verb, request))

        return do(Task())

    chatting(place, play, answers("the same", differs=None, kl=0.02))
    verb, request = asked[0]
    assert (verb, request.run, request.temperature, request.top_p) == ("why", str(place[0].path), 0.9, 0.95)
