"""Asking a chat template how it writes a question and an answer."""

from __future__ import annotations

from tokenizers import Tokenizer

from engine.contract.errors import MoltingError
from engine.data.conversation import BadRow, Turn
from engine.data.layout import Shape, mark_turns, marker, split_marked
from engine.data.template import ChatTemplate

_SYSTEM, _USER, _ASSISTANT = Turn("system", "s"), Turn("user", "u"), Turn("assistant", "a")


def shape_of(template: ChatTemplate, tokenizer: Tokenizer) -> Shape:
    """The shape of `template`. Raises MoltingError (bad_model) if it cannot write a plain question and answer."""
    full, pair = mark_turns([_SYSTEM, _USER, _ASSISTANT]), mark_turns([_USER, _ASSISTANT])
    with_system, plain, prompt, asked = template.render_all(
        [(full, False), (pair, False), (pair[:1], True), (pair[:1], False)]
    )
    if isinstance(plain, BadRow):
        raise _unusable(f"is {plain.why}")
    mark = marker([])
    around = split_marked(plain, mark)
    if around.order != [0, 1]:
        raise _unusable("leaves out what the user or the assistant says")
    tail = around.literals[-1]
    system = split_marked(with_system, mark) if isinstance(with_system, str) else None
    takes_system = system is not None and sorted(system.order) == [0, 1, 2]
    header = _added(asked, prompt) if isinstance(prompt, str) and isinstance(asked, str) else ""
    default = ""
    if takes_system and system is not None and system.order[0] == 0:
        before, after = system.literals[0], system.literals[1]
        if around.literals[0].startswith(before) and around.literals[0].endswith(after):
            default = around.literals[0][len(before) : -len(after) or None]
    return Shape(header, tail, _end_token(tail, tokenizer), takes_system, default)


def _added(without: str, text: str) -> str:
    """What `text` has after the beginning that it shares with `without`."""
    shared = next((i for i, (a, b) in enumerate(zip(without, text, strict=False)) if a != b), len(without))
    return text[shared:]


def _end_token(tail: str, tokenizer: Tokenizer) -> str | None:
    """The added token with which what follows an answer begins, the longest where several do."""
    following = tail.lstrip()
    added = (token.content for token in tokenizer.get_added_tokens_decoder().values())
    return max((text for text in added if text and following.startswith(text)), key=len, default=None)


def _unusable(what: str) -> MoltingError:
    return MoltingError(
        f"The chat template cannot be used for a question and its answer: it {what}.",
        remedy='Give another one, as in chat_template = "chatml".',
        reason="bad_model",
    )
