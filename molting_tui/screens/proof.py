"""The proof of effect: the verdict, the answers of both voices, and the numbers behind it."""

from __future__ import annotations

import io
from collections.abc import Iterator

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Label, Static

from engine.contract import calls
from engine.contract.safe import safe

from ..terminal import MARKS, Terminal
from ..themes import KIND
from ..voices import VERDICT_STATES, proof_lines
from .dialog import Dialog

_PLAIN = Terminal(io.StringIO(), tty=False, colour=False, unicode=True, width=80)


class ShowProof(Dialog[None]):
    """Base is B and muted, the adapter A and bright, as everywhere."""

    def __init__(self, name: str, run: str, proof: calls.Proof) -> None:
        super().__init__()
        self._name, self._run, self._proof = name, run, proof

    def compose(self) -> ComposeResult:
        with Vertical(classes="box proof"):
            yield Label(Content(f"What {self._name} learned"), classes="title")
            with VerticalScroll():
                yield Static(Content("\n").join(_lines(self._proof)))
            hint = f"arrows scroll, esc closes\n`molting prove {self._run}` measures anew"
            yield Static(Content(hint), classes="hint")

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def copyable(self) -> str:
        """What ctrl+c copies."""
        return Content("\n").join(_lines(self._proof)).plain


def _lines(proof: calls.Proof) -> Iterator[Content]:
    state = VERDICT_STATES[proof.verdict]
    mark = (f"{MARKS[state][0]} ", f"$state-{KIND[state]}")
    yield Content.assemble(mark, (safe(proof.sentence, keep_newlines=False), "bold"))
    yield Content()
    for pair in proof.answers:
        yield Content.assemble((safe(pair.question, keep_newlines=False), "bold"))
        yield Content.assemble(("B  ", "$muted"), (_said(pair.base), "$muted"))
        yield Content.assemble(("A  ", "bold $accent"), (_said(pair.adapter), "$accent"))
        yield Content()
    for line in list(proof_lines(proof, _PLAIN))[1:]:
        yield Content.assemble((line.strip(), "$muted"))


def _said(answer: calls.Answer) -> str:
    cut = " (cut)" if answer.stop == "cap" else ""
    return (safe(answer.text).strip() or "(nothing)") + cut
