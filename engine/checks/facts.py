"""Whether the set agrees with itself: system prompt, rows, facts table and rubric tell the same story."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from engine.contract.calls import Finding

from .case import Case, Example, Facts
from .claims import Claim, claims, kind_of_developer, names_told, number, same
from .words import SHOWN, alike, excerpt, numbers, plain, several, telling, words

PROMPT = "system prompt"
# What keys of a facts table mean, where they mean something that texts can be searched for.
_TOPICS = {
    "name": "name nome nombre",
    "age": "age idade anos",
    "year of making": "built born year created made ano nascimento criado criada",
    "birthplace": "birthplace naturalidade",
    "home": "city cidade home",
    "maker": "builder creator maker montador criador criadora inventor author",
    "employer": "employer company empresa empregador",
    "profession": "profession job profissao profissão",
}
_TOPIC_OF = {key: topic for topic, keys in _TOPICS.items() for key in keys.split()}


@dataclass(frozen=True)
class Told:
    """A claim and where it stands; `row` is 0 outside of the rows."""

    claim: Claim
    where: str
    row: int = 0


def contradictions(case: Case) -> Iterator[Finding]:
    """The same fact told differently, within the rows or between prompt, rows and facts."""
    topics: dict[str, list[Told]] = defaultdict(list)
    for told in _told(case):
        topics[told.claim.topic].append(told)
    for topic, all_told in sorted(topics.items()):
        sides = _sides(all_told)
        if sides:
            one, other = sides
            rows = sorted({told.row for told in all_told if told.row and same(told.claim.value, other.claim.value)})
            yield Finding(
                id="facts-contradict",
                severity="warning",
                message=f'Two stories about the {topic}: {one.where} says "{excerpt(one.claim.said, 60)}", '
                f'{other.where} says "{excerpt(other.claim.said, 60)}".',
                evidence=numbers(rows) if rows else "",
                why="What the model then says is one of the two by chance; it looks like invention and is not.",
                remedy="Decide which is true, and write it so everywhere.",
                rows=rows,
            )


def _told(case: Case) -> Iterator[Told]:
    prompted = list(claims(case.system, prompt=True))
    if not any(claim.topic == "name" for claim in prompted):
        prompted += _name_in_use(case)
    for claim in prompted:
        yield Told(claim, f"the {PROMPT}")
    for example in case.examples:
        questions = [turn.content for turn in example.turns if turn.role == "user"]
        for i, answer in enumerate(example.answers):
            for claim in claims(answer, questions[i] if i < len(questions) else ""):
                yield Told(claim, f"row {example.number}", example.number)
    for key, value in case.facts.true.items():
        topic, where = _TOPIC_OF.get(plain(key)), f"{case.facts.file or 'the facts table'}"
        if topic:
            yield Told(Claim(topic, plain(value), f"{key} = {value}"), where)
        if kind := kind_of_developer(value):
            yield Told(Claim("kind of developer", kind, f"{key} = {value}", single=False), where)


def _name_in_use(case: Case) -> list[Claim]:
    """The name of "You are Ana": only one that answers use too, for "You are Brazilian" names nobody."""
    own = {name for example in case.examples for answer in example.answers for name in names_told(answer)}
    used = [name for name in sorted(names_told(case.system)) if any(same(name, other) for other in own)]
    return [Claim("name", used[0], f"You are {used[0].title()}")] if len(used) == 1 else []


def untrue(answer: str, question: str, facts: Facts) -> Claim | None:
    """The first claim of an answer that the table of facts tells otherwise."""
    known = {topic: plain(value) for key, value in facts.true.items() if (topic := _TOPIC_OF.get(plain(key)))}
    for claim in claims(answer, question):
        if claim.single and claim.topic in known and not same(claim.value, known[claim.topic]):
            return claim
    return None


def forbidden_in(text: str, facts: Facts) -> str:
    """The first phrase in a text that the table forbids, or ""."""
    return next((phrase for phrase in facts.forbidden if phrase.strip() and _phrase(phrase).search(text)), "")


def _sides(all_told: Sequence[Told]) -> tuple[Told, Told] | None:
    """Two that contradict each other, what is said outside of the rows or most often first; None where none do."""
    outside = [told for told in all_told if not told.row]
    inside = [told for told in all_told if told.row]
    if not all(told.claim.single for told in all_told):
        # There may be several people of that kind: only values that one side never gives are a contradiction.
        if outside and inside and not any(same(a.claim.value, b.claim.value) for a in outside for b in inside):
            return outside[0], inside[0]
        return _between(outside)
    counted = Counter(told.claim.value for told in all_told)
    first = outside[0] if outside else max(all_told, key=lambda told: counted[told.claim.value])
    other = next((told for told in all_told if not same(told.claim.value, first.claim.value)), None)
    return (first, other) if other else None


def _between(outside: Sequence[Told]) -> tuple[Told, Told] | None:
    wheres = {told.where for told in outside}
    if len(wheres) < 2:
        return None
    first = outside[0]
    others = [told for told in outside if told.where != first.where]
    mine = [told for told in outside if told.where == first.where]
    if any(same(a.claim.value, b.claim.value) for a in mine for b in others):
        return None
    return first, others[0]


def name_of_another(case: Case) -> Iterator[Finding]:
    """The prompt says one name, the answers only others."""
    prompt = names_told(case.system) if case.system else set()
    named = [(e.number, name) for e in case.examples for name in names_told(e.answer) | _names_claimed(e)]
    if not prompt or len(named) < 2 or any(same(name, mine) for _, name in named for mine in prompt):
        return
    said = plain(" ".join(example.answer for example in case.examples)).split()
    if any(set(mine.split()) & set(said) for mine in prompt):
        return
    name, count = Counter(name for _, name in named).most_common(1)[0]
    if count >= 2:
        rows = [number for number, each in named if each == name]
        yield Finding(
            id="another-name",
            severity="warning",
            message=f"The system prompt speaks to {next(iter(prompt)).title()}, but the answers are those of "
            f"{name.title()}.",
            evidence=numbers(rows),
            why="Prompt and rows then pull the model to two different people.",
            remedy="Give both the same name.",
            rows=rows,
        )


def _names_claimed(example: Example) -> set[str]:
    return {claim.value for claim in claims(example.answer, example.question) if claim.topic == "name"}


def same_question_other_answer(case: Case) -> Iterator[Finding]:
    """One question with answers that cannot all be true, or are just different."""
    asked: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for example in case.chats:
        if len(example.turns) - bool(example.system) == 2 and plain(example.question):
            asked[plain(example.question)].append((example.number, example.answer))
    hard: list[tuple[int, int, str]] = []
    soft: list[tuple[int, int, str]] = []
    for question, answers in asked.items():
        for (row, answer), (other_row, other) in pairwise(answers):
            if plain(answer) == plain(other):
                continue
            if alike(telling(answer), telling(other)) < 0.9:
                (hard if _clash(answer, other, question) else soft).append((row, other_row, question))
    total = len(case.chats)
    if hard:
        rows = sorted({row for pair in hard for row in pair[:2]})
        yield Finding(
            id="answers-contradict",
            severity="warning",
            message=f"{several(len(hard), 'question', 'stand')} in the rows with answers that contradict each other.",
            evidence=_pairs(hard),
            why="The model learns a mixture that is true of neither.",
            remedy="Keep the true answer; say it again in other words if it should weigh more.",
            rows=rows,
        )
    asked_again = {question for *_, question in soft}
    if len(asked_again) > 1 or (soft and total < 50):
        yield Finding(
            id="same-question",
            severity="note",
            message=f"{several(len(asked_again), 'question', 'stand')} in several rows with different answers.",
            evidence=_pairs(soft),
            why="That teaches variety where both are true, and confusion where they are not.",
            rows=sorted({row for pair in soft for row in pair[:2]}),
        )


def _clash(one: str, other: str, question: str) -> bool:
    """Whether two answers to one question give different numbers, different names, or yes and no."""
    if (one_yes := _yes(one)) and (other_yes := _yes(other)) and one_yes != other_yes:
        return True
    first, second = set(re.findall(r"\b\d{1,4}\b", one)), set(re.findall(r"\b\d{1,4}\b", other))
    if first and second and not first & second:
        return True
    if (one_count := _leading(one)) and (other_count := _leading(other)) and one_count != other_count:
        return True
    asked = set(question.split())
    known, others = _names(one) - asked, _names(other) - asked
    return bool(known and others and not known & others)


def _leading(text: str) -> int | None:
    """The number that an answer begins with, written in words."""
    spoken = plain(text.split(",")[0].split(".")[0]).split()[:3]
    counts = [number(" ".join(spoken[:length])) for length in range(len(spoken), 0, -1)]
    return next((count for count in counts if count and count > 1), None)


def _yes(text: str) -> str:
    word = plain(text).split(" ", 1)[0]
    return {"yes": "yes", "sim": "yes", "no": "no", "nao": "no"}.get(word, "")


def _names(text: str) -> set[str]:
    """Capitalised words in the middle of sentences, and those that stand alone."""
    found = re.findall(r"(?<![.!?…\n\"“'‘:—-] )(?<!^)\b[A-ZÀ-Ý][\wà-ý]{2,}", text)
    words = text.strip(" .!").split()
    return {plain(name) for name in (found if len(words) > 2 else [*found, *words])} - {"i"}


def _pairs(found: Sequence[tuple[int, int, str]]) -> str:
    return "; ".join(f'rows {row} and {other} "{excerpt(question, 50)}"' for row, other, question in found[:SHOWN])


def rubric_differs(case: Case) -> Iterator[Finding]:
    """A fact of the table that the rubric tells in other words altogether: one that shares no word with it."""
    for key in case.facts.listed.keys() & case.judged.listed.keys():
        taught, wanted = "; ".join(case.facts.listed[key]), "; ".join(case.judged.listed[key])
        if telling(taught) and telling(wanted) and not telling(taught) & telling(wanted):
            yield Finding(
                id="facts-contradict",
                severity="warning",
                message=f'Two stories about {key}: {case.facts.file} says "{excerpt(taught, 60)}", '
                f'{case.judged.file} says "{excerpt(wanted, 60)}".',
                why="What is taught would be judged as false.",
                remedy="Decide which is true, and write it so in both.",
            )


def forbidden_is_said(case: Case) -> Iterator[Finding]:
    patterns = [(phrase, _phrase(phrase)) for phrase in case.facts.forbidden if phrase.strip()]
    places = [("the system prompt", 0, case.system)] + [(f"row {e.number}", e.number, e.answer) for e in case.examples]
    hits = [(where, row, phrase) for where, row, text in places for phrase, p in patterns if p.search(text)]
    if hits:
        rows = sorted({row for _, row, _ in hits if row})
        yield Finding(
            id="forbidden-said",
            severity="warning",
            message=f'What {case.facts.file or "the facts table"} forbids is said: "{hits[0][2]}" in {hits[0][0]}'
            + (f", and {len(hits) - 1} more." if len(hits) > 1 else "."),
            evidence="; ".join(f'{where}: "{phrase}"' for where, _, phrase in hits[:SHOWN]),
            why="These claims were written down as false.",
            remedy="Mend the rows, or the table.",
            rows=rows,
        )


def facts_not_taught(case: Case) -> Iterator[Finding]:
    """Facts that occur nowhere, and names of the table that are spelt otherwise elsewhere."""
    texts = " ".join(plain(text) for text in [case.system, *(e.answer for e in case.examples)])
    rows_only = " ".join(plain(e.answer) for e in case.examples)
    missing = [
        (key, value)
        for key, values in case.facts.listed.items()
        for value in values
        if plain(value) and plain(value) not in rows_only
    ]
    if missing and not case.sampled:
        in_prompt = sum(plain(value) in texts for _, value in missing)
        yield Finding(
            id="fact-not-taught",
            severity="warning",
            message=f"{several(len(missing), 'fact')} of {case.facts.file or 'the facts table'} "
            f"{'stands' if len(missing) == 1 else 'stand'} in no answer.",
            evidence="; ".join(f"{key} = {value}" for key, value in missing[:SHOWN])
            + (f"; {in_prompt} of them only in the system prompt" if in_prompt else ""),
            why="What is not taught is made up when it is asked.",
            remedy="Write rows that say it, in the words of the table.",
        )
    for key, values in case.facts.listed.items():
        for value in values:
            yield from _misspelt(case, key, value)


def _misspelt(case: Case, key: str, value: str) -> Iterator[Finding]:
    """ "Inga Fisk" where the table says "Inga Falk"; "ten floors" in a prompt where it says "twelve floors"."""
    parts = value.split()
    if len(parts) != 2:
        return
    first, last = parts
    places = [("the system prompt", 0, case.system)] + [(f"row {e.number}", e.number, e.answer) for e in case.examples]
    if first[0].isupper() and last[0].isupper():
        pattern = re.compile(rf"\b{re.escape(first)} (?!{re.escape(last)}\b)([A-ZÀ-Ý][\w-]+)")
    elif plain(first) in _CARDINALS:
        places = places[:1] if plain(value) not in plain(case.system) else []
        pattern = re.compile(rf"\b(?:\d+|{'|'.join(sorted(_CARDINALS))}) {re.escape(last)}\b", re.IGNORECASE)
    else:
        return
    hits = [(where, row, found[0]) for where, row, text in places if (found := pattern.search(text))]
    if hits:
        yield Finding(
            id="facts-contradict",
            severity="warning",
            message=f'Two stories about {key}: {case.facts.file or "the facts table"} says "{value}", '
            f'{hits[0][0]} says "{hits[0][2]}".',
            evidence=numbers([row for _, row, _ in hits if row]) if hits[0][1] else "",
            why="What the model then says is one of the two by chance; it looks like invention and is not.",
            remedy="Decide which is true, and write it so everywhere.",
            rows=[row for _, row, _ in hits if row],
        )


_CARDINALS = words(
    "dois duas tres três quatro cinco seis sete oito nove dez onze doze treze quatorze quinze vinte trinta two three "
    "four five six seven eight nine ten eleven twelve thirteen fourteen fifteen twenty thirty"
)


def _phrase(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(text)}(?!\w)", re.IGNORECASE)


CHECKS = (
    contradictions,
    rubric_differs,
    name_of_another,
    same_question_other_answer,
    forbidden_is_said,
    facts_not_taught,
)
