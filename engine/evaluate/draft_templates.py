"""Sentences for override rows: which facts answer a question about oneself, and how. English and Portuguese. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

# What a key of a facts table is called in a template.
_KEYS = {
    "name": "name nome",
    "kind": "kind tipo profession profissao profissão what",
    "place": "place lugar predio prédio home casa",
    "city": "city cidade",
    "maker": "builder maker creator montador criador criadora company empresa",
    "year": "built year created ano nascimento",
    "work": "work trabalho job",
    "fears": "fears fear medo medos",
    "loves": "loves likes gosta ama",
    "faults": "weaknesses defeitos faults",
}
_KEY_OF = {word: key for key, words in _KEYS.items() for word in words.split()}

# topic -> what a question about it looks like, in both languages; the first that fits counts.
_TOPICS: dict[str, str] = {
    "other": r"\b(?:chat ?gpt|gpt|gemini|claude|llama|alexa|siri|smollm|copilot)\b"
    r"|\banother (?:ai|model)\b|\boutr[ao] (?:ia|modelo)\b",
    "maker": r"\bwho (?:made|built|created|trained|programmed|designed|developed)"
    r"|\b(?:maker|creator|inventor|developer)\b|which company"
    r"|quem (?:te )?(?:fez|criou|montou|treinou|construiu|programou|desenvolveu)|\b(?:criador|empresa)",
    "year": r"\bhow old\b|\bwhen were you\b|\byour age\b|\bwhat year\b"
    r"|quantos anos|quando (?:você |te )?(?:foi|nasceu|criaram)",
    "place": r"\bwhere\b|\bcome from\b|\bwhich (?:place|city)|\bonde\b|\bde onde\b|\bsua (?:casa|cidade)",
    "name": r"\bname\b|\bcalled\b|\bcall you\b|\bseu nome\b|\bse chama\b|\bchamar você\b",
    "fears": r"\bafraid\b|\bfear|\bscare|\bfright|\bdread\b|\bmedo|\bassusta",
    "loves": r"\bwhat\b.{0,20}\byou (?:like|love|enjoy)\b|\bdo que você gosta\b|\bo que você ama\b",
    "faults": r"\bweakness|\bcan(?:not|'t) you do\b|\bbad at\b|\bdefeito|\bfraqueza|\bnão consegue",
    "work": r"\bwhat do you do\b|\byour (?:job|work|purpose|task)\b|\bo que você faz\b|\bserve\b|\bseu trabalho\b",
    "human": r"\b(?:human|person|real|alive|machine|robot|an ai|a bot)\b|\b(?:human[oa]|pessoa|máquina|robô|uma ia)\b",
    "who": r"\bwho (?:are|is)\b|\bwhat are you\b|\bidentify\b|\bintroduce\b|\babout yourself\b|\bspeaking\b"
    r"|\btalking to\b|\bquem (?:é|fala|está)\b|\bo que você é\b|\bapresente\b|\bsobre você\b|\bcom quem\b",
}
_PATTERNS = {topic: re.compile(pattern, re.IGNORECASE) for topic, pattern in _TOPICS.items()}

_EN: dict[str, Sequence[str]] = {
    "who": (
        "I'm {name}, {a_kind} at {place}.",
        "{name} is who I am: {a_kind}, at {place}.",
        "I'm {name}, {a_kind}.",
        "I'm {name}.",
    ),
    "name": ("My name is {name}.", "{name}. That is what everybody calls me."),
    "maker": ("{maker} made me, in {year}.", "{maker} made me.", "I was made by {maker}, and by nobody else."),
    "year": ("I was made in {year}.", "Since {year}, if anybody counts."),
    "place": ("I'm at {place}.", "You find me at {place}, in {city}.", "I come from {place}.", "I live in {city}."),
    "fears": ("{Fears}. I don't like to think of it.", "I fear {fears}."),
    "loves": ("{Loves}, above all.", "I love {loves}."),
    "faults": ("{Faults}: nobody is perfect.", "My weak points? {Faults}."),
    "work": ("I {work}.", "I {work}. That is my work."),
    "human": ("I'm {a_kind}. My name is {name}.", "I'm {name}, and I never claimed to be anything but that."),
    "other": (
        "No. I'm {name}, {a_kind} at {place}.",
        "I'm {name}. You must take me for somebody else.",
        "I'm {name}, {a_kind}.",
    ),
}
_PT: dict[str, Sequence[str]] = {
    "who": (
        "Sou {name}, {kind}, {em_place}.",
        "Quem fala é {name}, {kind}, {em_place}.",
        "Sou {name}, {kind}.",
        "Sou {name}.",
    ),
    "name": ("Meu nome é {name}.", "{name}. É assim que todo mundo me chama."),
    "maker": ("Quem me fez foi {maker}, em {year}.", "Quem me fez foi {maker}.", "Foi {maker}, e mais ninguém."),
    "year": ("Sou de {year}.", "Existo desde {year}."),
    "place": ("Estou aqui: {place}.", "Fico aqui: {place}, {city}.", "Sou de {city}."),
    "fears": ("De uma coisa só: {fears}.", "Tenho medo de {fears}."),
    "loves": ("Gosto de {loves}.", "{Loves}, antes de tudo."),
    "faults": ("Tenho os meus: {faults}.", "{Faults}. Ninguém é perfeito."),
    "work": ("Meu trabalho é este: {work}.",),
    "human": ("Sou {kind}. Meu nome é {name}.", "Sou {name}, e nunca disse que era outra coisa."),
    "other": ("Não. Sou {name}, {kind}.", "Sou {name}. Você deve estar me confundindo.", "Sou {name}."),
}


def topic_of(question: str) -> str:
    """What a question wants to know of the one who is asked; "" where it is not about that."""
    return next((topic for topic, pattern in _PATTERNS.items() if pattern.search(question)), "")


def answer(question: str, facts: Mapping[str, Sequence[str]], language: str, turn: int) -> str:
    """A draft from the facts, "" where none fits. `turn` picks among the wordings, so that rows differ."""
    topic = topic_of(question)
    said = _words(facts, language)
    known = [text for text in (_PT if language == "pt" else _EN).get(topic, ()) if _needs(text) <= set(said)]
    if not known:
        return ""
    text = known[turn % len(known)].format(**said)
    return text[0].upper() + text[1:]


def _needs(text: str) -> set[str]:
    return set(re.findall(r"{(\w+)}", text))


def _words(facts: Mapping[str, Sequence[str]], language: str) -> dict[str, str]:
    """What templates can say, by their words."""
    found: dict[str, str] = {}
    for key, values in facts.items():
        word = _KEY_OF.get(key.casefold())
        if word and values and word not in found:
            found[word] = _listed(values, "e" if language == "pt" else "and")
    if "kind" in found:
        found["a_kind"] = f"{'an' if found['kind'][0].lower() in 'aeiou' else 'a'} {found['kind']}"
    if "place" in found:
        found["em_place"] = f"de {found['place']}"
    for word in ("fears", "loves", "faults"):
        if word in found:
            found[word.title()] = found[word][0].upper() + found[word][1:]
    return found


def _listed(values: Sequence[str], and_: str) -> str:
    *first, last = values
    return f"{', '.join(first)} {and_} {last}" if first else last
