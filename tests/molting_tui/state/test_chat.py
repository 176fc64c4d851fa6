"""The tree of a conversation, answers while they come, and the difference word by word."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from engine.contract import host, presets
from engine.contract.spec import Generation
from molting_tui.state import chat
from molting_tui.state.chat import At, Conversation, Reply, Turn
from molting_tui.state.chat_answer import Answering
from molting_tui.state.chat_lines import Said, Shown, answer_lines, badge, wrap_parts
from molting_tui.state.chat_voices import BASE, adapter
from molting_tui.state.word_diff import word_diff

IDS = st.sampled_from("abcdefgh")
RECORDS = st.lists(
    st.one_of(
        st.builds(Turn, id=IDS, question=st.text(min_size=1, max_size=5), t=st.just(0.0),
                  parent=st.one_of(st.just(""), IDS)),
        st.builds(Reply, turn=IDS, voice=st.sampled_from(["base", "adapter"]), text=st.text(max_size=5),
                  stop=st.sampled_from(["end", "lost"])),
        st.builds(At, turn=IDS),
    ),
    max_size=40,
)  # fmt: skip


@given(RECORDS, st.booleans(), st.sampled_from(["base", "adapter", "merged"]))
def test_any_records_make_a_tree_that_can_be_walked_and_asked(records, shared, voice):
    tree = Conversation("x")
    for record in records:
        tree.take(chat.decoder.decode(chat.encode(record)))
    for end in tree.turns:
        path = [turn.id for turn in tree.path(end)]
        assert len(path) == len(set(path)) and path[-1] == end  # no circle
        assert end in [turn.id for turn in tree.path(tree.leaf(end))]
        row = tree.siblings(end)
        for by in (-1, 1):
            leaf = tree.beside(end, by)
            assert (leaf is not None) == (0 <= row.index(end) + by < len(row))
            if leaf is not None:
                neighbour = tree.path(leaf)[len(path) - 1].id
                back = tree.beside(neighbour, -by)
                assert end in [turn.id for turn in tree.path(back)]
    roles = [message.role for message in tree.messages(tree.at, "now", voice, shared=shared)]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


def test_a_voice_that_did_not_answer_is_told_what_the_adapter_said():
    tree = Conversation("x")
    tree.take(Turn(id="1", question="q", t=0.0))
    tree.take(Reply(turn="1", voice="base", text="b", stop="end"))
    tree.take(Reply(turn="1", voice="adapter", text="a", stop="end"))
    assert tree.messages("1", "n", "merged", shared=False)[1].content == "a"
    assert tree.messages("1", "n", "base", shared=False)[1].content == "b"
    assert tree.messages("1", "n", "base", shared=True)[1].content == "a"


@given(st.text("ab \n", max_size=60), st.text("ab \n", max_size=60))
def test_the_difference_loses_no_letter_and_marks_only_what_differs(one, other):
    lefts, rights = word_diff(one, other)
    assert "".join(said for said, _ in lefts) == one and "".join(said for said, _ in rights) == other
    same = [" ".join(said for said, differs in parts if not differs).split() for parts in (lefts, rights)]
    assert same[0] == same[1]
    if one == other:
        assert not any(differs for _, differs in lefts + rights)


@given(st.lists(st.tuples(st.text(max_size=40), st.sampled_from(["dim", "answer"])), max_size=5), st.integers(4, 30))
def test_wrapped_parts_fit_and_keep_every_word(parts, width):
    parts = [(said.replace("\t", " "), role) for said, role in parts]
    lines = wrap_parts(parts, width)
    assert all(sum(cell_len(said) for said, _ in line) <= width for line in lines)
    joined = "".join(said for line in lines for said, _ in line)
    assert joined.replace(" ", "") == "".join(said for said, _ in parts).replace("\n", "").replace(" ", "")


def test_an_answer_that_breaks_off_keeps_what_was_said():
    answering = Answering(Turn(id="1", question="q", t=0.0, voices=["base", "adapter"]), 0.0)
    for reply in (
        host.Began(id="1", mode="batched", why="", prompt_tokens=[1, 1], options=Generation()),
        host.Delta(id="1", voice=0, text="half", ids=[1], tokens=1),
        host.Delta(id="1", voice=7, text="nobody", ids=[1], tokens=1),
    ):
        answering.hear(reply, 1.0)
    answering.lost = True
    (only,) = answering.replies()
    assert (only.voice, only.text, only.stop) == ("base", "half", "lost")


def test_an_answer_longer_than_is_kept_is_cut_and_fits_a_line():
    answering = Answering(Turn(id="1", question="q", t=0.0, voices=["base"]), 0.0)
    answering.hear(host.Delta(id="1", voice=0, text="\x00" * 1_000_000, ids=[1], tokens=1), 0.0)
    (reply,) = answering.replies()
    assert answering.too_long and reply.cut and len(reply.text) == chat.KEPT
    assert len(msgspec.json.encode(reply)) < 1 << 20


def test_the_badge_never_claims_more_than_was_seen():
    base = Reply(turn="1", voice="base", text="x", stop="end")
    same = Reply(turn="1", voice="adapter", text="x", stop="end", compared=True, kl=0.02)
    assert "proves nothing against the adapter" in badge([base, same], "W")[0]
    idle = msgspec.structs.replace(same, kl=0.0)
    assert "does not prove that the adapter does nothing" in badge([base, idle], "W")[0]
    assert badge([base, msgspec.structs.replace(same, compared=False)], "W") == []
    other = msgspec.structs.replace(same, differs=3)
    assert badge([base, other], "W") == ["differs from token 4 on · KL of the first token 0.02"]


def test_answers_stand_beside_each_other_only_where_there_is_room():
    said = [Said(BASE, "one two", "end"), Said(adapter("rhea"), "three", "end")]
    wide = ["".join(part for part, _ in line) for line in answer_lines(said, Shown(78))]
    assert "one two" in wide[0] and "three" in wide[0]
    narrow = ["".join(part for part, _ in line) for line in answer_lines(said, Shown(60))]
    assert narrow == ["one two", "B end", "three", "A end"]


def test_presets_are_the_runs_own_the_shipped_and_the_users():
    trained = Generation(max_new_tokens=40, temperature=0.5)
    mine = {"mine": presets.Preset(top_k=5)}
    known = presets.every(mine)
    assert known["creative"].over(trained) == Generation(max_new_tokens=40, temperature=0.9, top_p=0.95)
    assert known["mine"].over(trained) == Generation(max_new_tokens=40, temperature=0.5, top_k=5)
    assert presets.name_of(trained, trained, mine) == presets.AS_TRAINED
    assert presets.name_of(known["mine"].over(trained), trained, mine) == "mine"
    assert presets.name_of(Generation(seed=9), trained, mine) == "own"


def test_what_stands_below_an_answer_is_never_cut_off():
    state = "stopped by you · 73 tok · 3.01 tok/s · first after 1.9 s"
    said = [Said(BASE, "one", state), Said(adapter("rhea"), "two", "")]
    lines = ["".join(part for part, _ in line) for line in answer_lines(said, Shown(78))]
    left = " ".join(line.split("│")[0].strip() for line in lines)
    assert left == f"one B {state}" and [line.split("│")[1].strip() for line in lines][1:] == [""] * (len(lines) - 1)


def test_a_changed_prompt_is_marked_even_where_there_is_little_room():
    from molting_tui.state.chat_head import status_line

    said = status_line(
        width=80, preset="technical agent", options=Generation(temperature=0.2, top_p=0.7, repetition_penalty=1.25),
        system="You are nobody.", trained="You are Rhea.", shared=True, saved=3, loading=None, stopping=False,
        branch=False, trouble=None,
    )  # fmt: skip
    assert "system ≠ training · all are told A's answers · preset technical agent" in said.plain
    assert cell_len(said.plain) <= 80
