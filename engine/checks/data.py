"""The rows as a set: what was left out, what stands in it twice, turns that are broken."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import pairwise
from statistics import median

from engine.contract.calls import Finding

from .case import Case, Example
from .words import SHOWN, alike, excerpt, leaning, near_pairs, numbers, plain, several, shingles, small, without_code

NEARLY = 0.6  # shared three-word runs of near-duplicates
LIKELY = 0.4  # from here on they are compared word by word
LONG = 8  # times the median answer
_BROKEN_TEXT = re.compile(
    r"Ã[\u0080-\u00bf]|â€[™œ\u009d“”¦]|\ufffd|&(?:amp|lt|gt|quot|nbsp|#39);|</?(?:br|p|div|span)\s*/?>"
)
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\u202a-\u202e\u2060\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
)
_OPEN_WORDS = {
    "": "and or but the a an of to with because e ou mas que de com porque um uma para",
    "es": "y o pero que de con porque un una para el los las en",
    "de": "und oder aber dass weil der die das ein eine mit von zu",
    "fr": "et ou mais que de avec parce le les un une des pour",
    "it": "e o ma che di con perché il gli un una per",
}
_OPEN_ENDS = {
    language: re.compile(rf"(?:[,;(\-–]|(?<!\w)(?:{'|'.join(listed.split())}))$", re.IGNORECASE)
    for language, listed in _OPEN_WORDS.items()
}


def rows_dropped(case: Case) -> Iterator[Finding]:
    dropped = sum(case.funnel.dropped.values()) - len(case.too_long)
    if dropped > 0 and case.rows:
        funnel = case.funnel
        rows = sorted(row for each in case.dropped.values() for row in each)
        held = f", {funnel.heldout:,} held out" if funnel.heldout else ""
        yield Finding(
            id="rows-dropped",
            severity="warning",
            message=f"{dropped:,} of {funnel.read:,} rows are not used; {len(case.rows):,} are trained on{held}.",
            evidence="; ".join(f"{count:,}: {why}" for why, count in funnel.dropped.items())
            + (f" ({numbers(rows)})" if rows else ""),
            why="Rows that vanish without a word make the set smaller than its author believes.",
            remedy="Mend these rows, or leave them out on purpose.",
            rows=rows[:1000],
        )


def duplicates(case: Case) -> Iterator[Finding]:
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for example in case.examples:
        groups[_said(example)].append(example.number)
    twins = [rows for rows in groups.values() if len(rows) > 1]
    if twins:
        extra = sum(len(rows) - 1 for rows in twins)
        yield Finding(
            id="duplicate-rows",
            severity="warning",
            message=f"{several(extra, 'row', 'repeat', of=len(case.examples))} another word for word.",
            evidence="; ".join(" = ".join(map(str, rows[:SHOWN])) for rows in twins[:SHOWN]),
            why="They count as often as they stand there, and are learned by heart first.",
            remedy="Keep one of each.",
            rows=sorted(row for rows in twins for row in rows[1:]),
        )


def _said(example: Example) -> tuple[str, ...]:
    return tuple(plain(turn.content) for turn in example.turns if turn.role != "system")


def near_duplicates(case: Case) -> Iterator[Finding]:
    texts = [plain(f"{example.question} {example.answer}") for example in case.examples]
    pairs = [(i, j) for i, j in near_pairs(texts, LIKELY) if texts[i] != texts[j] and _same_matter(texts[i], texts[j])]
    if not pairs:
        return
    rows = sorted({case.examples[j].number for _, j in pairs})
    first = case.examples[pairs[0][1]]
    yield Finding(
        id="near-duplicates",
        severity="warning",
        message=f"{several(len(rows), 'row', 'say', of=len(texts))} nearly the same as another.",
        evidence="; ".join(f"{case.examples[i].number} ~ {case.examples[j].number}" for i, j in pairs[:SHOWN])
        + f": {excerpt(first.answer or first.question)}",
        why="They teach nothing new, and the set looks larger than it is.",
        remedy="Keep the better one of each pair, or say it in really different words.",
        rows=rows,
    )


def _same_matter(one: str, other: str) -> bool:
    """Texts made from one pattern differ in a number or in most of their few words: those are meant to be alike."""
    first, second = one.split(), other.split()
    different = set(first) ^ set(second)
    if min(len(set(first)), len(set(second))) < 8 or any(any(c.isdigit() for c in word) for word in different):
        return False
    return alike(shingles(first), shingles(second)) >= NEARLY or _reworded(first, second)


def _reworded(first: list[str], second: list[str]) -> bool:
    """Whether words were only added or left out, or small words changed for others."""
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    changed = [first[a:b] + second[c:d] for kind, a, b, c, d in matcher.get_opcodes() if kind == "replace"]
    return matcher.ratio() >= 0.85 and all(small(word) for each in changed for word in each)


def same_answer(case: Case) -> Iterator[Finding]:
    by_answer: dict[str, list[int]] = defaultdict(list)
    different: dict[tuple[str, ...], Example] = {}  # without rows that repeat another: `duplicates` tells of those
    for example in case.chats:
        different.setdefault(_said(example), example)
    for example in different.values():
        if plain(example.answer):
            by_answer[plain(example.answer)].append(example.number)
    if not by_answer:
        return
    rows = max(by_answer.values(), key=len)
    text = next(example.answer for example in case.chats if example.number == rows[0])
    # "Yes." may well answer some questions, but not half of them.
    most = 0.1 if len(text.split()) >= 3 else 0.5
    if len(rows) >= 3 and len(rows) > most * len(different):
        yield Finding(
            id="same-answer",
            severity="warning",
            message=f"{len(rows):,} of {len(different):,} different questions have the same answer.",
            evidence=f"{numbers(rows)}: {excerpt(text)}",
            why="The model learns to say that whatever it is asked.",
            remedy="Answer each question for itself.",
            rows=rows,
        )


def roles_out_of_order(case: Case) -> Iterator[Finding]:
    wrong = [(example.number, why) for example in case.chats if (why := _disorder(example))]
    if wrong:
        rows = [number for number, _ in wrong]
        yield Finding(
            id="roles-out-of-order",
            severity="warning",
            message=f"In {several(len(rows), 'row')} the turns do not alternate between user and assistant.",
            evidence=f"{numbers(rows)}; {wrong[0][1]} in row {rows[0]}",
            why="Many templates refuse such rows, and answers without a question teach talking unasked.",
            remedy="Begin with the user (after a system turn), alternate, and end with the assistant.",
            rows=rows,
        )


def _disorder(example: Example) -> str:
    roles = [turn.role for turn in example.turns]
    if roles and roles[0] == "system":
        roles = roles[1:]
    if "system" in roles:
        return "a system turn in the middle"
    if roles and roles[0] == "assistant":
        return "the assistant begins"
    for before, after in pairwise(roles):
        if before == after:
            return f"two {after} turns in a row"
    return "the user has the last word" if roles and roles[-1] == "user" else ""


def broken_turns(case: Case) -> Iterator[Finding]:
    empty = [e.number for e in case.chats if any(t.role == "user" and not t.content.strip() for t in e.turns)]
    if empty:
        yield Finding(
            id="empty-question",
            severity="warning",
            message=f"In {several(len(empty), 'row')} the user says nothing.",
            evidence=numbers(empty),
            why="The answer then answers nothing.",
            remedy="Write the question, or take the row out.",
            rows=empty,
        )
    dots = [e.number for e in case.examples if any(re.fullmatch(r"[\W_]+", a) for a in e.answers)]
    if dots:
        yield Finding(
            id="answer-without-words",
            severity="warning",
            message=f"{several(len(dots), 'row', 'have')} an answer without a single word.",
            evidence=numbers(dots),
            remedy="Write the answer, or take the row out.",
            rows=dots,
        )
    # "Hello" answers "Hello".
    echoes = [e.number for e in case.chats if len(plain(e.answer).split()) > 3 and plain(e.question) == plain(e.answer)]
    if echoes:
        yield Finding(
            id="answer-is-question",
            severity="warning",
            message=f"In {several(len(echoes), 'row')} the answer repeats the question.",
            evidence=numbers(echoes),
            why="The model learns to echo.",
            remedy="Write the answer, or take the row out.",
            rows=echoes,
        )


def cut_answers(case: Case) -> Iterator[Finding]:
    cut = [e.number for e in case.chats if len(e.answer) >= 30 and _stops_short(e.answer)]
    if cut:
        text = next(e.answer for e in case.chats if e.number == cut[0])
        yield Finding(
            id="answer-cut-off",
            severity="warning",
            message=f"{several(len(cut), 'row', 'have')} an answer that stops in the middle of a sentence.",
            evidence=f"{numbers(cut)}: …{excerpt(text[-60:])}",
            why="The end token is then learned after half a sentence.",
            remedy="Write the answer to its end.",
            rows=cut,
        )


def _stops_short(text: str) -> bool:
    patterns = (_OPEN_ENDS.get(each, _OPEN_ENDS[""]) for each in ("", *leaning(text)))
    return any(pattern.search(text.rstrip()) for pattern in patterns)


def damaged_text(case: Case) -> Iterator[Finding]:
    broken = [(e.number, found) for e in case.examples if (found := _search(_BROKEN_TEXT, e))]
    if broken:
        rows = [number for number, _ in broken]
        yield Finding(
            id="damaged-text",
            severity="warning",
            message=f"{several(len(rows), 'row', 'hold')} characters of a wrong encoding, or remains of HTML.",
            evidence=f"{numbers(rows)}: {broken[0][1]}",
            why="The model learns to write them.",
            remedy="Save the source as UTF-8 and strip the markup.",
            rows=rows,
        )
    hidden = [e.number for e in case.examples if _search(_HIDDEN, e)]
    if hidden:
        yield Finding(
            id="hidden-characters",
            severity="warning",
            message=f"{several(len(hidden), 'row', 'hold')} characters that nobody sees.",
            evidence=numbers(hidden),
            why="Control, zero-width and direction characters are learned like letters, and can hide text.",
            remedy="Take them out.",
            rows=hidden,
        )


def _search(pattern: re.Pattern[str], example: Example) -> str:
    return next((found[0] for turn in example.turns if (found := pattern.search(without_code(turn.content)))), "")


def length_outliers(case: Case) -> Iterator[Finding]:
    lengths = [len(example.answer.split()) for example in case.examples]
    if len(lengths) < 10:
        return
    middle = median(lengths)
    long = [e.number for e, words in zip(case.examples, lengths, strict=True) if words > max(LONG * middle, 120)]
    if long and len(long) <= 0.1 * len(lengths):
        yield Finding(
            id="length-outliers",
            severity="warning",
            message=f"{several(len(long), 'row', 'have')} an answer more than {LONG} times as long as usual.",
            evidence=f"{numbers(long)}; up to {max(lengths):,} words, usual are {middle:.0f}",
            why="Every token counts alike, so these rows weigh as much as many others together.",
            remedy="Shorten them, or split them into several questions.",
            rows=long,
        )


CHECKS = (
    rows_dropped,
    duplicates,
    near_duplicates,
    same_answer,
    roles_out_of_order,
    broken_turns,
    cut_answers,
    damaged_text,
    length_outliers,
)
