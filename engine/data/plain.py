"""Rows without a chat template: a text, or a prompt and its completion, and the end token."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import msgspec
from tokenizers import Tokenizer

from engine.data.conversation import BadRow, Conversation, Turn
from engine.data.layout import open_prompt
from engine.data.rows import EncodedRow, labelled


class Plain(msgspec.Struct, frozen=True):
    """Plain text for one tokenizer: `bos` (none or one id) begins it, `end_id` ends it, `join` follows a prompt."""

    tokenizer: Tokenizer
    bos: list[int]
    end_id: int
    max_length: int
    join: str

    def encode(self, conversation: Conversation) -> EncodedRow:
        """A text is learned whole and loses its beginning when too long; of a completion the answer is learned, and
        the prompt loses its beginning. Raises BadRow when an answer alone is too long.
        """
        *before, answer = conversation.turns
        prompt = self.prompt(before)
        encoding = self.tokenizer.encode(prompt + answer.content, add_special_tokens=False)
        first = bisect_left([start for start, _ in encoding.offsets], len(open_prompt(prompt)))
        ids = self._begin(encoding.ids)
        first += len(ids) - len(encoding.ids)
        if first == 0 and ids[:1] == self.bos:
            first = 1  # a text that brings its own beginning
        if ids[-1:] != [self.end_id]:
            ids.append(self.end_id)
        excess = max(0, len(ids) - self.max_length)
        if excess:
            begin = len(ids) > 0 and ids[:1] == self.bos
            room = first - begin - 1 if prompt else excess  # a prompt keeps at least its last token
            if excess > room:
                raise BadRow(f"an answer longer than {self.max_length} tokens")
            del ids[begin : begin + excess]
            first = max(int(begin), first - excess)
        row = labelled(ids, [(int(ids[:1] == self.bos), first, "user"), (first, len(ids), "assistant")], added_end=True)
        row.lost_tokens = excess
        return row

    def prompt_ids(self, turns: Sequence[Turn]) -> list[int]:
        """The ids after which a completion begins."""
        return self._begin(self.tokenizer.encode(open_prompt(self.prompt(turns)), add_special_tokens=False).ids)

    def prompt(self, turns: Sequence[Turn]) -> str:
        """The text before a completion: a system prompt stands in a paragraph of its own."""
        return "".join(turn.content + ("\n\n" if turn.role == "system" else self.join) for turn in turns)

    def _begin(self, ids: list[int]) -> list[int]:
        return list(ids) if ids[:1] == self.bos else [*self.bos, *ids]
