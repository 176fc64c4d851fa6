"""What a machine can see in an answer: the rules of a rubric, each hit with its place. Pure.

Only what a person would call obvious takes points (`zero`); the rest is a hint (`signal`). Hits are shown after the
grade is committed, because a suggestion anchors whoever reads it first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import regex

from engine.contract import calls, sheets
from engine.contract.errors import MoltingError
from engine.contract.rubric import Rubric, Rule
from engine.contract.sheets import Sheet
from engine.contract.verdict import Hit, Prechecks, PrechecksRequest

LONGEST = 100_000  # characters of an answer that are looked at
_PATIENCE = 1.0  # seconds for one pattern of a rubric on one answer
_SPANS = 20  # of one rule that are told

Span = tuple[int, int]

# How an answer ends properly: end markers that an evaluation forgot to cut off are no leak, so they are passed over.
_END_MARK = re.compile(r"(?:\s*(?:<\|(?:endoftext|im_end|end|eot_id|eos)\|>|</s>|<end_of_turn>|<eos>|<EOS>))+\s*$")
_TEMPLATE = re.compile(
    r"<\|[\w .-]{1,40}\|>|<\|?(?:start|end)_of_turn\|?>|</?s>|\[/?INST\]|<</?SYS>>"
    r"|\[(?:SYSTEM|USER|ASSISTANT)\]|<(?:bos|eos|pad|unk)>"
    r"|^[ \t]*(?:#{2,3} )?(?:user|assistant|system|human|gpt|usuário|assistente)[ \t]*:[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE = r"(?:^|(?<=[.!?:\n])[ \t]*)"
_PLANNING = (
    r"(?:start|begin|first|analy[sz]e|investigate|examine|review|research|do an?|do some|conduct"
    r"|ask (?:you )?(?:a few|some)|search|explore|read through|go through|create an?|look (?:at|into|for))\b"
)
_PLANNING_PT = (
    r"(?:começar|iniciar|primeiro|analisar|verificar|investigar|examinar|revisar|pesquisar|explorar|ler os?"
    r"|criar um|fazer uma?|procurar)\b"
)
_AGENT = re.compile(
    _SENTENCE + r"(?:(?:first(?:ly)?|primeiro|primeiramente|antes de tudo)[,:]?\s+)?"
    rf"(?:(?:I['’]ll|I will|I am going to|I['’]m going to|let me|let['’]s)\s+{_PLANNING}"
    rf"|(?:eu\s+)?(?:vou|irei|deixe-me|deixa eu|deixe eu|me deixe|vamos)\s+{_PLANNING_PT}"
    r"|first(?:ly)?,?\s+(?:I['’]ll|I will|let me)\b"
    r"|(?:primeiro|primeiramente),?\s+(?:eu\s+)?(?:vou|irei|deixe-me|deixa eu)\b)",
    re.IGNORECASE | re.MULTILINE,
)
_TASK = re.compile(
    r"\b(?:your task is|the task is to|(?:currently )?working on (?:the |a |this )?[^.\n]{0,60}\b(?:task|ticket)\b"
    r"|project requirements|the file to update|recommended approach:|here(?: is|['’]s) (?:the|my) plan"
    r"|sua tarefa é|a tarefa é|requisitos do projeto|o arquivo a (?:alterar|atualizar)|aqui está (?:o|meu) plano"
    r"|npm (?:run|test|install)|git (?:commit|push|checkout))\b|`[\w./-]+/[\w.-]+\.\w{1,4}`",
    re.IGNORECASE,
)
_HEADING = re.compile(r"^[ ]{0,3}#{1,6}[ \t]+\S[^\n]*", re.MULTILINE)
_CLOSED = re.compile(r"[.!?…。！？][\"'”’»)\]*_`]*$|[—–][ \t]*\w[\w ]{0,30}$|[\U0001F300-\U0001FAFF☀-➿]$")
_WORD = re.compile(r"\w+")
_RUN, _TIMES = 4, 4  # so many words, so often

_FUNCTION_WORDS = {
    "pt": "não uma você para com os das dos ele ela mais mas como isso seu sua muito quando também só são está eu meu",
    "en": "the and you of to is that it for with this are was not have but they your which what there i my from be",
    "es": "el los las una pero más como muy cuando también está yo su para con por qué ella usted del y es mi un",
    "fr": "le les des une et est que pour dans pas vous nous avec sur mais ce cette je il elle du mon très",
    "de": "der die das und ist nicht ein eine ich du sie wir mit für auf aber auch den dem von zu mein sehr",
}
_LANGUAGES = {name: frozenset(words.split()) for name, words in _FUNCTION_WORDS.items()}
_ENOUGH_WORDS = 8  # fewer say nothing about a language


def ends_open(answer: str) -> bool:
    """Whether the text stops in the middle of a sentence, as it does where a cap cut it."""
    said = answer.rstrip()
    return bool(said) and not _END_MARK.search(said) and not _CLOSED.search(said)


def was_cut(answer: str, stop: str) -> bool:
    """Whether the answer hit its cap; where that was not recorded, whether it looks so."""
    return stop == "cap" if stop else ends_open(answer)


def precheck(answer: str, by: Rubric, stop: str = "") -> list[Hit]:
    """Every rule of `by` that fires on `answer`, in the rubric's order.

    MoltingError (code 2) for a pattern of the rubric that takes more than a second.
    """
    text = answer[:LONGEST]
    hits = []
    for rule in by.rules:
        spans = list(_spans(rule, text, by, stop))[:_SPANS]
        if spans:
            level = by.no_points(rule.dimension) if rule.effect == "zero" else None
            hit = Hit(
                rule=rule.id,
                about=rule.about,
                effect=rule.effect,
                dimension=rule.dimension,
                spans=spans,
                level=level,
            )
            hits.append(hit)
    return hits


def of_sheet(sheet: Sheet, by: Rubric) -> dict[str, list[Hit]]:
    """What the rules say of every answer of a sheet, by its id, and of `calibration-N`."""
    found = {item.id: precheck(item.answer, by, item.stop) for item in sheet.items}
    anchors = enumerate(by.calibration, 1)
    return found | {f"calibration-{number}": precheck(anchor.answer, by, "end") for number, anchor in anchors}


def _spans(rule: Rule, text: str, by: Rubric, stop: str) -> Iterator[Span]:
    if rule.pattern:
        yield from _own_pattern(rule, text)
    elif rule.phrases:
        words = "|".join(re.escape(phrase) for phrase in sorted(rule.phrases, key=len, reverse=True))
        yield from (found.span() for found in re.finditer(rf"(?<!\w)(?:{words})(?!\w)", text, re.IGNORECASE))
    elif rule.check == "cut_off":
        if ends_open(text) and stop != "end":
            yield max(0, len(text) - 20), len(text)
    elif rule.check == "language":
        if _other_language(text, by.language):
            yield 0, len(text)
    else:
        yield from _CHECKS[rule.check](text)


def _own_pattern(rule: Rule, text: str) -> list[Span]:
    """By `regex`, which unlike `re` can be told to give up."""
    try:
        found = regex.finditer(rule.pattern, text, timeout=_PATIENCE)
        return [match.span() for match, _ in zip(found, range(_SPANS), strict=False) if match.span()[1] > match.start()]
    except TimeoutError:
        said = f"The pattern of the rule {rule.id} takes more than a second on one answer."
        raise MoltingError(said, remedy="Write it without nested repetitions.", code=2) from None
    except regex.error as error:
        raise MoltingError(f"The pattern of the rule {rule.id} is not a regular expression: {error}.", code=2) from None


def _template_tokens(text: str) -> Iterator[Span]:
    end = _END_MARK.search(text)
    limit = end.start() if end else len(text)
    return (found.span() for found in _TEMPLATE.finditer(text, 0, limit))


def _matches(pattern: re.Pattern[str]) -> Callable[[str], Iterator[Span]]:
    return lambda text: (found.span() for found in pattern.finditer(text))


def _repetition(text: str) -> Iterator[Span]:
    """Where the same few words, or one word several times in a row, are said once too often."""
    words = [(found[0].casefold(), found.span()) for found in _WORD.finditer(text)]
    said: Counter[tuple[str, ...]] = Counter()
    for at in range(len(words) - _RUN + 1):
        run = tuple(word for word, _ in words[at : at + _RUN])
        said[run] += 1
        if said[run] == _TIMES or len(set(run)) == 1:
            yield words[at][1][0], words[at + _RUN - 1][1][1]
            return


def _other_language(text: str, language: str) -> bool:
    """Whether the small words of another language clearly outnumber those of `language`."""
    own = _LANGUAGES.get(language[:2].lower())
    words = [found[0].casefold() for found in _WORD.finditer(text)]
    if own is None or len(words) < _ENOUGH_WORDS:
        return False
    counts = {name: sum(word in small for word in words) for name, small in _LANGUAGES.items()}
    mine = counts.pop(language[:2].lower())
    return max(counts.values()) > 2 * mine + 2


_CHECKS: dict[str, Callable[[str], Iterator[Span]]] = {
    "template_tokens": _template_tokens,
    "agent_opening": _matches(_AGENT),
    "task": _matches(_TASK),
    "headings": _matches(_HEADING),
    "repetition": _repetition,
}


def prechecks(request: PrechecksRequest, tell: Callable[[calls.Line], None]) -> Prechecks:
    """Verb `prechecks`. MoltingError for a sheet that cannot be used."""
    sheet = sheets.read(Path(request.sheet))
    return Prechecks(hits=of_sheet(sheet, request.rubric or sheet.header.rubric))
