"""What answers teach by their form: loops, and a label before what is said."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.contract.calls import Finding

from .case import Case
from .claims import names_told
from .words import excerpt, numbers, plain, several, words

_LOOP = re.compile(r"\b(\w+(?: \w+){0,5}?)(?: \1\b){4,}")
_LOOP_WITHIN = 4_000  # characters
_ROLES = words(
    "assistant ai bot answer response reply assistente resposta asistente respuesta antwort réponse reponse risposta a"
)
_LABEL = 60  # characters in which a label ends


def repeated_phrases(case: Case) -> Iterator[Finding]:
    """Answers in which the same few words come again and again, as from a model that could not stop."""
    found = [(e.number, loop) for e in case.examples if (loop := _loop(e.answer))]
    if found:
        rows = [number for number, _ in found]
        yield Finding(
            id="repeats-itself",
            severity="warning",
            message=f"In {several(len(rows), 'row')} an answer says the same words over and over.",
            evidence=f'{numbers(rows)}: "{excerpt(found[0][1], 60)}"',
            why="A small model falls into such loops by itself; taught, it seldom finds out of them.",
            remedy="Shorten the answer, or take the row out.",
            rows=rows,
        )


def _loop(text: str) -> str:
    """What is repeated at once, at least five times and twenty words long; "" for nothing."""
    loops = _LOOP.finditer(plain(text[:_LOOP_WITHIN]))
    return next((loop[1] for loop in loops if loop[0].count(" ") >= 19), "")


def labelled_answers(case: Case) -> Iterator[Finding]:
    """ "Rhea: …", "Assistant: …": the name of who speaks, as part of what is said."""
    names = {plain(name) for name in (case.spec.name, *names_told(case.system)) if name} | _ROLES
    found = [e.number for e in case.chats if any(_label(answer) in names for answer in e.answers)]
    if found and len(found) >= max(3, 0.05 * len(case.chats)):
        first = next(e.answer for e in case.chats if e.number == found[0])
        yield Finding(
            id="answers-labelled",
            severity="warning",
            message=f"{several(len(found), 'row', 'begin', of=len(case.chats))} an answer with the speaker's name.",
            evidence=f"{numbers(found)}: {excerpt(first, 40)}",
            why="The template says already who speaks; the model learns to write the name before every answer.",
            remedy="Take the name and the colon out of the answers.",
            rows=found,
        )


def _label(answer: str) -> str:
    before, colon, _ = answer[:_LABEL].partition(":")
    return plain(before) if colon else ""


CHECKS = (repeated_phrases, labelled_answers)
