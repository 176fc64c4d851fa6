"""The one place that decides what is learned: a conversation becomes ids, labels and spans.

The rendered text is tokenized once, so the ids are those of `apply_chat_template`. Labels come from characters: in a
chat every answer, from where the generation prompt ends to the end of the token that ends the turn, and nothing else.
A token belongs to an answer if it begins inside it: the model could not write one that begins in the header.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tokenizers import Encoding, Tokenizer

from engine.contract.errors import MoltingError
from engine.data.conversation import BadRow, Conversation, Role, Turn
from engine.data.layout import Layout, jobs_for, lay_out, open_prompt
from engine.data.plain import Plain
from engine.data.rows import EncodedRow, Span, labelled
from engine.data.shape import shape_of
from engine.data.template import ChatTemplate
from engine.data.tokenizer import TokenizerFiles, whole

__all__ = ["EncodedRow", "Encoder", "Span"]
T = TypeVar("T")
MAX_TURNS = 1000
MAX_CHARS = 1 << 20  # a row this long loses all but a sliver anyway, and costs much time and memory to cut


class Encoder:
    """Conversations to rows, and prompts to ids, for one tokenizer and one chat template."""

    def __init__(
        self,
        tokenizer: Tokenizer | Any,
        template: ChatTemplate | None,
        *,
        eos_ids: Sequence[int],
        bos_id: int | None = None,
        max_length: int = 1024,
        system_prompt: str = "",
        join: str = "",
    ) -> None:
        """`tokenizer`: as `load_tokenizer` gives it, or a fast one of transformers. `template`: None for plain text.

        `eos_ids`: what ends generation, the end token of plain text first. `bos_id`: what plain text begins with.
        `max_length`: tokens of a row. `system_prompt`: for conversations that have none. `join`: stands between a
        prompt and its completion where there is no template.
        Raises MoltingError (bad_model) where nothing ends an answer, or the template is of no use.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self.tokenizer: Tokenizer = tokenizer if backend is None else whole(backend.to_str().encode())
        self.template = template
        self.max_length = max_length
        self.system_prompt = system_prompt
        self.join = join
        self.shape = shape_of(template, self.tokenizer) if template else None
        turn_end = self.tokenizer.token_to_id(self.shape.end) if self.shape and self.shape.end else None
        self.stop_ids: list[int] = list(dict.fromkeys([*([] if turn_end is None else [turn_end]), *eos_ids]))
        if not self.stop_ids:
            raise MoltingError(
                "The tokenizer names no end token and the chat template writes none: answers would never end.",
                remedy="Name eos_token in tokenizer_config.json, or give another chat template.",
                reason="bad_model",
            )
        self._bos = [] if bos_id is None else [bos_id]
        self._end_id = eos_ids[0] if eos_ids else self.stop_ids[0]  # the end of text, where no template says it

    @property
    def plain(self) -> Plain:
        """How rows without a template are encoded."""
        return Plain(self.tokenizer, self._bos, self._end_id, self.max_length, self.join)

    @classmethod
    def from_files(cls, files: TokenizerFiles, template: ChatTemplate | None, **options: Any) -> Encoder:
        """An encoder for a model folder's tokenizer; `options` as in the constructor."""
        return cls(files.tokenizer, template, eos_ids=files.eos_ids, bos_id=files.bos_id, **options)

    def encode(self, conversation: Conversation) -> EncodedRow:
        """One row. Raises BadRow when it cannot be used, MoltingError when no row of this kind can."""
        (row,) = self.encode_all([conversation])
        if isinstance(row, BadRow):
            raise row
        return row

    def encode_all(self, conversations: Sequence[Conversation]) -> list[EncodedRow | BadRow]:
        """Each row, or why it is none: one exchange with the template and one with the tokenizer for all."""
        results: dict[int, EncodedRow | BadRow] = {}
        chats: dict[int, list[Turn]] = {}
        for i, conversation in enumerate(conversations):
            if absurd := _absurd(conversation):
                results[i] = BadRow(absurd)
            elif self._is_chat(conversation):
                chats[i] = self._with_system(conversation.turns)
            elif conversation.kind == "text":
                results[i] = _or_bad_row(self.plain.encode, conversation)
            else:
                turns = self._with_system(conversation.turns)
                results[i] = _or_bad_row(self.plain.encode, Conversation(turns, "completion"))
        for i, row in zip(chats, self._encode_chats(list(chats.values())), strict=True):
            too_long = isinstance(row, EncodedRow) and len(row.input_ids) > self.max_length
            results[i] = _or_bad_row(self._shorten, chats[i], row) if too_long else row
        return [results[i] for i in range(len(conversations))]

    def prompt_ids(self, turns: Sequence[Turn], system: str | None = None) -> list[int]:
        """The ids after which the model answers the last of `turns`. `system`: instead of the encoder's own prompt.

        Raises BadRow when the template refuses these turns.
        """
        turns = self._with_system(turns, system)
        if self.template is None:
            return self.plain.prompt_ids(turns)
        text = open_prompt(self.template.render(self._native(turns), generation_prompt=True))
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def _is_chat(self, conversation: Conversation) -> bool:
        if conversation.kind == "chat" and self.template is None:
            raise MoltingError(
                "The rows are conversations, but the model has no chat template and the spec names none.",
                remedy='Name one, as in model.chat_template = "chatml", or give rows of plain text.',
                reason="bad_data",
            )
        return conversation.kind != "text" and self.template is not None

    def _with_system(self, turns: Sequence[Turn], system: str | None = None) -> list[Turn]:
        system = self.system_prompt if system is None else system
        own = bool(turns) and turns[0].role == "system"
        return [Turn("system", system), *turns] if system and not own else list(turns)

    def _native(self, turns: Sequence[Turn]) -> list[Turn]:
        """The turns as the template takes them: without a system role, its text opens the first user turn."""
        if self.shape is None or self.shape.takes_system or not turns or turns[0].role != "system":
            return list(turns)
        system, *rest = turns
        if not rest or rest[0].role != "user":
            raise BadRow("a system prompt without a user turn to stand in; the chat template has no system role")
        return [Turn("user", f"{system.content}\n\n{rest[0].content}"), *rest[1:]]

    def _encode_chats(self, chats: Sequence[Sequence[Turn]]) -> list[EncodedRow | BadRow]:
        if not chats:
            return []
        layouts = self._lay_out_all(chats)
        texts = [layout.text for layout in layouts if isinstance(layout, Layout)]
        encodings = iter(self.tokenizer.encode_batch(texts, add_special_tokens=False))
        return [
            layout if isinstance(layout, BadRow) else _or_bad_row(self._row, layout, next(encodings))
            for layout in layouts
        ]

    def _lay_out_all(self, chats: Sequence[Sequence[Turn]]) -> list[Layout | BadRow]:
        """One exchange with the template for all conversations."""
        assert self.template is not None and self.shape is not None
        native = [_or_bad_row(self._native, turns) for turns in chats]
        jobs = [[] if isinstance(turns, BadRow) else jobs_for(turns) for turns in native]
        answers = iter(self.template.render_all([job for listed in jobs for job in listed]))
        layouts: list[Layout | BadRow] = []
        for turns, listed in zip(native, jobs, strict=True):
            rendered = [next(answers) for _ in listed]
            layouts.append(
                turns if isinstance(turns, BadRow) else _or_bad_row(lay_out, turns, rendered, self.shape, self.template)
            )
        return layouts

    def _row(self, layout: Layout, encoding: Encoding) -> EncodedRow:
        ids = encoding.ids
        starts = [start for start, _ in encoding.offsets]
        pieces: list[tuple[int, int, Role]] = []
        for part in layout.ranges:
            first, last = bisect_left(starts, part.start), bisect_left(starts, part.end)
            pieces.append((first, last, part.role))
            ended = self.shape and self.shape.end and layout.text.endswith(self.shape.end, part.start, part.end)
            if part.role == "assistant" and ended and ids[last - 1] != self.stop_ids[0]:
                raise BadRow("the token that ends the answer runs together with its text")
        if layout.open_end:
            ids = [*ids, self._end_id]
            first, _, role = pieces[-1]
            pieces[-1] = (first, len(ids), role)
        return labelled(ids, pieces, added_end=layout.open_end)

    def _shorten(self, turns: Sequence[Turn], full: EncodedRow) -> EncodedRow:
        """The row without its oldest exchanges, then without the start of the user's text.

        Raises BadRow when the system prompt and the answer alone are too long.
        """
        system = list(turns[:1]) if turns[0].role == "system" else []
        exchanges = _exchanges(turns[len(system) :])

        def without(count: int) -> list[Turn]:
            return [*system, *(turn for exchange in exchanges[count:] for turn in exchange)]

        count = bisect_left(range(len(exchanges) - 1), True, key=lambda count: self._fits(without(count)))
        kept = without(count)
        if not self._fits(kept):
            kept = self._shorten_question(kept)
        (row,) = self._encode_chats([kept])
        if isinstance(row, BadRow):
            raise row
        row.truncated_turns = len(turns) - len(kept)
        row.lost_tokens = len(full.input_ids) - len(row.input_ids)
        return row

    def _shorten_question(self, turns: Sequence[Turn]) -> list[Turn]:
        at = next((i for i, turn in enumerate(turns) if turn.role == "user"), None)
        question = turns[at].content if at is not None else ""

        def cut(characters: int) -> list[Turn]:
            return [Turn("user", question[characters:]) if i == at else turn for i, turn in enumerate(turns)]

        characters = bisect_left(range(len(question)), True, key=lambda characters: self._fits(cut(characters)))
        if not question[characters:].strip():
            raise BadRow(f"longer than {self.max_length} tokens even without earlier turns and the question")
        return cut(characters)

    def _fits(self, turns: Sequence[Turn]) -> bool:
        (row,) = self._encode_chats([turns])
        return isinstance(row, EncodedRow) and len(row.input_ids) <= self.max_length


def _absurd(conversation: Conversation) -> str | None:
    """Why a conversation is beyond what is worth rendering."""
    if len(conversation.turns) > MAX_TURNS:
        return f"more than {MAX_TURNS} turns"
    if sum(len(turn.content) for turn in conversation.turns) > MAX_CHARS:
        return f"longer than {MAX_CHARS:,} characters"
    return None


def _exchanges(turns: Sequence[Turn]) -> list[list[Turn]]:
    """The turns in groups that each begin with a user turn, but for what stands before the first."""
    groups: list[list[Turn]] = []
    for turn in turns:
        if not groups or (turn.role == "user" and groups[-1][-1].role != "user"):
            groups.append([])
        groups[-1].append(turn)
    return groups


def _or_bad_row(function: Callable[..., T], *arguments: Any) -> T | BadRow:
    try:
        return function(*arguments)
    except BadRow as bad:
        return bad
