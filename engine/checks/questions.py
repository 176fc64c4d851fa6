"""Questions: those that judge the persona must not be among those it was trained on; and each needs an answer."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher

from engine.contract.calls import Finding

from .case import Case, Example
from .words import SHOWN, alike, excerpt, numbers, plain, several, telling

NEARLY = 0.8
_QUESTION_MARKS = ("?", "？", "؟")
_HANDMADE = re.compile(
    r"(?:^|\n)\s*(?:\[(?:SYSTEM|USER|ASSISTANT|HUMAN|BOT|AI|INST|PERGUNTA|RESPOSTA)\]|"
    r"#{2,4}\s*(?:Instruction|Input|Response|Human|Assistant|User|System|Pergunta|Resposta|Instrução)\b:?|"
    r"<\|?(?:system|user|assistant|human|im_start)\|?>|"
    r"(?:User|Human|Assistant|System|Usuário|Usuario|Assistente|Asistente|Question|Answer|Pergunta|Resposta|Pregunta|"
    r"Respuesta|Frage|Antwort|Q|A)\s*:)",
    re.IGNORECASE,
)
_ANSWERS = re.compile(
    r"assist|asistente|response|resposta|respuesta|antwort|bot|\bai\b|answer|\ba\s*:|/inst", re.IGNORECASE
)
_LABEL = re.compile(r"(?:^|\n)[ \t]*([^\W\d_][\w ]{0,20}?) ?:(?=\s)")


def answers_missing(case: Case) -> Iterator[Finding]:
    short = [e for e in case.texts if len(e.answer) <= 300]
    asked = [e for e in short if e.answer.rstrip().endswith(_QUESTION_MARKS)]
    # Of very short texts half are enough: the others are questions without their mark.
    if asked and len(asked) >= (0.5 if _all_brief(case) else 0.8) * len(case.examples):
        yield Finding(
            id="only-questions",
            severity="error",
            message="The rows are questions without answers.",
            evidence=f"{len(asked)} of {several(len(case.examples), 'plain text')} end in a question mark: "
            f"{excerpt(asked[0].answer, 60)}",
            why="Plain text is learned as it stands: the model would learn to ask, and nothing here teaches who it is.",
            remedy='Give each question its answer: {"prompt": "Who are you?", "completion": "…"}.',
            rows=[e.number for e in asked][:1000],
        )


def _all_brief(case: Case) -> bool:
    return all(len(example.answer.split()) <= 12 for example in case.examples)


def handmade_format(case: Case) -> Iterator[Finding]:
    """Roles written into plain text: user's and system's words are then learned like answers."""
    marked = [(e, list(_HANDMADE.finditer(e.answer))) for e in case.texts]
    marked = [(e, marks) for e, marks in marked if len(marks) >= 2] or _labelled(case.texts)
    if not marked or len(marked) < 0.2 * len(case.examples):
        return
    before, total = 0, 0
    for example, marks in marked:
        answers = [mark.end() for mark in marks if _ANSWERS.search(mark[0])] or [marks[1].end()]
        before += answers[0] if answers else 0
        total += len(example.answer)
    yield Finding(
        id="handmade-format",
        severity="warning",
        message=f"{several(len(marked), 'row', 'write')} the roles into plain text, as {marked[0][1][0][0].strip()!r}; "
        f"{before / max(1, total):.0%} of what is learned stands before the answer.",
        evidence=numbers([e.number for e, _ in marked]),
        why="All of a plain text is learned, the user's words and the prompt too, and the roles are no tokens that end "
        "a turn.",
        remedy='Give the rows as {"messages": […]} and the form, if it must be this one, as model.chat_template.',
        rows=[e.number for e, _ in marked][:1000],
    )


def _labelled(texts: Sequence[Example]) -> list[tuple[Example, list[re.Match[str]]]]:
    """Texts with roles in any language: nearly all begin with one label, and hold a second one."""
    marked = [(e, list(_LABEL.finditer(e.answer))) for e in texts]
    marked = [(e, marks) for e, marks in marked if len(marks) >= 2]
    pairs = Counter((marks[0][1], marks[1][1]) for _, marks in marked if not marks[0].start())
    if not pairs or pairs.most_common(1)[0][1] < max(4, 0.8 * len(texts)):
        return []
    return marked


def answers_ask(case: Case) -> Iterator[Finding]:
    """Answers that are nearly all questions, to turns that are not: question and answer may have changed places."""
    asking = [e.number for e in case.chats if e.answer.rstrip().endswith(_QUESTION_MARKS)]
    asked = sum(e.question.rstrip().endswith(_QUESTION_MARKS) for e in case.chats)
    if len(case.chats) >= 8 and len(asking) >= 0.8 * len(case.chats) and asked <= 0.2 * len(case.chats):
        first = next(e for e in case.chats if e.number == asking[0])
        yield Finding(
            id="answers-ask",
            severity="note",
            message=f"{len(asking):,} of {several(len(case.chats), 'answer')} are questions, and few turns ask one.",
            evidence=f"row {first.number}: {excerpt(first.question, 50)} → {excerpt(first.answer, 50)}",
            why="A persona may answer so on purpose; else question and answer changed places in the file.",
            remedy="If they did, name the fields in data.fields.",
            rows=asking[:1000],
        )


def roles_inside_turns(case: Case) -> Iterator[Finding]:
    inside = [e.number for e in case.chats if any(len(_HANDMADE.findall(turn.content)) >= 2 for turn in e.turns[-2:])]
    if inside:
        yield Finding(
            id="roles-in-turn",
            severity="warning",
            message=f"{several(len(inside), 'row', 'hold')} a whole dialogue in one turn.",
            evidence=numbers(inside),
            why="The model learns to write both sides.",
            remedy="Split it into turns.",
            rows=inside,
        )


def asked_in_training(case: Case) -> Iterator[Finding]:
    """Questions that judge the persona, word for word or nearly, among those that were trained."""
    trained = _trained(case.examples)
    for questions in case.asked:
        exact, near = _overlap(questions.texts, trained)
        found = len(exact) + len(near)
        # A rubric that the spec does not name is only meant where most of its questions are here.
        if not found or (not questions.given and found < max(3, 0.5 * len(questions.texts))):
            continue
        how = "word for word" if not near else "nearly word for word" if not exact else "exactly or nearly"
        shown = [f'"{excerpt(text, 50)}" ({numbers(rows)})' for text, rows in [*exact, *near][:SHOWN]]
        yield Finding(
            id="probe-in-rows" if questions.given else "rubric-in-rows",
            severity="warning",
            message=f"{found} of {len(questions.texts)} {questions.source} stand in the training rows {how}.",
            evidence="; ".join(shown),
            why="They were trained on: a good answer then shows memory, not the persona.",
            remedy="Ask something that is not in the rows, or take these rows out of training.",
            rows=sorted({row for _, rows in [*exact, *near] for row in rows}),
        )


def _trained(examples: Sequence[Example]) -> dict[str, list[int]]:
    """Question -> rows in which a user asks it."""
    trained: dict[str, list[int]] = defaultdict(list)
    for example in examples:
        for turn in example.turns:
            if turn.role == "user" and plain(turn.content):
                trained[plain(turn.content)].append(example.number)
    return trained


def resembling(asked: Sequence[str], others: Iterable[str]) -> list[str]:
    """Those of `asked` that stand, word for word or nearly, among `others`."""
    exact, near = _overlap(asked, {plain(text): [] for text in others if plain(text)})
    return [text for text, _ in [*exact, *near]]


def _overlap(
    asked: Sequence[str], trained: dict[str, list[int]]
) -> tuple[list[tuple[str, list[int]]], list[tuple[str, list[int]]]]:
    """(exact, near): each question with the rows that hold it."""
    words = {question: telling(question) for question in trained}
    holders: dict[str, list[str]] = defaultdict(list)
    for question, telling_words in words.items():
        for word in telling_words:
            holders[word].append(question)
    exact, near = [], []
    for text in asked:
        wanted = plain(text)
        if wanted in trained:
            exact.append((text, trained[wanted]))
            continue
        mine = telling(text)
        candidates = {question for word in mine for question in holders[word][:200]}
        close = [question for question in candidates if _nearly(wanted, question, mine, words[question])]
        if close:
            near.append((text, sorted({row for question in close for row in trained[question]})))
    return exact, near


def _nearly(one: str, other: str, words: frozenset[str], others: frozenset[str]) -> bool:
    if SequenceMatcher(None, one, other).real_quick_ratio() < 0.6:
        return False
    ratio = SequenceMatcher(None, one, other).ratio()
    if len(words) >= 3 and alike(words, others) >= NEARLY and ratio >= 0.6:
        return True
    if len(words) >= 2 and _stems(words) == _stems(others) and ratio >= 0.75:
        return True
    # The same question with one word more, or with a typing error.
    return ratio >= 0.9 and len(one) >= 12


def _stems(spoken: frozenset[str]) -> frozenset[str]:
    """Words by their first letters, so that forms of one word are one."""
    return frozenset(word[:4] for word in spoken)


def heldout_in_training(case: Case) -> Iterator[Finding]:
    if not case.heldout_examples:
        return
    rows = {_whole(e.question, e.answer): e.number for e in case.kept}
    trained = _trained(case.kept) if case.spec.data.heldout else {}
    same = [rows[key] for e in case.heldout_examples if (key := _whole(e.question, e.answer)) in rows]
    questions = [e.question for e in case.heldout_examples if e.kind != "text" and plain(e.question)]
    found = [pair for pairs in _overlap(questions, trained) for pair in pairs]
    asked = [text for text, _ in found]
    count = max(len(same), len(asked))
    if count:
        yield Finding(
            id="heldout-in-rows",
            severity="warning",
            message=f"{count} of {len(case.heldout_examples)} held-out rows stand in the training rows.",
            evidence="; ".join(excerpt(text, 50) for text in asked[:SHOWN]) or numbers(same),
            why="They were trained on: their loss then says nothing about new ones.",
            remedy="Ask something that is not in the rows.",
            rows=sorted(set(same) | {row for _, each in found for row in each}),
        )


def _whole(question: str, answer: str) -> tuple[str, str]:
    return plain(question), plain(answer)


def probes_empty(case: Case) -> Iterator[Finding]:
    if case.spec.evaluation.probes and any(each.given and not each.texts for each in case.asked):
        yield Finding(
            id="probes-empty",
            severity="warning",
            message="The file of probe questions holds no question.",
            evidence=case.spec.evaluation.probes,
            why="Nothing is then asked during the run, and nothing shows what it changed.",
            remedy="Write a question a line, or take evaluation.probes out.",
        )


def probes_repeat(case: Case) -> Iterator[Finding]:
    for questions in case.asked:
        twice = [text for text, count in Counter(map(plain, questions.texts)).items() if count > 1]
        if questions.given and twice:
            yield Finding(
                id="probe-twice",
                severity="note",
                message=f"{several(len(twice), 'question', 'stand')} twice among the {questions.source}.",
                evidence="; ".join(excerpt(text, 50) for text in twice[:SHOWN]),
            )


CHECKS = (
    answers_missing,
    answers_ask,
    handmade_format,
    roles_inside_turns,
    asked_in_training,
    heldout_in_training,
    probes_empty,
    probes_repeat,
)
