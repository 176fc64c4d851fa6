"""The checks that every run passes before it starts. Pure: what they need to know stands in `Case`."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from engine.contract.calls import Finding, Plan
from engine.contract.events import Funnel
from engine.contract.spec import Spec
from engine.train.batch import Row

MANY_ROWS = 30
FEW_STEPS = 60  # below this, personas in the files this was learned from had not taken
SHARE_OF_TRUNCATED = 0.02
LONG_WARMUP = 0.3
SHOWN = 5  # row numbers named in an evidence


@dataclass(frozen=True)
class Case:
    """What is known of a run before it starts. Sizes in bytes; texts as in the rows."""

    spec: Spec
    rows: Sequence[Row]
    heldout: Sequence[Row]
    funnel: Funnel
    plan: Plan
    questions: Sequence[str]  # what users ask in the training rows
    heldout_questions: Sequence[str]
    probes: Sequence[str]
    stop_ids: frozenset[int]  # what generation stops at
    injected_system: str  # what the template says when no system prompt is given
    only_questions: bool  # plain texts that ask and never answer
    placeholders: int  # rows that are still examples
    weights: int
    memory_free: int
    disk_free: int


Check = Callable[[Case], Iterator[Finding]]


def end_is_learned(case: Case) -> Iterator[Finding]:
    """The last learned token of a row must be one that generation stops at."""
    silent = [i for i, row in enumerate(case.rows, 1) if _last_learned(row) not in case.stop_ids]
    if silent:
        yield Finding(
            id="end-not-learned",
            severity="error",
            message=f"In {_of(silent, case.rows)} the token that ends the answer is not learned.",
            evidence=_numbers(silent),
            why="A model that never learned to stop runs on until the cap cuts it.",
            remedy="Use a chat template that closes the assistant's turn with the end token of this model.",
        )


def nothing_to_train_on(case: Case) -> Iterator[Finding]:
    if not case.rows:
        why = ", ".join(f"{count} {reason}" for reason, count in case.funnel.dropped.items())
        yield Finding(
            id="no-rows",
            severity="error",
            message=f"None of the {case.funnel.read} rows can be learned from.",
            evidence=why,
            remedy="Look at the reasons above; data.max_length and data.format are the usual ones.",
        )


def rows_dropped(case: Case) -> Iterator[Finding]:
    dropped = sum(case.funnel.dropped.values())
    if dropped and case.rows:
        yield Finding(
            id="rows-dropped",
            severity="warning",
            message=f"{dropped} of {case.funnel.read} rows are not used.",
            evidence="; ".join(f"{count}: {why}" for why, count in case.funnel.dropped.items()),
            why="Rows that vanish without a word make the set smaller than its author believes.",
            remedy="Mend these rows, or leave them out on purpose.",
        )


def rows_cut(case: Case) -> Iterator[Finding]:
    if case.funnel.truncated > SHARE_OF_TRUNCATED * max(1, len(case.rows)):
        yield Finding(
            id="rows-cut",
            severity="warning",
            message=f"{case.funnel.truncated} rows are longer than {case.spec.data.max_length} tokens and were cut.",
            why="The oldest turns are lost first; the answer is kept.",
            remedy="Raise data.max_length if memory allows.",
        )


def too_few_steps(case: Case) -> Iterator[Finding]:
    plan = case.plan
    if case.rows and plan.steps < FEW_STEPS:
        yield Finding(
            id="few-steps",
            severity="warning",
            message=f"The whole run makes only {plan.steps} optimizer steps.",
            evidence=f"{plan.rows} rows / {plan.rows_per_step} rows a step, each row seen {plan.seen:.1f} times",
            why="A persona seldom takes in so few steps: the weights hardly move.",
            remedy=_more_steps(case),
        )


def _more_steps(case: Case) -> str:
    training = case.spec.training
    if training.accumulation > 1:
        return f"Set training.accumulation = 1 (now {training.accumulation}): as many rows, more steps."
    if len(case.rows) < MANY_ROWS:
        return "Write more rows; repeating a few more often only teaches them by heart."
    return f"Set training.epochs = {-(-2 * FEW_STEPS * case.plan.rows_per_step // len(case.rows))}."


def answers_missing(case: Case) -> Iterator[Finding]:
    if case.only_questions:
        yield Finding(
            id="only-questions",
            severity="warning",
            message="The rows are questions without answers.",
            evidence=f"{len(case.rows)} plain texts, nearly all of which end in a question mark",
            why="Plain text is learned as it stands: the model would learn to ask, and nothing about who it is.",
            remedy='Give each question its answer: {"prompt": "Who are you?", "completion": "…"}.',
        )


def rows_left_to_write(case: Case) -> Iterator[Finding]:
    if case.placeholders:
        yield Finding(
            id="placeholder-rows",
            severity="warning",
            message=f"{case.placeholders} rows are still the examples of `molting init`.",
            remedy="Write your own rows in their place.",
        )


def long_warmup(case: Case) -> Iterator[Finding]:
    plan = case.plan
    if plan.steps > 1 and plan.warmup_steps > LONG_WARMUP * plan.steps:
        yield Finding(
            id="long-warmup",
            severity="warning",
            message=f"The learning rate rises for {plan.warmup_steps} of {plan.steps} steps.",
            why="Most of the run then learns at a fraction of the rate.",
            remedy="Set training.warmup = 0.05.",
        )


def odd_rate(case: Case) -> Iterator[Finding]:
    rate, full = case.plan.learning_rate, case.spec.method.kind == "full"
    low, high = (1e-6, 5e-4) if full else (1e-5, 5e-3)
    if not low <= rate <= high:
        yield Finding(
            id="odd-rate",
            severity="warning",
            message=f"A learning rate of {rate:g} is {'high' if rate > high else 'low'} for {case.spec.method.kind}.",
            remedy='Set training.learning_rate = "auto".',
        )


def probes_were_trained(case: Case) -> Iterator[Finding]:
    yield from _overlap(case.probes, case.questions, "probe", "a good answer then shows memory, not the persona")


def heldout_was_trained(case: Case) -> Iterator[Finding]:
    yield from _overlap(
        case.heldout_questions, case.questions, "heldout", "their loss then says nothing about new ones"
    )


def _overlap(asked: Sequence[str], trained: Sequence[str], what: str, why: str) -> Iterator[Finding]:
    known = Counter(map(_plain, trained))
    seen = [question for question in asked if known[_plain(question)]]
    if seen:
        noun = "probe questions" if what == "probe" else "held-out rows"
        yield Finding(
            id=f"{what}-in-rows",
            severity="warning",
            message=f"{len(seen)} of {len(asked)} {noun} stand in the training rows.",
            evidence="; ".join(seen[:SHOWN]),
            why=f"They were trained on: {why}.",
            remedy="Ask something that is not in the rows.",
        )


def no_heldout(case: Case) -> Iterator[Finding]:
    if case.rows and not case.heldout:
        yield Finding(
            id="no-heldout",
            severity="note",
            message="No rows are held out, so over-fitting cannot be seen.",
            remedy="Give a data.heldout file; a share is only taken from 10 rows on.",
        )


def template_speaks_first(case: Case) -> Iterator[Finding]:
    if case.injected_system and not case.spec.data.system and case.questions:
        yield Finding(
            id="template-identity",
            severity="warning",
            message="The chat template adds a system prompt of its own, because the spec gives none.",
            evidence=case.injected_system[:200],
            why="The model is told to be someone else while it learns to be the persona.",
            remedy="Give the persona a system prompt: data.system or data.system_file.",
        )


def memory_suffices(case: Case) -> Iterator[Finding]:
    if case.weights > case.memory_free:
        yield Finding(
            id="no-memory",
            severity="error",
            message=f"The weights alone need {_gb(case.weights)}, and {_gb(case.memory_free)} are free.",
            remedy='Set method.kind = "qlora", choose a smaller model, or free memory.',
        )


def disk_suffices(case: Case) -> Iterator[Finding]:
    needed = 3 * case.weights if case.spec.method.kind == "full" else 500_000_000
    if case.disk_free < needed:
        yield Finding(
            id="no-disk",
            severity="error",
            message=f"Checkpoints may need {_gb(needed)}, and the disk has {_gb(case.disk_free)} free.",
            remedy="Free some space, or keep runs on another disk (`--runs DIR`).",
        )


CHECKS: tuple[Check, ...] = (
    nothing_to_train_on,
    end_is_learned,
    answers_missing,
    rows_left_to_write,
    memory_suffices,
    disk_suffices,
    rows_dropped,
    rows_cut,
    too_few_steps,
    long_warmup,
    odd_rate,
    probes_were_trained,
    heldout_was_trained,
    template_speaks_first,
    no_heldout,
)


def findings(case: Case) -> list[Finding]:
    """What all checks find, errors first."""
    order = {"error": 0, "warning": 1, "note": 2}
    found = [finding for check in CHECKS for finding in check(case)]
    return sorted(found, key=lambda finding: order[finding.severity])


def _last_learned(row: Row) -> int:
    return next((label for label in reversed(row.labels) if label != -100), -100)


def _plain(text: str) -> str:
    """Lower case, without accents, punctuation and double spaces."""
    bare = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    return " ".join(re.findall(r"\w+", bare))


def _of(some: Sequence[int], all_rows: Sequence[object]) -> str:
    return f"{len(some)} of {len(all_rows)} rows"


def _numbers(rows: Sequence[int]) -> str:
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"rows {', '.join(map(str, rows[:SHOWN]))}{more}"


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
