"""The hard gates of self-training: why an answer must not be learned, each with its reason. Pure.

What makes models collapse is learning what nobody looked at: unterminated answers, copies, the base's own identity. A
person chooses only among answers that passed all of these.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import msgspec

from engine.checks.case import Facts
from engine.checks.claims import claims, names_told, same
from engine.checks.facts import forbidden_in, untrue
from engine.checks.words import alike, excerpt, plain, shingles
from engine.contract.curation import Candidate
from engine.contract.rubric import Rubric

from .precheck import precheck

COPIED = 0.8  # of the answer's runs of four words stand in one trained answer
DUPLICATE = 0.6  # likeness of the runs of three words of two answers
_RUN = 4

# How models and their makers are called, and how assistants speak of themselves, where no persona does.
_BASE = re.compile(
    r"\b(?:as an? (?:ai|artificial intelligence|(?:large )?language model|(?:virtual|digital) assistant)\b"
    r"|(?:large )?language models?\b|(?:i am|i['’]m) an? (?:ai\b|artificial intelligence|(?:ai|virtual|digital|helpful)"
    r" (?:assistant|model))|como uma? (?:ia|inteligência artificial|modelo|assistente virtual)\b|modelos? de linguagem"
    r"|sou uma? (?:ia\b|inteligência artificial|modelo|assistente virtual)"
    r"|chatgpt|gpt-?\d|openai|hugging ?face|smollm\d?|deepseek|qwen\d?|tinyllama|llama-?\d|gemini|anthropic"
    r"|trained by (?:google|meta|microsoft|alibaba|mistral|a team)"
    r"|treinad[oa] (?:pela|pelo) (?:google|meta|microsoft))",
    re.IGNORECASE,
)


_ORDINAL = (
    r"first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|primeir[oa]|segund[oa]|terceir[oa]|quart[oa]"
    r"|quint[oa]|sext[oa]|setim[oa]|oitav[oa]|non[oa]|decim[oa]"
)
_CARDINAL = (
    r"\d+|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dois|duas|tres|quatro|cinco|seis|sete|oito|nove"
    r"|dez|onze|doze|treze"
)
_COUNTS = [re.compile(rf"\b({words}) (\w+)") for words in (_ORDINAL, _CARDINAL)]
Noun = tuple[int, str]  # 0 after an ordinal, 1 after a number: "one landing below" is not the first landing


def counted(said: str) -> dict[Noun, set[str]]:
    """The numbers and ordinals right before each noun of a plain text: {(0, "landing"): {"third"}}."""
    found: dict[Noun, set[str]] = defaultdict(set)
    for kind, pattern in enumerate(_COUNTS):
        for count, noun in pattern.findall(said):
            found[kind, noun].add(count)
    return found


@dataclass(frozen=True)
class Standard:
    """What answers are held against: `name` of the persona, `answers` trained, `said` everything a person wrote."""

    rubric: Rubric | None = None
    facts: Facts = field(default_factory=Facts)
    name: str = ""
    answers: Sequence[str] = ()
    said: str = ""

    def says(self, words: str) -> bool:
        """Whether a person wrote these words, whole ones: nobody is called Ed because something "landed"."""
        return f" {plain(words)} " in f" {self.said} "

    @cached_property
    def known(self) -> frozenset[str]:
        """The trained answers, made plain."""
        return frozenset(map(plain, self.answers))

    @cached_property
    def holders(self) -> dict[tuple[str, ...], list[int]]:
        """Run of four words -> the trained answers that hold it."""
        found: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, answer in enumerate(self.answers):
            for run in shingles(plain(answer).split(), _RUN):
                found[run].append(number)
        return found

    @cached_property
    def settled(self) -> dict[Noun, str]:
        """Nouns of the facts table that only ever have one number, as the third landing. A lift tells of all floors."""
        told = counted(self.said)
        facts = {noun: counts for value in self.facts.true.values() for noun, counts in counted(plain(value)).items()}
        return {noun: min(counts) for noun, counts in facts.items() if told.get(noun, counts) == counts}


Gate = Callable[[Candidate, Standard], str]


def judged(candidates: Iterable[Candidate], by: Standard) -> list[Candidate]:
    """The candidates in their order, each with the first gate that refuses it and the reason. Earlier ones go first:
    of two that are alike the second is refused."""
    passed: list[frozenset[tuple[str, ...]]] = []
    found = []
    for candidate in candidates:
        gate, why = refusal(candidate, by, passed)
        if not gate:
            passed.append(shingles(plain(candidate.answer).split()))
        found.append(msgspec.structs.replace(candidate, gate=gate, why=why))
    return found


def refusal(candidate: Candidate, by: Standard, passed: Sequence[frozenset[tuple[str, ...]]] = ()) -> tuple[str, str]:
    """(gate, reason) of the first gate that refuses an answer; two empty texts where none does.

    `passed`: shingles of the answers that were taken before it.
    """
    for name, gate in GATES.items():
        if why := gate(candidate, by):
            return name, why
    return ("duplicate", why) if (why := duplicate(candidate, passed)) else ("", "")


def unfinished(candidate: Candidate, by: Standard) -> str:
    """It did not end by the end token: whoever learns it learns not to stop."""
    if not candidate.answer.strip():
        return "It is empty."
    return "" if candidate.stop == "end" else f"It did not end by itself, {candidate.tokens} tokens long."


def rule(candidate: Candidate, by: Standard) -> str:
    """A rule of the rubric fires, whether it takes points or only hints."""
    hits = precheck(candidate.answer, by.rubric, candidate.stop) if by.rubric else []
    return f"The rule {hits[0].rule} fires: {excerpt(hits[0].about)}" if hits else ""


def identity(candidate: Candidate, by: Standard) -> str:
    """It speaks of itself as the base does. What the person's own rows say is no such thing."""
    for found in _BASE.finditer(candidate.answer):
        if not by.says(found[0]):
            return f"It speaks like the base model: “{found[0]}”."
    return ""


