"""Who graded an imported file, in its own words, and what that means for the grades. Pure."""

from __future__ import annotations

import re
from typing import Any, Literal

from engine.contract.rubric import Rubric, plain
from engine.contract.safe import safe
from engine.contract.verdict import Problem

UNKNOWN = "unknown rater"
Kind = Literal["person", "model", "unknown"]

_KEYS = (
    "evaluator scored_by rater grader judge annotator reviewer evaluated_by rated_by graded_by scorer avaliador "
    "avaliado_por judge_model"
)
_MACHINE = re.compile(
    r"\b(?:self|sub-?agent|agent|assistant|assistente|llm|gpt\S*|chatgpt|claude\S*|gemini\S*|llama\S*|mistral\S*|qwen\S*"
    r"|language model|modelo|ai|ia|bot|automatic|automated|auto|script|judge)\b",
    re.IGNORECASE,
)


def rater_of(rest: Any, given: str, by: Rubric, run_name: str) -> tuple[str, Kind, list[Problem]]:
    """The rater's name, what kind they are, and what has to be said about them. `given` goes before the file."""
    written = _written(rest)
    name = safe(given.strip() or written, keep_newlines=False)[:120] or UNKNOWN
    problems = []
    if given.strip() and written and plain(given) != plain(written):
        message = f"The file names another rater than you do: {safe(written, keep_newlines=False)[:120]}."
        problems.append(Problem(id="rater-differs", severity="warning", message=message))
    if name == UNKNOWN:
        message = "The file does not say who graded: the rater is unknown."
        problems.append(Problem(id="rater-unknown", severity="warning", message=message))
        return name, "unknown", problems
    own = _is_persona(name, by, run_name)
    if own or _MACHINE.search(name):
        what = "the assistant that is being imitated" if own else "an AI assistant"
        message = f"The rater ({name}) is {what}, not a person, and nothing says that it was blind to the cycle."
        problems.append(Problem(id="rater-not-blind", severity="warning", message=message))
        return name, "model", problems
    message = f"Nothing says that {name} was blind: whether the cycle was known while grading is not recorded."
    return name, "unknown", [*problems, Problem(id="blind-unknown", severity="note", message=message)]


def _written(rest: Any) -> str:
    if not isinstance(rest, dict):
        return ""
    tables = [rest, *(value for value in rest.values() if isinstance(value, dict))]
    for table in tables:
        for key in _KEYS.split():
            value = table.get(key)
            value = value.get("name") if isinstance(value, dict) else value
            if isinstance(value, str) and value.strip():
                return value.strip()
    return ""


def _is_persona(name: str, by: Rubric, run_name: str) -> bool:
    """Whether the rater is called like the persona that the rubric is about, accents aside."""
    words = set(_bare(name).split())
    facts = [value for key, value in by.facts.items() if key in ("name", "nome") and isinstance(value, str)]
    called = {_bare(each).split()[0] for each in [by.name, *facts] if _bare(each)} - {"general"}
    return bool(words & called)


def _bare(text: str) -> str:
    import unicodedata

    plain_letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return " ".join(re.findall(r"[a-z0-9]+", plain_letters.casefold()))
