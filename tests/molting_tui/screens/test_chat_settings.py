"""How Chat asks, and what can be done with an answer: presets, parameters, voices, rows, why."""

from __future__ import annotations

import json
import threading

from engine.contract import sheets
from engine.contract.spec import Generation
from molting_tui.screens.chat import Chat
from tests.support.chat_host import answers, began, delta, done, ended
from tests.support.chat_screen import ask, chatting, says
from tests.support.pilot import settle, shown, typed, until


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


def test_parameters_that_are_only_looked_at_stay_to_the_last_digit(place):
    async def play(app, pilot, hosted):
        before = app.screen.options = Generation(temperature=0.123456789, seed=1_234_567_891, max_new_tokens=32_768)
        await pilot.press("escape", "O")
        await until(pilot, lambda: "repetition_penalty" in shown(app))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Chat))
        assert app.screen.options == before
        await pilot.press("P")
        await until(pilot, lambda: "technical agent" in shown(app))
        assert "T 0.9" in shown(app) and "rep 1.25" in shown(app)

    chatting(place, play, answers("a"))


def test_a_wrong_parameter_is_told_in_the_form(place):
    async def play(app, pilot, hosted):
        await pilot.press("escape", "O")
        await until(pilot, lambda: "repetition_penalty" in shown(app))
        await typed(pilot, "9")
        await pilot.press("enter")
        await says(app, pilot, "temperature cannot be '9'; expected a number")

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
