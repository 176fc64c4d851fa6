"""Base and adapter beside each other, and the proof of effect, as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from engine.contract import calls
from engine.contract.safe import safe

from . import text
from .terminal import Terminal, one_line

VERDICT_STATES = {"effective": "finished", "too_weak": "interrupted", "not_applied": "failed"}


def pair_lines(pair: calls.Pair, shown: Terminal) -> Iterator[str]:
    """One question with both answers: base left, adapter right."""
    width = text.column_width(shown.width)
    yield shown.paint("title", one_line(pair.question))
    left, right = _voice("B base", pair.base, width), _voice("A adapter", pair.adapter, width)
    rule = "│" if shown.unicode else "|"
    for line in text.columns(left, right, shown.width, rule):
        base, divider, adapter = line.partition(f" {rule} ")
        yield shown.paint("base", base) + divider + shown.paint("adapter", adapter)
    where = pair.first_difference
    yield shown.paint("dim", "the same, token for token" if where is None else f"differs from token {where + 1} on")
    yield ""


def _voice(label: str, answer: calls.Answer, width: int) -> list[str]:
    how = "cut" if answer.stop == "cap" else "ended by itself"
    said = safe(answer.text).expandtabs(4).strip() or "(nothing)"
    return [label, *text.wrap(said, width), f"({how}, {text.plural(answer.tokens, 'token')})"]


def proof_lines(proof: calls.Proof, shown: Terminal) -> Iterator[str]:
    """The verdict in words, which has the numbers, then what was found out about the weights."""
    state = VERDICT_STATES[proof.verdict]
    yield f"{shown.paint(state, shown.mark(state))} {one_line(proof.sentence)}"
    yield f"  {proof.nonzero_b} of {proof.total_b} B matrices are not zero, " + _keys(proof)
    if proof.heldout_loss.base is None:
        yield "  no held-out rows, so no held-out loss"
    for warning in proof.warnings:
        yield f"  {shown.paint('warning', 'warning')} {one_line(warning)}"


def _keys(proof: calls.Proof) -> str:
    if not proof.missing_keys and not proof.unexpected_keys:
        return "all keys match" + ("" if proof.active else ", but the adapter is not active")
    return f"{proof.missing_keys} keys missing, {proof.unexpected_keys} unexpected"
