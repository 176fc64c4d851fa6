"""An Ollama Modelfile: the run's chat template in Ollama's words, its system prompt, stop tokens and parameters."""

from __future__ import annotations

import json
from dataclasses import dataclass

from engine.contract.spec import Spec
from engine.data.conversation import BadRow, Turn
from engine.data.encode import Encoder
from engine.data.layout import mark_turns, marker, split_marked
from engine.data.template import ChatTemplate

_QUOTES = '"""'


@dataclass(frozen=True)
class Modelfile:
    """The file, and sentences about what could not be put into it."""

    text: str
    notes: list[str]


def modelfile(encoder: Encoder, spec: Spec, weights: str) -> Modelfile:
    """`weights`: what FROM names, a GGUF file beside it, or "." for the folder of safetensors."""
    notes = []
    lines = [f"# `ollama create NAME -f Modelfile` in this folder makes a model of it.\nFROM ./{weights.lstrip('.')}"]
    template = ollama_template(encoder)
    if template is None or _QUOTES in template:
        notes.append(
            "The Modelfile has no TEMPLATE: this chat template cannot be written in Ollama's words, so Ollama uses "
            "what it finds in the model. Compare its answers with `molting ask`."
        )
    else:
        lines.append(f"TEMPLATE {_QUOTES}{template}{_QUOTES}")
    system = encoder.system_prompt or (encoder.shape.default_system if encoder.shape else "")
    if _QUOTES in system:
        notes.append(f"The Modelfile has no SYSTEM: the system prompt holds {_QUOTES}, which cannot be quoted there.")
    elif system:
        blank = " " if system.endswith('"') else ""
        lines.append(f"SYSTEM {_QUOTES}{system}{blank}{_QUOTES}")
    stops = [encoder.tokenizer.id_to_token(number) for number in encoder.stop_ids]
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops if stop]
    own = spec.generation
    lines += [
        f"PARAMETER temperature {own.temperature:g}",
        f"PARAMETER top_p {own.top_p:g}",
        f"PARAMETER top_k {own.top_k or 0}",
        f"PARAMETER repeat_penalty {own.repetition_penalty:g}",
        f"PARAMETER num_predict {own.max_new_tokens}",
    ]
    return Modelfile("\n".join(lines) + "\n", notes)


def ollama_template(encoder: Encoder) -> str | None:
    """The chat template with Ollama's variables; None where it has no plain form of one exchange after another.

    Found by asking, as the encoder does: what is written around contents, with and without a system prompt. It is
    only given where the pieces put together again are exactly what the template writes.
    """
    shape = encoder.shape
    if encoder.template is None:
        return (
            "{{ if .System }}{{ .System }}"
            + _literal(encoder.join)
            + "{{ end }}{{ .Prompt }}"
            + _literal(encoder.join)
            + "{{ .Response }}"
        )
    assert shape is not None
    two = _literals(encoder.template, ["user", "assistant", "user", "assistant"])
    one = _literals(encoder.template, ["user", "assistant"])
    if one is None or two is None:
        return None
    first, between, final = _without_bos(one[0], encoder), one[1], one[2]
    after = _after_answer(two[2], final, first)
    if after is None:
        return None
    before_user = two[2][len(after) :]  # of a later turn: without what only begins a conversation
    if two[3:] != [between, final] or two[:2] != one[:2]:
        return None
    exchange = f"{_literal(before_user)}%s{{{{ .Prompt }}}}{_literal(between)}{{{{ .Response }}}}{_literal(after)}"
    if not shape.takes_system:
        return exchange % "{{ if .System }}{{ .System }}\n\n{{ end }}" if first == before_user else None
    with_system = _literals(encoder.template, ["system", "user", "assistant"])
    if with_system is None or with_system[2:] != [between, final] or not with_system[1].endswith(before_user):
        return None
    opens = _without_bos(with_system[0], encoder)
    closes = with_system[1][: len(with_system[1]) - len(before_user)]
    if first not in (before_user, f"{opens}{shape.default_system}{closes}{before_user}"):
        return None
    system = f"{{{{ if .System }}}}{_literal(opens)}{{{{ .System }}}}{_literal(closes)}{{{{ end }}}}"
    return system + exchange % ""


def _after_answer(inner: str, final: str, first: str) -> str | None:
    """What follows every answer: of what stands between it and the next question, the part before that question.

    `final` follows the last answer, where some templates write the end of the text as well, which no program that
    generates ever needs; `first` stands before the first question.
    """
    if inner.startswith(final):
        return final
    return inner.removesuffix(first) if first and inner.endswith(first) else None


def _literals(template: ChatTemplate, roles: list[str]) -> list[str] | None:
    """What the template writes before, between and after contents, None where it refuses or reorders them."""
    turns = mark_turns([Turn(role, "x") for role in roles])  # type: ignore[arg-type]
    (text,) = template.render_all([(turns, False)])
    if isinstance(text, BadRow):
        return None
    found = split_marked(text, marker([]))
    return found.literals if found.order == list(range(len(roles))) else None


def _without_bos(text: str, encoder: Encoder) -> str:
    """Ollama begins every text with that token by itself, where the tokenizer does."""
    begins = [encoder.tokenizer.id_to_token(number) for number in encoder.plain.bos]
    return text.removeprefix(begins[0] or "") if begins else text


def _literal(text: str) -> str:
    """Text as it stands in a Go template."""
    return text.replace("{{", '{{ "{{" }}')
