"""Drafts of override rows: who a model is to say it is, from a list of questions and a persona's card."""

from __future__ import annotations

from typing import Literal

import msgspec


class DraftRequest(msgspec.Struct, kw_only=True):
    """Verb `draft`: rows for `questions`, a file, into the new file `to`.

    `persona` is a folder with facts.toml or system.txt; `card` one such file instead. With `run` its trained voice
    writes a second draft of each answer.
    """

    questions: str
    to: str
    models: str
    persona: str = ""
    card: str = ""
    run: str = ""


class Drafted(msgspec.Struct, kw_only=True):
    """What became of one question. `by` is "template", "model" or "nobody": then the answer is left to be written."""

    question: str
    by: Literal["template", "model", "nobody"]


class Drafts(msgspec.Struct, kw_only=True):
    """Result of `draft`. `refused` are the questions that judge the persona, with what they are."""

    path: str
    rows: int
    drafted: list[Drafted]
    refused: dict[str, str] = {}
    notes: list[str] = []
