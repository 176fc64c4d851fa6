"""A row made visible: which of its tokens are learned, which are not, and which do not fit."""

from __future__ import annotations

import copy
from collections import Counter
from itertools import pairwise

from engine.contract.calls import Finding
from engine.contract.rows import Piece, RowView
from engine.data.conversation import BadRow, Conversation
from engine.data.encode import EncodedRow, Encoder
from engine.data.rows import IGNORED

_PREVIEW = 300
_UNCUT = 1 << 30  # a limit that no row reaches
_SHOWN_TURN = 1 << 17  # characters of a turn that are sent to the screen


def preview(conversation: Conversation) -> tuple[str, str]:
    """The first question and the first answer to it, cut short."""
    asked = next((turn.content for turn in conversation.turns if turn.role == "user"), "")
    answer = next((turn.content for turn in conversation.turns if turn.role == "assistant"), "")
    return asked[:_PREVIEW], answer[:_PREVIEW]


def view_of(conversation: Conversation, encoder: Encoder | None) -> RowView:
    """A conversation with its tokens, as far as there is a tokenizer."""
    turns: list[tuple[str, str]] = [(turn.role, turn.content[:_SHOWN_TURN]) for turn in conversation.turns]
    if encoder is None:
        length = sum(len(turn.content) for turn in conversation.turns)
        return RowView(turns=turns, length=length, findings=problems("", conversation, None))
    full, kept, why = _encoded(conversation, encoder)
    findings = problems(why, conversation, encoder, kept)
    if full is None:
        return RowView(turns=turns, findings=findings)
    cut = _cut(full, kept)
    tokens: Counter[str] = Counter()
    for span in (kept or full).spans:
        tokens[span.role] += span.end - span.start
    return RowView(
        turns=turns,
        pieces=_pieces(full, cut, encoder),
        length=len((kept or full).input_ids),
        learned=kept.n_learned if kept else 0,
        lost=kept.lost_tokens if kept else len(full.input_ids),
        tokens=dict(tokens),
        findings=findings,
    )


def problems(
    why: str, conversation: Conversation | None, encoder: Encoder | None, kept: EncodedRow | None = None
) -> list[Finding]:
    """What is wrong with one row by itself; `why` it is dropped, if it is."""
    found = []
    if why:
        found.append(Finding(id="row-dropped", severity="error", message=f"This row is dropped: {why}."))
    if kept is not None and kept.lost_tokens:
        turns = f", {kept.truncated_turns} whole turns of them" if kept.truncated_turns else ""
        said = f"{kept.lost_tokens} tokens do not fit and are cut off{turns}."
        found.append(
            Finding(
                id="row-truncated", severity="warning", message=said, remedy="Raise data.max_length, or shorten it."
            )
        )
    for turn in conversation.turns if conversation else ():
        if turn.role == "user" and not turn.content.strip():
            found.append(Finding(id="row-empty-question", severity="warning", message="A question is empty."))
        if "Replace this row" in turn.content:
            said = "This row is the placeholder that `molting init` wrote."
            found.append(Finding(id="row-placeholder", severity="warning", message=said))
        for token in _special_in(turn.content, encoder):
            said = f"The {turn.role} turn holds {token!r}, which the tokenizer takes for a control token."
            found.append(
                Finding(id="row-special-token", severity="warning", message=said, remedy="Write it another way.")
            )
    roles = [turn.role for turn in conversation.turns if turn.role != "system"] if conversation else []
    if any(one == other for one, other in pairwise(roles)):
        said = "Two turns of the same side follow each other."
        found.append(Finding(id="row-roles", severity="warning", message=said))
    if conversation and conversation.kind == "chat" and roles and roles[-1] != "assistant":
        said = "The row ends with a question that is never answered."
        found.append(Finding(id="row-unanswered", severity="warning", message=said))
    return found


def _special_in(text: str, encoder: Encoder | None) -> list[str]:
    if encoder is None:
        return []
    tokens = encoder.tokenizer.get_added_tokens_decoder().values()
    return [token.content for token in tokens if token.special and len(token.content) > 2 and token.content in text]


def _encoded(conversation: Conversation, encoder: Encoder) -> tuple[EncodedRow | None, EncodedRow | None, str]:
    """(the row as if everything fitted, the row as it is trained on, why it is dropped)."""
    kept, why = _try(conversation, encoder)
    if kept is not None and not kept.lost_tokens:
        return kept, kept, ""
    boundless = copy.copy(encoder)  # a copy, for another thread may be encoding
    boundless.max_length = _UNCUT
    full, _ = _try(conversation, boundless)
    return full, kept, why


def _try(conversation: Conversation, encoder: Encoder) -> tuple[EncodedRow | None, str]:
    (row,) = encoder.encode_all([conversation])
    return (None, row.why) if isinstance(row, BadRow) else (row, "")


def _cut(full: EncodedRow, kept: EncodedRow | None) -> range:
    """The tokens of `full` that are not in `kept`: its oldest exchanges, or the beginning of its question."""
    if kept is None:
        return range(len(full.input_ids))
    lost = len(full.input_ids) - len(kept.input_ids)
    same = 0
    for one, other in zip(full.input_ids, kept.input_ids, strict=False):
        if one != other:
            break
        same += 1
    return range(min(same, len(kept.input_ids)), min(same, len(kept.input_ids)) + max(0, lost))


def _pieces(row: EncodedRow, cut: range, encoder: Encoder) -> list[Piece]:
    """Neighbouring tokens of one kind together, for one token alone may be half a character."""
    special = {i for i, token in encoder.tokenizer.get_added_tokens_decoder().items() if token.special}
    roles = [span.role for span in row.spans for _ in range(span.start, span.end)]
    pieces: list[Piece] = []
    begin = 0

    def kind(i: int) -> tuple[str, bool, bool, bool]:
        return roles[i], row.labels[i] != IGNORED and i not in cut, row.input_ids[i] in special, i in cut

    for i in range(1, len(roles) + 1):
        if i < len(roles) and kind(i) == kind(begin) and not kind(i)[2]:
            continue
        role, learned, is_special, is_cut = kind(begin)
        text = _text(row.input_ids[begin:i], begin, encoder)
        pieces.append(Piece(text=text, role=role, learned=learned, special=is_special, cut=is_cut))
        begin = i
    return pieces


def _text(ids: list[int], begin: int, encoder: Encoder) -> str:
    text = str(encoder.tokenizer.decode(ids, skip_special_tokens=False))
    first = encoder.tokenizer.id_to_token(ids[0]) or ""
    # SentencePiece tokenizers drop the space that a text begins with, and this one begins in the middle.
    return f" {text}" if begin and first.startswith("▁") and not text.startswith(" ") else text
