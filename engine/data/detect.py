"""Which format rows are in, and how a row becomes a conversation.

messages           a list of {role, content}
sharegpt           a list of {from, value}
alpaca             instruction, input (may be missing), output
prompt_completion  prompt and completion, question and answer, …
title_content      title and content
text               one text, which is learned whole
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as AnyMapping

import msgspec

from engine.contract.errors import MoltingError
from engine.data.conversation import BadRow
from engine.data.convert import TITLE_TEMPLATE, Mapping, Row, to_conversation

_TURN_LISTS = ("messages", "conversations", "conversation", "chat", "dialogue", "turns")
_PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("prompt", "output"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("query", "answer"),
    ("instruction", "response"),
    ("instruction", "completion"),
    ("user", "assistant"),
    ("input", "output"),
    ("pergunta", "resposta"),
)
_TITLES = (
    ("title", "content"),
    ("title", "body"),
    ("title", "text"),
    ("title", "description"),
    ("headline", "content"),
    ("headline", "body"),
    ("headline", "text"),
    ("name", "description"),
    ("título", "conteúdo"),
    ("titulo", "conteudo"),
)
_TEXTS = ("text", "content", "body", "sentence", "document", "texto")

# In the order in which ties are settled: the format that says most about the row first.
_CANDIDATES: tuple[tuple[str, dict[str, str]], ...] = (
    *(("messages", {"turns": name, "role": "role", "content": "content"}) for name in _TURN_LISTS),
    *(("sharegpt", {"turns": name, "role": "from", "content": "value"}) for name in _TURN_LISTS),
    ("alpaca", {"instruction": "instruction", "input": "input", "output": "output"}),
    ("alpaca", {"instruction": "instruction", "input": "context", "output": "response"}),
    *(("prompt_completion", {"prompt": prompt, "completion": answer}) for prompt, answer in _PAIRS),
    *(("title_content", {"title": title, "content": content}) for title, content in _TITLES),
    *(("text", {"text": name}) for name in _TEXTS),
)
FORMATS = tuple(dict.fromkeys(name for name, _ in _CANDIDATES))
_OPTIONAL = {"input", "system", "role", "content"}  # role and content are keys of the turns, not of the row


def detect(
    samples: Sequence[Row],
    *,
    format: str = "auto",
    fields: AnyMapping[str, str] | None = None,
    title_template: str = "",
) -> Mapping:
    """The mapping that most of `samples` fit, within what the user said.

    `format` other than "auto" admits only that format; `fields` names the row's fields where they differ
    from the usual ({"title": "headline"}). Raises MoltingError when nothing fits, or when `fields` names a
    part that the format does not have.
    """
    fields = dict(fields or {})
    template = title_template or TITLE_TEMPLATE
    if "{title}" not in template:
        raise _refuse('The title template does not contain "{title}".', 'Write it as "{title}\\n\\n".')
    keys = _keys(samples)
    best: Mapping | None = None
    for name, usual in _candidates(format, fields):
        named = {part: keys.get(field.lower(), field) for part, field in usual.items()} | fields
        if not all(field in keys.values() for part, field in named.items() if part not in _OPTIONAL):
            continue
        mapping = Mapping(format=name, fields=named, title_template=template)
        fits = sum(_fits(row, mapping) for row in samples)
        if fits and (best is None or fits > best.fits):
            best = msgspec.structs.replace(mapping, fits=fits, samples=len(samples))
    texts = sum(isinstance(row, str) and bool(row.strip()) for row in samples)
    if texts > (best.fits if best else 0) and format in ("auto", "text"):
        return Mapping(format="text", fields={"text": ""}, fits=texts, samples=len(samples))
    if best is None:
        raise _nothing_fits(samples, keys, format, fields)
    return best


def _candidates(format: str, fields: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
    """The candidates of this format that have all the parts in `fields`, with the user's names in them."""
    if format != "auto" and format not in FORMATS:
        raise _refuse(f"There is no data format {format!r}.", f"Known are: auto, {', '.join(FORMATS)}.")
    of_format = [(name, usual) for name, usual in _CANDIDATES if format in ("auto", name)]
    parts = fields.keys() - {"system"}
    chosen = [(name, usual | fields) for name, usual in of_format if parts <= usual.keys()]
    if not chosen:
        known = "; ".join(f"{name}: {', '.join(usual)}" for name, usual in dict(of_format).items())
        raise _refuse(f"data.fields names {', '.join(sorted(fields))}, the parts of no format.", known)
    return chosen


def _keys(samples: Iterable[Row]) -> dict[str, str]:
    """Lower-case name -> the name as written, over all rows."""
    keys: dict[str, str] = {}
    for row in samples:
        for key in row if not isinstance(row, str) else ():
            keys.setdefault(key.lower(), key)
    return keys


def _fits(row: Row, mapping: Mapping) -> bool:
    try:
        to_conversation(row, mapping)
    except BadRow:
        return False
    return True


def _refuse(message: str, remedy: str) -> MoltingError:
    return MoltingError(message, remedy=remedy, reason="bad_data", code=1)


def _nothing_fits(samples: Sequence[Row], keys: dict[str, str], format: str, fields: dict[str, str]) -> MoltingError:
    seen = ", ".join(repr(key[:40]) for key in list(keys.values())[:12]) or "none"
    wanted = "any known format" if format == "auto" else f"the format {format}"
    named = f" with {', '.join(f'{part} = {name!r}' for part, name in fields.items())}" if fields else ""
    return _refuse(
        f"None of {len(samples)} sampled rows fit {wanted}{named}; their fields are {seen}.",
        'Name them, as in data.format = "title_content" and data.fields = { title = "headline" }.',
    )
