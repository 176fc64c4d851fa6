from __future__ import annotations

import threading

from engine.host.turns import Turns


def test_one_client_with_many_questions_does_not_keep_another_waiting():
    turns = Turns()
    for n in range(4):
        turns.add("greedy", f"g{n}")
    turns.add("modest", "m0")
    assert [turns.take() for _ in range(5)] == ["g0", "m0", "g1", "g2", "g3"]


def test_what_was_removed_is_not_taken():
    turns = Turns()
    turns.add("a", 1)
    turns.add("a", 2)
    assert turns.remove("a", 1) and not turns.remove("a", 1)
    assert turns.waiting() == turns.waiting("a") == 1 and turns.waiting("b") == 0
    assert turns.take() == 2


def test_take_waits_for_another_thread():
    turns = Turns()
    threading.Timer(0.05, turns.add, ("a", 7)).start()
    assert turns.take() == 7
