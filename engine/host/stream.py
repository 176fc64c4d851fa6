"""Text out of tokens while they come: whole characters only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_BROKEN = "\ufffd"  # what a decoder puts for bytes that are no character, or not yet
_WAITS = 16  # tokens after which broken bytes are taken as they are: no character is that long


class TextStream:
    """Decodes the tokens of one answer piece by piece; the pieces joined are the text of all of them.

    A tokenizer that writes a space before a word decodes that word differently at the start of a text, so each new
    token is decoded behind some that were written before it, whose text is then cut off.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._context = 0  # index of the first token that is decoded again
        self._written = 0  # index after the last token whose text is out

    def push(self, token: int) -> str:
        """The text that one more token completes; often a word, sometimes nothing yet."""
        self._ids.append(token)
        return self._take(patient=len(self._ids) - self._written < _WAITS)

    def finish(self) -> str:
        """What is left, broken characters included."""
        return self._take(patient=False)

    def _take(self, *, patient: bool) -> str:
        before = self._decode(self._ids[self._context : self._written])
        now = self._decode(self._ids[self._context :])
        if len(now) <= len(before) or (patient and now.endswith(_BROKEN)):
            return ""
        self._context, self._written = self._written, len(self._ids)
        return now[len(before) :]
