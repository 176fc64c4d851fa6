"""A batch as lines of text: the answer, the others to its prompt, what the gates refused and why. Pure."""

from __future__ import annotations

import time

from engine.contract.curation import Candidate, Keep, Reject
from engine.contract.safe import safe

from .. import text
from .curate_form import CurateForm
from .lines import Line

GATES = {
    "unfinished": "did not end by itself",
    "rule": "a rule of the rubric fires",
    "identity": "speaks like the base",
    "name": "another name",
    "fact": "against the facts table",
    "copy": "nearly a trained answer",
    "duplicate": "nearly an answer before it",
}


def plain(said: str) -> str:
    """On one line, harmless."""
    return safe(" ".join(said.split()), False)


def status_line(form: CurateForm, saved: float = 0.0) -> str:
    """How far it is: `batch 1 · 12 of 60 decided, 9 kept · the gates refused 20 · saved 02:31:07`."""
    batch = form.choices.batch
    parts = [f"batch {batch.name}", f"{form.decided} of {len(form.offered)} decided, {form.kept} kept"]
    refused = sum(batch.refused.values())
    if not batch.header.gated:
        parts.append(f"control without gates: {refused} would be refused")
    elif refused:
        parts.append(f"the gates refused {refused}")
    if saved:
        parts.append(f"saved {time.strftime('%H:%M:%S', time.localtime(saved))}")
    return " · ".join(parts)


def question_line(form: CurateForm) -> str:
    """The prompt, and where it stands."""
    if form.shown is None:
        return ""
    return f"{form.at + 1}/{len(form.offered)}  {plain(form.shown.prompt)}"


def answer_lines(form: CurateForm, width: int) -> list[Line]:
    """The answer as it would be learned, and what was said of it."""
    shown = form.shown
    if shown is None:
        return [[("The gates refused every answer: v shows why.", "bold")]]
    lines: list[Line] = [[(line, "answer")] for line in text.wrap(safe(form.text), width)]
    choice = form.choice
    said = "undecided"
    if isinstance(choice, Keep):
        said = "kept as edited" if choice.text else "kept"
    elif isinstance(choice, Reject):
        said = "rejected"
    how = "ended by itself" if shown.stop == "end" else "cut at the cap"
    lines += [[], [(said, "bold"), (f"  {text.plural(shown.tokens, 'token')}, {how}", "dim")]]
    if shown.gate:
        lines += [[(line, "warning")] for line in text.wrap(f"{shown.gate}: {plain(shown.why)}", width)]
    return lines


def side_lines(form: CurateForm, width: int, refused: bool) -> list[Line]:
    """Beside the answer: the others to the same prompt; or, where `refused`, all that the gates refused, and why."""
    return _refused(form, width) if refused else [*_siblings(form, width), [], *_counts(form, width)]


def _siblings(form: CurateForm, width: int) -> list[Line]:
    shown = form.shown
    others = [each for each in form.offered if shown and each.prompt == shown.prompt and each.id != shown.id]
    lines: list[Line] = [[("other answers to this", "dim")]] if others else [[("the only answer to this", "dim")]]
    decided = form.choices.decided
    for each in others:
        choice = decided.get(each.id)
        mark = "+" if isinstance(choice, Keep) else "-" if isinstance(choice, Reject) else " "
        first, *rest = text.wrap(plain(each.answer), max(8, width - 2))
        lines += [[(f"{mark} {first}", "")], *([(f"  {line}", "")] for line in rest)]
    return lines


def _counts(form: CurateForm, width: int) -> list[Line]:
    refused = form.choices.batch.refused
    if not refused:
        return []
    lines: list[Line] = [[("refused by the gates", "dim")]]
    for gate, count in refused.most_common():
        lines.append([(text.fit(f"{count:>4}  {GATES.get(gate, plain(gate))}", width), "")])
    return lines


def _refused(form: CurateForm, width: int) -> list[Line]:
    lines: list[Line] = []
    for each in form.choices.batch.candidates:
        if each.gate:
            lines += _refusal(each, width)
    return lines or [[("The gates refused nothing.", "dim")]]


def _refusal(each: Candidate, width: int) -> list[Line]:
    why: list[Line] = [[(line, "warning")] for line in text.wrap(f"{each.gate}: {plain(each.why)}", width)]
    said: list[Line] = [[(line, "")] for line in text.wrap(plain(each.answer)[:400] or "(nothing)", width)]
    return [*why, [(text.fit(plain(each.prompt), width).rstrip(), "dim")], *said, []]
