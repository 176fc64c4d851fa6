"""The chat template against tokenizer, model, rows and use; and the system prompt that goes with it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from engine.contract.calls import Finding

from .case import Case, change
from .rope import what_short_texts_lose
from .words import excerpt, numbers, several

# What template languages write around turns. A text of this form that is no token of the vocabulary is spelt out.
MARK = re.compile(r"<\|[\w ]{1,40}\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>|<(?:eos|bos)>|<\|?im_(?:start|end)\|?>")


def end_token_unknown(case: Case) -> Iterator[Finding]:
    """What the template closes an answer with must be a token, and the one that this model knows as its end."""
    tokens = case.tokens
    mark = MARK.match(tokens.end_text.lstrip())
    if tokens.template is None or tokens.end is not None or not mark:
        return
    own = tokens.names.get("eos_token") or ", ".join(tokens.eos_texts) or "another token"
    yield Finding(
        id="end-token-unknown",
        severity="warning",
        message=f"The chat template ends answers with {mark[0]}, which this tokenizer does not know; its end is {own}.",
        evidence=f"{mark[0]} is spelt out in several tokens",
        why="An end marker of another model is only text: the model learns to write it and then runs on into the cap.",
        remedy="Use the model's own template, or write {{ eos_token }} in its place.",
        fix=change("model.chat_template", "") if tokens.own_template and case.spec.model.chat_template else [],
    )


def end_is_no_stop(case: Case) -> Iterator[Finding]:
    """An end of turn that neither tokenizer nor generation config call an end: other programs run past it."""
    tokens = case.tokens
    if tokens.end and tokens.eos_texts and tokens.end not in tokens.eos_texts:
        yield Finding(
            id="end-differs",
            severity="note",
            message=f"Answers end with {tokens.end}, but the model's files name {' and '.join(tokens.eos_texts)}.",
            why="Molting stops at both. Another program that loads the model would run past the end of the answer.",
            remedy=f"For other programs, add {tokens.end} to eos_token_id in generation_config.json.",
        )


def template_of_another_model(case: Case) -> Iterator[Finding]:
    tokens = case.tokens
    if not tokens.template or not tokens.own_template or tokens.template == tokens.own_template:
        return
    unknown = [mark for mark in _marks(tokens.written) if mark not in tokens.known]
    own = [mark for mark in _marks(tokens.own_template) if mark in tokens.known]
    if unknown and own:
        yield Finding(
            id="template-of-another-model",
            severity="warning",
            message="The chat template is that of another model: this tokenizer does not know "
            f"{', '.join(unknown[:4])}.",
            evidence=f"the model's own template writes {', '.join(own[:4])}",
            why="The model was taught to chat in its own form; in a foreign one it must learn the form first.",
            remedy='Take model.chat_template out (or set it to ""), so that the model\'s own is used.',
            fix=change("model.chat_template", ""),
        )


def template_speaks_first(case: Case) -> Iterator[Finding]:
    bare = [example for example in case.chats if not example.system]
    if case.tokens.default_system and not case.system and bare:
        yield Finding(
            id="template-identity",
            severity="warning",
            message="The chat template adds a system prompt of its own, because the spec gives none.",
            evidence=excerpt(case.tokens.default_system, 200),
            why="The model is told to be someone else while it learns to be the persona.",
            remedy="Give the persona a system prompt: data.system or data.system_file.",
        )


def template_without_system(case: Case) -> Iterator[Finding]:
    if case.tokens.template and not case.tokens.takes_system and (case.system or any(e.system for e in case.chats)):
        yield Finding(
            id="no-system-role",
            severity="note",
            message="The chat template has no system role: the system prompt opens the first question instead.",
            why="That is done in training and in answers alike; another program may leave the prompt out.",
        )


def system_only_in_rows(case: Case) -> Iterator[Finding]:
    """Prompts that rows carry and answers will not have: what is trained and what is used must be the same."""
    own = [example for example in case.chats if example.system]
    if case.system or not own:
        return
    prompts = Counter(example.system for example in own)
    text = prompts.most_common(1)[0][0]
    different = f", {len(prompts)} different ones" if len(prompts) > 1 else ""
    yield Finding(
        id="system-only-in-rows",
        severity="warning",
        message=f"{several(len(own), 'row', 'carry', of=len(case.chats))} a system prompt{different}, and data.system "
        "is empty.",
        evidence=excerpt(text, 160),
        why="Questions are then asked without it, and what was learned behind a prompt is weak without one.",
        remedy="Give that prompt as data.system: it is put before rows and questions alike.",
        rows=[example.number for example in own][:1000],
        fix=change("data.system", text) if len(prompts) == 1 else [],
    )


def system_differs(case: Case) -> Iterator[Finding]:
    own = [example for example in case.chats if example.system and example.system.strip() != case.system]
    if case.system and own:
        yield Finding(
            id="system-differs",
            severity="warning",
            message=f"{several(len(own), 'row', 'carry', of=len(case.chats))} another system prompt than data.system.",
            evidence=f"{numbers([example.number for example in own])}: {excerpt(own[0].system, 120)}",
            why="A row's own prompt wins in training, but questions are asked behind data.system.",
            remedy="Take the prompts out of these rows, or make them the same.",
            rows=[example.number for example in own][:1000],
        )


def no_system(case: Case) -> Iterator[Finding]:
    prompted = case.system or case.tokens.default_system or any(example.system for example in case.chats)
    if case.chats and not prompted and case.tokens.template:
        yield Finding(
            id="no-system-prompt",
            severity="note",
            message="No system prompt says who the persona is, in training or in use.",
            why="All of the identity must then come from the rows, and a prompt added later is one it never saw.",
            remedy="Give two sentences in data.system or data.system_file.",
        )


def rope_needless(case: Case) -> Iterator[Finding]:
    rope = case.spec.model.rope
    longest = max((len(row.input_ids) for row in case.rows), default=0)
    if rope.type == "none" or rope.factor == 1.0 or case.unstretchable or not case.window or longest > case.window:
        return
    yield Finding(
        id="rope-needless",
        severity="warning",
        message=f"Positions are stretched {rope.factor:g}-fold, though the longest row has {longest:,} of the "
        f"{case.window:,} tokens that the model takes anyway.",
        evidence=f"{case.window:,} × {rope.factor:g} = {round(case.window * rope.factor):,} tokens of window",
        why=f"Nothing is gained, and {what_short_texts_lose(case)}",
        remedy='Set model.rope.type = "none".',
        fix=change("model.rope.type", "none"),
    )


def beyond_the_window(case: Case) -> Iterator[Finding]:
    rope = case.spec.model.rope
    window = round(case.window * (rope.factor if rope.type != "none" else 1.0))
    long = [e.number for e, row in zip(case.kept, case.rows, strict=True) if len(row.input_ids) > window]
    if window and long:
        yield Finding(
            id="beyond-window",
            severity="warning",
            message=f"{several(len(long), 'row', 'are')} longer than the {window:,} tokens that this model takes.",
            evidence=numbers(long),
            why="At positions it never saw a model writes nonsense, or fails.",
            remedy=f"Set data.max_length = {window}, or extend the context (model.rope).",
            rows=long,
            fix=change("data.max_length", window),
        )


def _marks(text: str) -> list[str]:
    return list(dict.fromkeys(MARK.findall(text)))


CHECKS = (
    end_token_unknown,
    template_of_another_model,
    template_speaks_first,
    system_only_in_rows,
    system_differs,
    rope_needless,
    beyond_the_window,
    end_is_no_stop,
    template_without_system,
    no_system,
)