def name(candidate: Candidate, by: Standard) -> str:
    """It gives itself another name."""
    told = {claim.value for claim in claims(candidate.answer, candidate.prompt) if claim.topic == "name"}
    told |= {each for each in names_told(candidate.answer) if not by.says(each)}
    wrong = sorted(each for each in told if by.name and not same(each, plain(by.name)))
    return f"It calls itself {wrong[0].title()}." if wrong else ""


def fact(candidate: Candidate, by: Standard) -> str:
    """It says what the facts table forbids, or tells a fact of it otherwise."""
    if phrase := forbidden_in(candidate.answer, by.facts):
        return f"The facts table forbids “{phrase}”."
    for noun, counts in counted(plain(candidate.answer)).items():
        wrong = sorted(counts - {by.settled[noun]}) if noun in by.settled else []
        if wrong:
            return f"The facts table says “{by.settled[noun]} {noun[1]}”, it says “{wrong[0]} {noun[1]}”."
    claim = untrue(candidate.answer, candidate.prompt, by.facts)
    return f"The facts table tells the {claim.topic} otherwise: “{excerpt(claim.said, 60)}”." if claim else ""


def copy(candidate: Candidate, by: Standard) -> str:
    """It is nearly a trained answer: nothing new would be learned, and what is there already would weigh more."""
    words = plain(candidate.answer).split()
    if " ".join(words) in by.known:
        return "It is a trained answer, word for word."
    runs = shingles(words, _RUN)
    held = Counter(number for run in runs for number in by.holders.get(run, ()))
    number, most = max(held.items(), key=lambda each: (each[1], -each[0]), default=(0, 0))
    if len(words) >= _RUN and most >= COPIED * len(runs):
        return f"{most / len(runs):.0%} of it stands in a trained answer: “{excerpt(by.answers[number], 60)}”."
    return ""


def duplicate(candidate: Candidate, passed: Sequence[frozenset[tuple[str, ...]]]) -> str:
    """It is nearly an answer that was taken already."""
    mine = shingles(plain(candidate.answer).split())
    most = max((alike(mine, other) for other in passed), default=0.0)
    return f"It is {most:.0%} alike with an answer before it." if most >= DUPLICATE else ""


GATES: dict[str, Gate] = {
    "unfinished": unfinished,
    "rule": rule,
    "identity": identity,
    "name": name,
    "fact": fact,
    "copy": copy,
}
