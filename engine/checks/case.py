"""What the checks look at: a run before it starts, as plain values. Every check is a pure function over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from engine.contract.calls import Change, Finding, Plan
from engine.contract.events import Funnel
from engine.contract.spec import Spec
from engine.data.conversation import Turn
from engine.data.rows import EncodedRow


@dataclass(frozen=True)
class Example:
    """A row as a conversation. `number` counts the rows of its file from 1."""

    number: int
    turns: tuple[Turn, ...]
    kind: str = "chat"

    @cached_property
    def question(self) -> str:
        """The first thing a user says; "" in plain text."""
        return next((turn.content for turn in self.turns if turn.role == "user"), "")

    @cached_property
    def answers(self) -> list[str]:
        return [turn.content for turn in self.turns if turn.role == "assistant"]

    @cached_property
    def answer(self) -> str:
        """All that is learned, as one text."""
        return "\n".join(self.answers)

    @cached_property
    def system(self) -> str:
        return self.turns[0].content if self.turns and self.turns[0].role == "system" else ""


@dataclass(frozen=True)
class Tokens:
    """What tokenizer, chat template and model say about special tokens; `pieces` counts a text's tokens.

    `own_template` is the model's, `template` the one used (None: plain text), `written` what the template writes
    around a question and its answer, `end_text` what it writes right after an answer, `end` the token in it.
    """

    names: dict[str, str] = field(default_factory=dict)  # bos_token, eos_token, pad_token, …
    known: frozenset[str] = frozenset()  # added tokens of the vocabulary
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    eos_texts: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    template: str | None = None
    own_template: str | None = None
    written: str = ""
    end_text: str = ""
    end: str | None = None
    default_system: str = ""
    takes_system: bool = True


@dataclass(frozen=True)
class Facts:
    """A persona's table of facts: what is true, and what must never be said."""

    true: dict[str, str] = field(default_factory=dict)  # key -> value, several joined by "; "
    listed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    forbidden: tuple[str, ...] = ()
    file: str = ""


@dataclass(frozen=True)
class Questions:
    """Questions that are asked to judge the persona; `given` where the spec names them."""

    source: str
    texts: tuple[str, ...]
    given: bool = True


@dataclass(frozen=True)
class Case:
    """What is known of a run before it starts. Lengths in tokens, sizes in bytes, texts as in the rows.

    `kept` belong to `rows`, one to one; `examples` are all of the file, the held-out share and the rows that do not
    fit data.max_length too, of which `too_long` holds (row, tokens). Of a huge file it is a sample of `sampled` rows.
    """

    spec: Spec
    plan: Plan | None
    funnel: Funnel
    rows: Sequence[EncodedRow] = ()
    kept: Sequence[Example] = ()
    examples: Sequence[Example] = ()
    heldout: Sequence[EncodedRow] = ()
    heldout_examples: Sequence[Example] = ()
    dropped: dict[str, list[int]] = field(default_factory=dict)  # reason -> row numbers
    too_long: Sequence[tuple[int, int]] = ()
    tokens: Tokens = field(default_factory=Tokens)
    facts: Facts = field(default_factory=Facts)
    judged: Facts = field(default_factory=Facts)  # what the persona's rubric holds for true
    asked: Sequence[Questions] = ()  # probes and rubrics
    modules: frozenset[str] = frozenset()  # full names of the model's layers; none where it has no weights here
    window: int = 0  # the model's own, 0 where it is not known
    unstretchable: str = ""  # why the model's positions cannot be stretched
    parameters: int = 0
    packed: bool = True
    placeholders: int = 0  # rows that are still the examples of `molting init`
    sampled: int = 0  # 0: all rows of the file were looked at
    estimated_rows: int = 0  # of a stream, from its size
    weights: int = 0  # bytes as they are loaded, without what training adds
    disk_free: int = 1 << 62

    @cached_property
    def system(self) -> str:
        return self.spec.data.system.strip()

    @cached_property
    def chats(self) -> list[Example]:
        """Rows in which somebody asks."""
        return [example for example in self.examples if example.kind != "text"]

    @cached_property
    def texts(self) -> list[Example]:
        """Rows of plain text."""
        return [example for example in self.examples if example.kind == "text"]


Check = Callable[[Case], Iterator[Finding]]


def change(key: str, value: object) -> list[Change]:
    """The fix that gives one key of the spec another value."""
    return [Change(key=key, value=value)]
