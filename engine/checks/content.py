"""What single rows say that they should not: marks of other models, habits of assistants, leftovers, private things."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

from engine.contract.calls import Finding
from engine.contract.safe import redact
from engine.contract.severity import Severity

from .case import Case, Example
from .template import MARK
from .words import LANGUAGES, excerpt, language, leaning, numbers, plain, several, without_code

# What agents work on, and personas do not.
_WORK = (
    r"(?:code|codebase|files?|repo(?:sitory)?|request|task|documentation|logs|"
    r"(?:the|your|this) (?:project|problem|issue|question|data|input|error))\b"
)
_OPENINGS = re.compile(
    r"(?:^|[.!?]\s+|\n\s*)(?:(?:okay|ok|sure|claro|certo)[,!.]\s+)?(?:"
    r"I(?:'|’)ll (?:start|begin) by|I will (?:start|begin) by|I(?:'|’)ll (?:first|now) |I need to first|"
    r"(?:First, )?I(?:'|’| wi)ll (?:analy[sz]e|examine|inspect) (?:your|the|this)\b|Let me help you with|"
    r"Here(?:'|’| i)s (?:the|my) plan:|Here(?:'|’| i)s an? (?:step-by-step|detailed|comprehensive|updated|revised) |"
    r"(?:I(?:'|’)m|I am) going to (?:start|begin) by|(?:I(?:'|’)ll|I will|Let me) go ahead and |"
    rf"(?:Now )?(?:I(?:'|’)ll|I will|I(?:'|’)m going to|I need to|Let me|Let(?:'|’)s) (?:\w+ ){{1,5}}{_WORK}|"
    r"(?:So,? |Okay,? so )?[Tt]he user (?:wants|asks|is asking|asked|needs|has asked|said)\b|"
    r"(?:First, )?let me (?:first|start|begin|look into|analy[sz]e|examine|explore|investigate)\b|"
    r"Let(?:'|’)s start by|"
    r"(?:Eu )?vou (?:começar|iniciar|primeiro|verificar|analisar (?:o|a|os|as|isso|seu|sua)\b)|"
    r"Primeiro,? (?:eu )?vou|Come[cç]arei|(?:Eu )?vou dar uma olhada|O usuário (?:quer|pediu|perguntou)|"
    r"Deixe-me|Deixa eu (?:primeiro|verificar|analisar|checar|começar)|Permita-me|"
    r"(?:Primero,? )?voy a (?:empezar|comenzar|revisar|analizar|verificar|comprobar)|Déjame (?:primero|empezar|ver)|"
    r"Je vais (?:commencer|d'abord|analyser|vérifier)|"
    r"Ich werde (?:zuerst|zunächst)|Zuerst werde ich|Lassen? (?:Sie )?mich (?:zuerst|zunächst)|"
    r"(?:Prima|Per prima cosa),? (?:analizz|controll|verific)|Fammi (?:controllare|verificare|analizzare))",
    re.IGNORECASE,
)
_HEADING = re.compile(r"^#{1,6} \S", re.MULTILINE)
_TOOL_TALK = re.compile(r"<(?:tool_call|function_call|think|thinking)>|^(?:Thought|Action|Observation): ", re.MULTILINE)
_AM = r"\b(?:I am|I'm|I’m|as|(?:eu )?sou|como|soy|ich bin|als|je suis|en tant que|sono|come)\s+"
_A = r"(?:an?\s+|o\s+|a\s+|uma?\s+|una?\s+|eine?\s+|une?\s+)?"
_AI = (
    r"(?:AI|IA|KI|artificial intelligence|virtual assistant|assistente virtual|asistente virtual|"
    r"intelig[êe]ncia artificial|künstliche Intelligenz|intelligence artificielle|intelligenza artificiale)\b"
)
_OTHER_SELF = re.compile(
    rf"{_AM}(?:just\s+|only\s+|apenas\s+|só\s+|nur\s+|solo\s+)?{_A}(?:"
    r"AI language model|large language model|language model|modelo de (?:linguagem|lenguaje)|(?:KI-)?Sprachmodell|"
    r"modèle de langage|modello linguistico|"
    r"ChatGPT|GPT-?\d|Claude|Gemini|Bard|Copilot|Siri|Alexa|LLaMA|Llama|Mistral|Qwen|SmolLM|DeepSeek|TinyLlama)\b"
    rf"|{_AM}(?:just|only|merely|apenas|só|nur|solo|juste|seulement)\s+{_A}{_AI}"
    rf"|(?:^|[.!?]\s+)(?:as|como|als|en tant qu(?:e |'|’)|come)\s*{_A}{_AI}\b"
    r"|\bmy (?:last |latest )?(?:knowledge|training)(?: data)? (?:update|cut-?off)\b"
    r"|\bminha (?:última )?atualização de conhecimento\b"
    r"|\b(?:trained|developed|created|built|made|treinad[oa]|desenvolvid[oa]|criad[oa]|entrenad[oa]|desarrollad[oa]|"
    r"cread[oa]|entwickelt|trainiert|développée?|entraînée?|créée?|sviluppat[oa]|addestrat[oa]|creat[oa]) "
    r"(?:by|pela|pelo|por|von|par|da) "
    r"(?:OpenAI|Anthropic|Google|Meta AI|Mistral AI|Hugging ?Face|DeepSeek|Alibaba|Microsoft)\b",
    re.IGNORECASE,
)
_NOT = re.compile(
    r"\b(?:not|never|no|isn't|wasn't|n't|não|nunca|nem|jamais|nicht|kein|pas|non|mica)\b[^.!?]{0,25}$", re.IGNORECASE
)
_LEFTOVER = re.compile(
    r"(?m:^|[\[(])TODO\b|\bTODO[:(]|\b(?:FIXME|TBD|XXX)\b|(?i:lorem ipsum)|\{\{[^{}\n]{0,60}\}\}|"
    r"<(?i:name|nome|city|cidade|insert[^>\n]{0,40}|your [^>\n]{0,40}|seu nome|placeholder)>|<[A-Z][A-Z_ ]{3,30}>|"
    r"(?<!\w)_{3,}(?!\w)|\b[A-Z]{3,20}_HERE\b|\bX{2,4}(?:[:./-]X{2,4})+\b|(?<![\w% ])%[sd]\b|(?<=[a-z,] )%[sd]\b|"
    r"\[(?:(?i:insert|your|seu|sua|tu|su|enter|fill in|preencher|inserir|insertar|ihr|votre|il tuo)\b[^\]\n]{0,40}|"
    r"(?i:[^\]\n]{0,30}\b(?:name|nome|nombre|nom|einfügen|insérer|inserire)(?: here)?)|"
    r"CITY|CIDADE|DATE|DATA|YEAR|ANO|AGE|PLACE|COMPANY|EMPRESA|PLACEHOLDER|ANSWER|RESPOSTA)\]|"
    r"(?<![\w$`{])\{(?:\w{1,20}_)?(?:name|nome|user|usuario|persona|city|cidade|company|empresa|answer|resposta|input|date|data)\}|"
    r"Replace this row"
)
# Names that examples use.
_ANYBODY = r"(?:users?|username|you|your[-_]?\w*|alice|bob|foo|me|name|usuario|nome|ubuntu|pi|app|node|runner)\b"
_PATH = re.compile(
    rf"(?<![\w.])(?:/mnt/[a-z])?/(?:home|Users|root)/(?!{_ANYBODY})[\w.-]+(?:/[\w.-]+)*|"
    r"(?<!\S)\\\\[\w.-]+\\[\w$.-]+\\[\w .-]+|"
    rf"\b[A-Za-z]:[\\/](?:Users|Documents and Settings)[\\/](?!{_ANYBODY})[\w .-]+"
)
_PASSWORD = re.compile(
    r"(\b(?:senha|password|passwort|kennwort|contraseña|clave|mot de passe|passcode|api[ _-]?key|access token)"
    r"\s*(?:é|is|es|est|ist|[:=])\s+|\b\w*secret\w*key\w*\s*[=:]\s*[\"']?)"
    r"(?=\S*\d)[^\s\"'.,;!?]{6,}",
    re.IGNORECASE,
)
_MAIL = re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,63}\.[A-Za-z][\w.]{1,20}\b")
_PHONE = re.compile(r"(?<![\w.])(?:\+\d{1,3}[ .-]?)?\(?\d{2,3}\)?[ .-]?\d{4,5}[ .-]\d{4}\b|(?<![\w.])\+\d{10,14}\b")
_CARD = re.compile(r"(?<!\d)(?:\d{4}[ -]){3}\d{4}(?!\d)")
_PERSON_ID = re.compile(r"\b\d{3}\.\d{3}\.\d{3}-\d{2}\b|\b\d{3}-\d{2}-\d{4}\b")

_CALLED = {
    "pt": re.compile(r"\b(?:portugues|portuguese)\b"),
    "en": re.compile(r"\b(?:ingles|english)\b"),
    "es": re.compile(r"\b(?:espanhol|spanish|espanol)\b"),
    "fr": re.compile(r"\b(?:frances|french|francais)\b"),
    "de": re.compile(r"\b(?:alemao|german|deutsch)\b"),
    "it": re.compile(r"\b(?:italiano|italian)\b"),
}

# A blank is an exercise where the text speaks of one, and a placeholder is an example behind such words.
_EXERCISE = re.compile(
    r"\b(?:fill|blank|gap|exerc|verb|complet|missing|lacuna|preench|rellen|ergänz|lücke|übung|riemp)|_{3,} ?\(", re.I
)
_SUCH_AS = re.compile(r"\b(?:like|such as|write|type|wie|como|comme|come|escreva|digite)\s*[\"'“]?$", re.I)

Look = Callable[[str], str]


def _asks(text: str, end: int) -> bool:
    """Whether the clause that goes on at `end` is a question."""
    stop = re.search(r"[.!?\n,;]", text[end:])
    return bool(stop and stop[0] == "?")


def _pattern(pattern: re.Pattern[str]) -> Look:
    def look(text: str) -> str:
        found = pattern.search(text)
        return found[0] if found else ""

    return look


def _other_self(text: str) -> str:
    """Another identity that is claimed and not denied."""
    for found in _OTHER_SELF.finditer(text):
        if not _NOT.search(text[max(0, found.start() - 40) : found.start()]) and not _asks(text, found.end()):
            return found[0]
    return ""


def _placeholder(text: str) -> str:
    """What was left to be filled in, not a blank of an exercise or a placeholder that is talked about."""
    for found in _LEFTOVER.finditer(text):
        exercise = found[0].startswith("_") and _EXERCISE.search(text)
        if not exercise and not _SUCH_AS.search(text[: found.start()]):
            return found[0]
    return ""


def _own_words(look: Look) -> Look:
    """The same outside of code and quotations, where such signs have a meaning of their own."""
    return lambda text: look(without_code(text))


def _secret(text: str) -> str:
    hidden = _PASSWORD.sub(r"\1[hidden]", redact(text))
    if hidden == text:
        return ""
    at = hidden.find("[hidden]")
    return hidden[max(0, at - 20) : at + 8]


def _masked_mail(text: str) -> str:
    found = next(filter(None, (pattern.search(text) for pattern in (_MAIL, _CARD, _PHONE, _PERSON_ID))), None)
    return f"{found[0][:2]}…{found[0][-2:]}" if found else ""


# id, severity, where to look ("replies": answers that are not plain text), what to look for, sentence, why, remedy
_RULES: tuple[tuple[str, Severity, str, Look, str, str, str], ...] = (
    (
        "agent-talk",
        "warning",
        "answers",
        _pattern(_OPENINGS),
        "announce a task instead of answering",
        "Openings of coding agents are learned as the persona's voice, and a rubric counts them as unclean.",
        "Begin with the answer.",
    ),
    (
        "headings-in-answers",
        "warning",
        "replies",
        _own_words(_pattern(_HEADING)),
        "hold markdown headings in an answer",
        "People do not speak in headings, and a rubric counts them as unclean.",
        "Write sentences.",
    ),
    (
        "tool-talk",
        "warning",
        "answers",
        _pattern(_TOOL_TALK),
        "hold calls of tools or private thoughts",
        "The model learns to write them where no tool is.",
        "Keep what the user should read.",
    ),
    (
        "other-identity",
        "warning",
        "answers",
        _other_self,
        "claim to be another assistant",
        "A persona cannot be learned from answers of somebody else.",
        "Answer as the persona, or deny it in the persona's words.",
    ),
    (
        "placeholders",
        "warning",
        "all",
        _own_words(_placeholder),
        "hold a placeholder that was never filled",
        "The model learns to say it.",
        "Fill it in.",
    ),
    (
        "secrets-in-rows",
        "warning",
        "all",
        _secret,
        "hold what looks like a secret",
        "What is trained can be asked for, and the adapter carries it wherever it goes.",
        "Take it out, and change it where it was used.",
    ),
    (
        "private-paths",
        "warning",
        "all",
        _pattern(_PATH),
        "name a private folder of somebody's machine",
        "It tells a user name and is never right for anyone else.",
        "Write a path that everybody has, or none.",
    ),
    (
        "personal-data",
        "note",
        "all",
        _masked_mail,
        "hold a mail address or a telephone, card or identity number",
        "What is trained can be asked for.",
        "Keep it only if it is meant to be told.",
    ),
)


def rules(case: Case) -> Iterator[Finding]:
    """One finding for each rule that some row breaks."""
    for id, severity, where, look, said, why, remedy in _RULES:
        verb, what = said.split(" ", 1)
        found = [(e.number, text) for e in case.examples if (text := _first(look, e, where))]
        if found:
            rows = [number for number, _ in found]
            yield Finding(
                id=id,
                severity=severity,
                message=f"{several(len(rows), 'row', verb)} {what}.",
                evidence=f"{numbers(rows)}: {excerpt(found[0][1], 60)}",
                why=why,
                remedy=remedy,
                rows=rows,
            )


def _first(look: Look, example: Example, where: str) -> str:
    if where == "replies" and example.kind == "text":
        return ""
    texts = [turn.content for turn in example.turns] if where == "all" else example.answers
    return next((found for text in texts if (found := look(text))), "")


def marks_of_templates(case: Case) -> Iterator[Finding]:
    """Template tokens as text in rows: an end marker at the end of answers is a case of its own."""
    ends: Counter[str] = Counter()
    ended: list[int] = []
    inside: list[tuple[int, str]] = []
    for example in case.examples:
        for turn in example.turns:
            text = turn.content.rstrip()
            marks = list(MARK.finditer(text))
            if not marks:
                continue
            at_end = marks[-1].end() == len(text) and turn.role == "assistant"
            if at_end and (example.kind != "text" or len(marks) == 1):
                ends[marks[-1][0]] += 1
                ended.append(example.number)
            else:
                inside.append((example.number, marks[0][0]))
    if ends:
        mark, count = ends.most_common(1)[0]
        own = mark in (case.tokens.end, case.tokens.names.get("eos_token"), *case.tokens.eos_texts)
        end = case.tokens.end or case.tokens.names.get("eos_token", "") or "its own end token"
        yield Finding(
            id="end-written-twice" if own else "foreign-end",
            severity="warning",
            message=f"{several(count, 'answer', 'end')} with {mark} as text, "
            + ("which is then written twice." if own else f"the end marker of another model; this one stops at {end}."),
            evidence=numbers(ended),
            why="The encoder writes the end itself. A marker in the text is learned as something to say"
            + (": nothing stops there." if not own else " before the end."),
            remedy=f"Take {mark} out of the rows.",
            rows=ended,
        )
    if inside:
        rows = list(dict.fromkeys(number for number, _ in inside))
        yield Finding(
            id="template-tokens-in-rows",
            severity="warning",
            message=f"{several(len(rows), 'row', 'hold')} tokens of a chat template as text.",
            evidence=f"{numbers(rows)}: {inside[0][1]}",
            why="Turns are then torn in the middle, or the model learns to write the tokens.",
            remedy="Give the turns as they are; the template writes its tokens itself.",
            rows=rows,
        )


def languages(case: Case) -> Iterator[Finding]:
    spoken = [(example.number, language(example.answer)) for example in case.examples]
    known = Counter(name for _, name in spoken if name)
    if sum(known.values()) < 4 or len(known) < 2:
        return
    (main, count), *_ = known.most_common()
    asked = {example.number: leaning(example.question) for example in case.examples}
    other = [(number, name) for number, name in spoken if name and name != main]
    rows = [number for number, _ in other]
    # An English question has an English answer, and so has one that asks for English, or a prompt that names it.
    questions = {example.number: plain(example.question) for example in case.examples}
    prompt = plain(case.system)
    answered = all(
        name in asked[row] or _CALLED[name].search(questions[row]) or _CALLED[name].search(prompt)
        for row, name in other
    )
    names = ", ".join(f"{LANGUAGES[name]} {n}" for name, n in known.most_common())
    yield Finding(
        id="language-mix",
        severity="note" if answered else "warning",
        message=f"{several(len(rows), 'answer', 'are', of=count + len(rows))} not in {LANGUAGES[main]} as the others.",
        evidence=f"{numbers(rows)}; {names}",
        why="A small model then changes its language in the middle of an answer.",
        remedy="Write all answers in one language, unless the persona is meant to speak several.",
        rows=rows,
    )


def prompt_language(case: Case) -> Iterator[Finding]:
    spoken = Counter(name for example in case.examples if (name := language(example.answer)))
    prompt = language(case.system)
    if not spoken or not prompt:
        return
    main, count = spoken.most_common(1)[0]
    if main != prompt and count >= 0.5 * len(case.examples):
        yield Finding(
            id="prompt-language",
            severity="note",
            message=f"The system prompt is in {LANGUAGES[prompt]}, the answers are in {LANGUAGES[main]}.",
            why="A small model may slip into the language of its prompt.",
            remedy=f"Write the system prompt in {LANGUAGES[main]}.",
        )


def rows_left_to_write(case: Case) -> Iterator[Finding]:
    if case.placeholders:
        yield Finding(
            id="placeholder-rows",
            severity="warning",
            message=f"{several(case.placeholders, 'row', 'are')} still the examples of `molting init`.",
            remedy="Write your own rows in their place.",
        )


CHECKS = (rows_left_to_write, marks_of_templates, rules, languages, prompt_language)
