"""Where in a rendered conversation each turn lies: characters, no tokens.

The template is asked three kinds of questions. The conversation itself gives the text. The same conversation with
a marker in place of every content gives what the template writes around the contents. The turns before each answer,
with the generation prompt, give the text after which the model will have to begin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from engine.data.conversation import BadRow, Role, Turn
from engine.data.template import ChatTemplate, Job

_LOST = "the chat template changes an answer so that it cannot be found in the text"


class Range(msgspec.Struct, frozen=True):
    """Characters [start, end) of the text are what `role` says; in an answer, with its end token."""

    start: int
    end: int
    role: Role


class Layout(msgspec.Struct, frozen=True):
    """A rendered conversation. `open_end`: no token ends the last answer, so the text stops right after it."""

    text: str
    ranges: list[Range]
    open_end: bool = False


class Marked(msgspec.Struct, frozen=True):
    """What a template writes around contents: `literals[0]`, content of turn `order[0]`, `literals[1]`, …"""

    literals: list[str]
    order: list[int]


class Shape(msgspec.Struct, frozen=True):
    """What a template does around a question and an answer, learned once by asking it.

    `header` is what the generation prompt adds, `tail` what follows the last answer, `end` the special token in the
    tail that ends the turn. `takes_system` is False where a system turn is refused or left out. `default_system` is
    the system prompt that the template writes by itself where there is none.
    """

    header: str
    tail: str
    end: str | None
    takes_system: bool
    default_system: str

    def end_length(self, following: str) -> int:
        """Characters up to the end of the end token with which `following`, blanks apart, begins; 0 for none."""
        blank = len(following) - len(following.lstrip())
        return blank + len(self.end) if self.end and following.startswith(self.end, blank) else 0


def jobs_for(turns: Sequence[Turn]) -> list[Job]:
    """The renderings that `lay_out` needs, in its order."""
    answers = [i for i, turn in enumerate(turns) if turn.role == "assistant"]
    return [(turns, False), (mark_turns(turns), False), *((turns[:i], True) for i in answers)]


def mark_turns(turns: Sequence[Turn]) -> list[Turn]:
    """The same turns with a marker for each content, which no content holds and no template trims."""
    mark = marker(turns)
    return [Turn(turn.role, f"{mark}{i}{mark}") for i, turn in enumerate(turns)]


def marker(turns: Sequence[Turn]) -> str:
    """A private-use character that occurs in none of the contents."""
    for code in range(0xE000, 0xF8FF):
        if not any(chr(code) in turn.content for turn in turns):
            return chr(code)
    raise BadRow("it uses every private-use character of Unicode")


def split_marked(text: str, mark: str) -> Marked:
    """Take a rendering of marked turns apart."""
    pieces = re.split(f"{mark}([0-9]+){mark}", text)
    return Marked(pieces[::2], [int(index) for index in pieces[1::2]])


def lay_out(turns: Sequence[Turn], rendered: Sequence[str | BadRow], shape: Shape, template: ChatTemplate) -> Layout:
    """Find every turn in the rendering of `turns`; `rendered` answers `jobs_for(turns)`.

    Raises BadRow when the template refuses the conversation or an answer cannot be found in its text.
    """
    text, marked, *prompts = rendered
    if isinstance(text, BadRow):
        raise text
    contents = [turn.content for turn in turns]
    answers = [i for i, turn in enumerate(turns) if turn.role == "assistant"]
    starts = dict(zip(answers, prompts, strict=True))
    found: dict[int, tuple[int, int]] | None = None
    before: dict[int, str] = {}
    if isinstance(marked, str):
        split = split_marked(marked, marker(turns))
        before = dict(zip(split.order, split.literals, strict=False))
        found = match(text, split, contents) or search(text, split)
    if found is None or not found.keys() >= {i for i in answers if contents[i].strip()}:
        found = by_prefixes(text, turns, starts, shape, template)
        before = {}
    ranges: list[Range] = []
    for i, (start, stop) in sorted(found.items(), key=lambda item: item[1]):
        if turns[i].role == "assistant":
            floor = ranges[-1].end if ranges else 0
            start = answer_start(text, start, floor, starts[i], before.get(i, ""), shape.header)
            last = stop + shape.end_length(text[stop : stop + 256])
            if i == len(turns) - 1 and last == stop:
                return Layout(text[:stop], [*ranges, Range(start, stop, "assistant")], open_end=True)
            stop = last
        ranges.append(Range(start, stop, turns[i].role))
    return Layout(text, ranges)


def answer_start(text: str, start: int, floor: int, prompt: str | BadRow, before: str, header: str) -> int:
    """Where the model begins to write an answer whose content begins at `start`.

    That is where the generation prompt ends: what the template puts between it and the content (a space, an empty
    block of thoughts) is the model's to write. Where the prompt is no prefix of the text, its header is looked for.
    """
    if isinstance(prompt, str):
        prompt = open_prompt(prompt)
    if isinstance(prompt, str) and floor <= len(prompt) <= start and text.startswith(prompt):
        return len(prompt)
    header = open_prompt(header)
    if header and header in before:
        return start - (len(before) - before.rindex(header) - len(header))
    return start


def open_prompt(prompt: str) -> str:
    """A generation prompt without the spaces at its end, which belong to the answer.

    Tokenizers glue a space to the word after it. A prompt "…Assistant: " would end in a lone space that no row has,
    and the first word of every row would begin in the header and so never be learned.
    """
    return prompt.rstrip(" ")


def match(text: str, marked: Marked, contents: Sequence[str]) -> dict[int, tuple[int, int]] | None:
    """Turn -> its characters, if `text` is exactly the literals with the contents, as they are or trimmed."""
    found: dict[int, tuple[int, int]] = {}
    if len(set(marked.order)) < len(marked.order) or not text.startswith(marked.literals[0]):
        return None
    position = len(marked.literals[0])
    for index, literal in zip(marked.order, marked.literals[1:], strict=True):
        content = contents[index]
        for form in _forms(content):
            stop = position + len(form)
            if text.startswith(form, position) and text.startswith(literal, stop):
                found[index] = (position, stop)
                position = stop + len(literal)
                break
        else:
            return None
    return found if position == len(text) else None


def _forms(content: str) -> tuple[str, ...]:
    """A content as templates write it."""
    newlines = content.lstrip("\n")
    return content, content.strip(), content.lstrip(), content.rstrip(), newlines, newlines.rstrip("\n")


def search(text: str, marked: Marked) -> dict[int, tuple[int, int]] | None:
    """Turn -> its characters, where the template changed a content but its surroundings stand at one place only."""
    literals = marked.literals
    if len(set(marked.order)) < len(marked.order):
        return None
    if not (text.startswith(literals[0]) and text.endswith(literals[-1])):
        return None
    forward, backward = [len(literals[0])], [len(text) - len(literals[-1])]
    for literal in literals[1:-1]:
        at = text.find(literal, forward[-1], backward[0])
        if at < 0 or not literal:
            return None
        forward.append(at + len(literal))
    for literal in reversed(literals[1:-1]):
        backward.append(text.rfind(literal, forward[0], backward[-1]))
    backward.reverse()
    ends = [start + len(literal) for start, literal in zip(backward, literals[1:-1], strict=False)]
    if ends != forward[1:] or forward[-1] > backward[-1]:
        return None  # found in one order of looking, elsewhere in the other
    return dict(zip(marked.order, zip(forward, backward, strict=True), strict=True))


def by_prefixes(
    text: str, turns: Sequence[Turn], prompts: dict[int, str | BadRow], shape: Shape, template: ChatTemplate
) -> dict[int, tuple[int, int]]:
    """Answers -> their characters, where each stretch of the conversation renders as a prefix of the whole.

    Raises BadRow where it does not.
    """
    found: dict[int, tuple[int, int]] = {}
    renderings = template.render_all([(turns[: i + 1], False) for i in prompts])
    for (i, prompt), upto in zip(prompts.items(), renderings, strict=True):
        content = upto.removesuffix(shape.tail) if isinstance(upto, str) and upto.endswith(shape.tail) else None
        if content is None or not isinstance(prompt, str):
            raise BadRow(_LOST)
        if not (content.startswith(prompt) and text.startswith(content)):
            raise BadRow(_LOST)
        found[i] = (len(open_prompt(prompt)), len(content))
    return found
