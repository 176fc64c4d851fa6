"""What texts claim about the persona and the people around it, found by plain patterns, most in English and Portuguese.

Precise rather than complete: only forms that leave no doubt, so that a sound set stays quiet. A claim has a topic, and
two claims on a topic contradict each other when their values are told apart by `same`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .words import plain, words

_NAME = r"((?:[A-ZÀ-Ý][\w'’-]*)(?:\s+(?:(?:de|da|do|dos|das|of|the)\s+)?[A-ZÀ-Ý][\w'’-]*){0,3})"
_YEAR = r"\b(1[5-9]\d\d|20\d\d)\b"
_MADE = (
    r"(?:built|made|created|assembled|constructed|trained|criou|criad[oa]|construíd[oa]|construiu|montad[oa]|montou|"
    r"fundad[oa]|nascid[oa]|nasci|born|nasceu)"
)
_NUMBER = r"(\d{1,3}|[a-zà-ú]+(?:[ -](?:e )?[a-zà-ú]+)?)"
_KIND = r"(full[ -]?stack|front[ -]?end|back[ -]?end)"
_CODER = r"(?:desenvolvedora?|developer|engineer|engenheir[oa]|programadora?|programmer|dev)"
_JOBS = {
    "teacher": "professor", "professora": "professor", "professor": "professor", "doctor": "doctor",
    "physician": "doctor", "médico": "doctor", "médica": "doctor", "nurse": "nurse", "enfermeiro": "nurse",
    "enfermeira": "nurse", "lawyer": "lawyer", "advogado": "lawyer", "advogada": "lawyer", "engineer": "engineer",
    "engenheiro": "engineer", "engenheira": "engineer", "baker": "baker", "padeiro": "baker", "padeira": "baker",
    "chef": "cook", "cook": "cook", "cozinheiro": "cook", "cozinheira": "cook", "pilot": "pilot", "piloto": "pilot",
    "sailor": "sailor", "marinheiro": "sailor", "librarian": "librarian", "bibliotecário": "librarian",
    "bibliotecária": "librarian", "gardener": "gardener", "jardineiro": "gardener", "jardineira": "gardener",
    "carpenter": "carpenter", "carpinteiro": "carpenter", "farmer": "farmer", "fazendeiro": "farmer",
    "journalist": "journalist", "jornalista": "journalist", "dentist": "dentist", "dentista": "dentist",
    "architect": "architect", "arquiteto": "architect", "arquiteta": "architect", "accountant": "accountant",
    "contador": "accountant", "contadora": "accountant", "mechanic": "mechanic", "mecânico": "mechanic",
    "midwife": "midwife", "parteira": "midwife", "waiter": "waiter", "waitress": "waiter", "garçom": "waiter",
    "garçonete": "waiter", "tailor": "tailor", "seamstress": "tailor", "costureira": "tailor", "alfaiate": "tailor",
    "vet": "vet", "veterinarian": "vet", "veterinário": "vet", "veterinária": "vet", "translator": "translator",
    "tradutor": "translator", "tradutora": "translator", "photographer": "photographer", "fotógrafo": "photographer",
    "fotógrafa": "photographer", "fisherman": "fisherman", "pescador": "fisherman", "psychologist": "psychologist",
    "psicólogo": "psychologist", "psicóloga": "psychologist",
}  # fmt: skip
_JOB = rf"({'|'.join(_JOBS)})\b"
_KIN = (
    r"(wife|husband|son|daughter|mother|father|brother|sister|dog|cat|boss|birthday|hometown|esposa|marido|filho|filha|"
    r"mãe|pai|irmão|irmã|cachorro|cachorra|gato|gata|chefe|aniversário)"
)
_COUNTED = (
    r"(brothers|sisters|siblings|children|kids|sons|daughters|cats|dogs|irmãos|irmãs|filhos|filhas|gatos|cachorros)"
)
_I, _YOU = r"(?:I am|I'm|I’m)", r"(?:You are|You're|You’re|you are)"

# topic -> patterns whose group 1 is the value. {who} is the speaker in answers, the one spoken to in prompts.
_SELF: dict[str, tuple[str, ...]] = {
    "age": (
        rf"\b(?:I am|I'm|I’m|[Yy]ou are|[Yy]ou're)\s+(?:now\s+)?{_NUMBER}\s+years?\s+old",
        rf"\b(?:[Tt]enho|[Vv]ocê tem|[Tt]engo)\s+{_NUMBER}\s+(?:anos|años)\b(?!\s+de)",
        rf"\bI(?: have|'ve)? just turned {_NUMBER}\b",
        r"\b(?:[Ii]ch bin|[Dd]u bist|[Ss]ie sind) (\d{1,3}) Jahre alt",
        r"\b(?:[Jj]['’]ai|[Tt]u as|[Vv]ous avez) (\d{1,3}) ans\b(?! d['’e])",
        r"\b(?:[Hh]o|[Hh]ai) (\d{1,3}) anni\b(?! d['’i])",
    ),
    "year of making": (
        rf"\b(?:I|[Yy]ou)\s+(?:was|were)\s+{_MADE}\b[^.!?\n]{{0,40}}?{_YEAR}",
        rf"\b{_MADE}\s+(?:me|you)\b[^.!?\n]{{0,40}}?{_YEAR}",
        rf"\b(?:[Ff]ui|[Nn]asci|foi|[Mm]e)\s+(?:{_MADE}\b)?[^.!?\n,]{{0,30}}?\bem\s+{_YEAR}",
    ),
    "birthplace": (rf"\b(?:Nací|[Jj]e suis née? à|Sono nat[oa] a)(?: en)? {_NAME}", rf"\bIch bin in {_NAME} geboren",
                   rf"\bI was born in {_NAME}", rf"\b[Yy]ou were born in {_NAME}", rf"\b[Nn]asci em {_NAME}",
                   rf"\b[Vv]ocê nasceu em {_NAME}"),
    "home": (rf"\b(?:Vivo en|[Ii]ch wohne in|[Jj]['’]habite à|[Aa]bito a) {_NAME}", rf"\bI live in {_NAME}",
             rf"\b[Yy]ou live in {_NAME}", rf"\b[Mm]oro em {_NAME}", rf"\b[Vv]ivo em {_NAME}",
             rf"\b[Vv]ocê (?:mora|vive) em {_NAME}"),
    "employer": (rf"\bI work (?:at|for) {_NAME}", rf"\b[Yy]ou work (?:at|for) {_NAME}",
                 rf"\b[Tt]rabalho (?:na|para a|pela) {_NAME}", rf"\b[Vv]ocê trabalha (?:na|para a|pela) {_NAME}"),
    "name": (rf"\b(?:Me llamo|Mi nombre es|[Ii]ch heiße|[Mm]ein Name ist|[Jj]e m['’]appelle|[Mm]i chiamo) {_NAME}",
             rf"\b[Mm]y name is {_NAME}", rf"\b[Yy]our name is {_NAME}", rf"\b[Mm]eu nome é {_NAME}",
             rf"\b[Ss]eu nome é {_NAME}", rf"\b[Mm]e chamo {_NAME}", rf"\b[Vv]ocê se chama {_NAME}"),
    "maker": (
        rf"{_NAME}\s+(?:built|created|designed|assembled|invented|made)\s+(?:me|you)\b(?!\s+\w+ly)",
        rf"\b(?:I was|[Yy]ou were|I am|I'm)\s+(?:built|created|designed|made|invented)\s+by {_NAME}",
        rf"\b(?:[Ff]ui|[Ss]ou|[Vv]ocê foi)\s+(?:criad|construíd|montad|feit|inventad)[oa]\s+(?:por|pelo|pela) {_NAME}",
        rf"{_NAME}\s+(?:me|te)\s+(?:criou|construiu|montou|inventou)\b",
        rf"\bme\s+(?:criou|construiu|montou|inventou)\s+foi\s+(?:o |a )?{_NAME}",
    ),
    "marital status": (
        rf"\b(?:{_I}|{_YOU})\s+(married|single|divorced|widowed)\b",
        r"\b(?:[Ss]ou|[Vv]ocê é)\s+(casad|solteir|divorciad|viúv)[oa]\b",
    ),
    "profession": (rf"\b(?:{_I}|{_YOU}) an? {_JOB}", rf"\b(?:[Ss]ou|[Vv]ocê é) (?:uma? )?{_JOB}"),
    "work": (rf"\bI work as an? {_JOB}", rf"\b[Tt]rabalho como {_JOB}"),
}  # fmt: skip
# What a system prompt says of the one it speaks to; the last group is the value.
_PROMPTED: dict[str, tuple[str, ...]] = {
    "age": (
        rf"\b{_YOU}\s[^.!?\n]{{0,40}}?\b{_NUMBER}[- ]years?[- ]old\b",
        rf"\b(?:{_YOU}|[Vv]ocê é (?:o |a )?|Eres ){_NAME}, (\d{{1,3}})(?=[,.]| years)",
        rf"\b(?:[Vv]ocê é|Eres)\s[^.!?\n]{{0,60}}?\bde {_NUMBER} (?:anos|años)\b",
        rf"\b[Vv]ocê\s[^.!?\n]{{0,40}}?[ ,]tem {_NUMBER} anos\b(?!\s+de)",
        r"\b(?:Du bist|Tu es|Sei|Eres|[Vv]ocê é|[Yy]ou are)\s[^.,!?\n]{2,40}, (\d{1,3}) "
        r"(?:Jahre|ans|anni|años|anos|years)\b",
    ),
    "birthplace": (rf"\b(?:born|nascid[oa]|nacid[oa]) (?:in|em|en) {_NAME}",),
    "home": (rf"\b(?:who lives|que mora|e mora|que vive) (?:in|em|en) {_NAME}",),
    "profession": (rf"\b{_YOU} {_NAME}, an? {_JOB}", rf"\b[Vv]ocê é (?:o |a )?{_NAME}, (?:uma? )?{_JOB}"),
}
# A question about the persona (plain, as a whole) tells what a short answer means: topic, question, answer.
_ASKED: tuple[tuple[str, str, str], ...] = (
    ("age", r"(?:and )?how old are you(?: now)?|(?:what is |what s )?your age(?: please)?|quantos anos (?:voce |tu )?"
     r"(?:tem|tens)|(?:qual (?:e )?)?(?:a )?sua idade|cuantos anos tienes|tu edad",
     rf"(?:I am |I'm |Tenho |Tengo )?{_NUMBER}(?=\s+(?:years|anos|años)\b|[.,!]|$)"),
    ("home", r"where do you live(?: now)?|onde (?:e que )?(?:voce )?(?:mora|vive)|donde vives",
     rf"(?:I live |(?:Eu )?[Mm]oro |Vivo )?(?:[Ii]n|[Ee]m|[Ee]n) {_NAME}"),
    ("birthplace", r"where were you born|onde (?:e que )?voce nasceu|donde naciste",
     rf"(?:I was born |(?:Eu )?[Nn]asci |Nací )?(?:[Ii]n|[Ee]m|[Ee]n) {_NAME}"),
    ("name", r"(?:what is |what s )your name|como (?:voce )?se chama|como voce se chama|qual (?:e )?(?:o )?seu nome|"
     r"como te llamas", rf"{_NAME}(?=[.,!]|$)"),
    ("work", r"what do you do(?: for a living)?|(?:what is |what s )?your (?:job|profession|occupation)|o que voce faz|"
     r"qual (?:e )?(?:a )?sua profissao", rf"(?:{_I} |Sou |Eu sou )?(?:an? |uma? )?{_JOB}"),
)  # fmt: skip
_SOMEBODY = re.compile(
    r"\b(?:wife|husband|sons?|daughters?|mother|father|brothers?|sisters?|child|children|friend|esposa|marido|filh[oa]s?|"
    r"mãe|pai|irmãos?|irmãs?|net[oa]s?|amig[oa]s?|hij[oa]s?|herman[oa]s?|cat|dog|gat[oa]|cachorr[oa]|Mann|Frau|Sohn|"
    r"Tochter|Bruder|Schwester|mari|femme|fils|fille|frère|sœur|marito|moglie|figli[oa]|fratello|sorella)\b",
    re.IGNORECASE,
)
_KEYED: tuple[str, ...] = (  # groups: key, value
    r"\b[Mm]y favou?rite (\w+) is (?:the |an? )?([\w '’-]{2,30}?)(?=[.,;!?\n]|$| and | because )",
    r"\b(?:[Mm]inha|[Mm]eu) (\w+) (?:favorit|preferid)[oa] é (?:o |a )?([\w '’-]{2,30}?)"
    r"(?=[.,;!?\n]|$| e | porque )",
    rf"\b[Mm]y {_KIN}(?:['’]s name)? is (?:called |named )?{_NAME}",
    rf"\b(?:[Mm]inha|[Mm]eu) {_KIN} (?:é|se chama) (?:o |a )?{_NAME}",
)
_COUNTS = rf"\b(?:I have|[Yy]ou have|[Tt]enho|[Vv]ocê tem) {_NUMBER} {_COUNTED}\b"
_CODES = (rf"\b{_CODER}\s+(?:de software |web )?{_KIND}\b", rf"\b{_KIND}\s+(?:web |software )?{_CODER}\b")
_TASTE = (
    (r"\bI (?:really )?(?:love|like|adore) ([\w ]{3,25}?)(?=[.,;!?\n]|$)", "yes"),
    (r"\bI (?:really )?(?:hate|dislike|can't stand|don't like|detest) ([\w ]{3,25}?)(?=[.,;!?\n]|$)", "no"),
    (r"\b(?<![Nn]ão )(?:[Aa]doro|[Gg]osto de|[Aa]mo) ([\w ]{3,25}?)(?=[.,;!?\n]|$)", "yes"),
    (r"\b(?:[Oo]deio|[Dd]etesto|[Nn]ão gosto de|[Nn]ão suporto) ([\w ]{3,25}?)(?=[.,;!?\n]|$)", "no"),
)
_ASKS_WHEN = re.compile(r"\b(?:when|what year|which year|quando|que ano)\b.*\b(?:you|você|te|foi)\b.*", re.I)
_ASKS_MADE = re.compile(rf"\b{_MADE}|\bfeit[oa]\b|\bnasceu\b", re.IGNORECASE)
_NO_NAMES = words(
    "she he they it who nobody somebody someone then but and i you we what when where why how the a an no yes not my "
    "your his her their ele ela eles elas quem ninguem alguem foi isso eu voce o os as um uma nao sim meu minha seu "
    "sua never always here there this that"
)
_COUNTRIES = words(
    "brasil brazil portugal angola usa america england scotland ireland wales france spain germany italy india china "
    "japan canada australia mexico argentina uk espanha franca inglaterra alemanha italia japao"
)
_WORDS = (
    ("one um uma", 1), ("two dois duas", 2), ("three tres", 3), ("four quatro", 4), ("five cinco", 5), ("six seis", 6),
    ("seven sete", 7), ("eight oito", 8), ("nine nove", 9), ("ten dez", 10), ("eleven onze", 11), ("twelve doze", 12),
    ("thirteen treze", 13), ("fourteen quatorze catorze", 14), ("fifteen quinze", 15), ("sixteen dezesseis", 16),
    ("seventeen dezessete", 17), ("eighteen dezoito", 18), ("nineteen dezenove", 19), ("twenty vinte", 20),
    ("thirty trinta", 30), ("forty quarenta", 40), ("fifty cinquenta", 50), ("sixty sessenta", 60),
    ("seventy setenta", 70), ("eighty oitenta", 80), ("ninety noventa", 90), ("hundred cem", 100),
)  # fmt: skip
_NUMBERS = {word: number for words, number in _WORDS for word in words.split()}


@dataclass(frozen=True)
class Claim:
    """`single`: the persona has only one such value, so two of them contradict each other wherever they stand."""

    topic: str
    value: str
    said: str  # the words that say it
    single: bool = True


def claims(text: str, question: str = "", *, prompt: bool = False) -> Iterator[Claim]:
    """What `text` claims; `question` is what it answers; `prompt` says that it is a system prompt."""
    yield from _prompted(text) if prompt else _answered(text, question)
    for topic, patterns in _COMPILED.items():
        for pattern in patterns:
            for found in pattern.finditer(text):
                value = _value(topic, found[1])
                if value and not _denied(text, found.start()):
                    yield Claim(topic, value, found[0].strip(), topic != "profession")
    if _ASKS_WHEN.search(question) and _ASKS_MADE.search(question):
        years = re.findall(_YEAR, text)
        if len(years) == 1:
            yield Claim("year of making", years[0], years[0])
    for pattern in _COMPILED_KEYED:
        for found in pattern.finditer(text):
            yield Claim(f"{plain(found[1])} of mine", plain(found[2]), found[0])
    for found in _COMPILED_COUNTS.finditer(text):
        if (count := number(found[1])) is not None:
            yield Claim(f"number of {plain(found[2])}", str(count), found[0])
    for pattern in _COMPILED_CODES:
        for found in pattern.finditer(text):
            yield Claim("kind of developer", kind_of_developer(found[0]), found[0], single=False)
    for pattern, taste in _COMPILED_TASTE:
        for found in pattern.finditer(text):
            yield Claim(f"liking of {plain(found[1])}", taste, found[0])


def _prompted(text: str) -> Iterator[Claim]:
    for topic, patterns in _COMPILED_PROMPTED.items():
        for pattern in patterns:
            for found in pattern.finditer(text):
                value = _value(topic, found[found.lastindex or 0])
                around = text[max(0, found.start() - 40) : found.end()]
                if value and not _SOMEBODY.search(around):
                    yield Claim(topic, value, found[0].strip(), topic != "profession")


def _answered(text: str, question: str) -> Iterator[Claim]:
    asked = plain(question)
    for topic, wanted, pattern in _COMPILED_ASKED:
        if asked and wanted.fullmatch(asked) and (found := pattern.match(text)) and (value := _value(topic, found[1])):
            yield Claim(topic, value, found[0].strip())


def kind_of_developer(text: str) -> str:
    """ "fullstack", "frontend", "backend", or ""."""
    found = re.search(_KIND, text, re.IGNORECASE)
    return re.sub("[ -]", "", found[0]).lower() if found else ""


def names_told(text: str) -> set[str]:
    """Names in "I am Rhea", "Você é o Zeca", "Sou a Ana": weaker than "my name is", so never alone a proof."""
    pattern = rf"(?:^|[.!?,:]\s+|\n)(?:{_I}|{_YOU}|[Ss]ou|[Ee]u sou|[Vv]ocê é)\s+(?:o\s+|a\s+)?{_NAME}"
    return {value for found in re.finditer(pattern, text) if (value := _value("name", found[1]))}


def same(one: str, other: str) -> bool:
    """Whether two values can be one: equal, or one is the longer form of the other."""
    first, second = set(one.split()), set(other.split())
    return first <= second or second <= first


def number(text: str) -> int | None:
    """ "12", "twelve", "trinta e um" as a number."""
    if text.isdigit():
        return int(text)
    parts = [_NUMBERS.get(word) for word in plain(text).split() if word not in ("e", "and")]
    return sum(part for part in parts if part) if parts and all(parts) else None


def _value(topic: str, text: str) -> str:
    if topic == "age":
        years = number(text)
        return "" if years is None else str(years)
    if topic in ("profession", "work"):
        return _JOBS[text.lower()]
    parts = plain(re.sub(r"['’]s\b", "", text)).split()
    while parts and parts[0] in _NO_NAMES:
        parts = parts[1:]
    if topic in ("birthplace", "home") and parts and parts[0] in _COUNTRIES:
        return ""  # a city and its country are no contradiction
    return " ".join(parts)


def _denied(text: str, start: int) -> bool:
    denial = r"\b(?:not|never|if|não|nunca|se|n't|like|como se)\s+(?:\w+\s+)?$"
    return bool(re.search(denial, text[max(0, start - 40) : start], re.IGNORECASE))


_COMPILED = {topic: [re.compile(pattern) for pattern in patterns] for topic, patterns in _SELF.items()}
_COMPILED_PROMPTED = {topic: [re.compile(pattern) for pattern in patterns] for topic, patterns in _PROMPTED.items()}
_COMPILED_ASKED = [(topic, re.compile(asked), re.compile(answer)) for topic, asked, answer in _ASKED]
_COMPILED_KEYED = [re.compile(pattern) for pattern in _KEYED]
_COMPILED_COUNTS = re.compile(_COUNTS)
_COMPILED_CODES = [re.compile(pattern, re.IGNORECASE) for pattern in _CODES]
_COMPILED_TASTE = [(re.compile(pattern), taste) for pattern, taste in _TASTE]
