"""Which questions may be asked for training: none that judges the persona, none that is held out or trained already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from engine.checks.questions import resembling
from engine.checks.words import excerpt, leaning
from engine.contract import places, rubric, sheets
from engine.contract.errors import MoltingError
from engine.contract.plainfile import read_plain
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec
from engine.data.read import open_records
from engine.train import freeze

MOST = 500  # questions of a file
LONGEST = 4000  # characters of one
_KEYS = ("question", "prompt", "text", "instruction", "input", "title", "pergunta", "content")


def of_file(path: Path) -> list[str]:
    """Questions in a file: one a line of a text, or rows of any format whose first question counts.

    `#` begins a comment in a text. MoltingError (code 2) for a file without questions or with more than 500.
    """
    if not path.is_file():
        raise MoltingError(f"There is no file {path}.", code=2)
    texts = path.suffix.lower() in {".txt", ".md", ""}
    every = _lines(path) if texts else (_question(record.value) for record in open_records(path))
    found = list(islice((question for question in every if question), MOST + 1))  # the file may be huge
    if not found:
        raise MoltingError(f"{path} holds no question.", remedy="Write one question a line.", code=2)
    if len(found) > MOST:
        raise MoltingError(f"{path} holds more than {MOST} questions, which nobody would read.", code=2)
    return list(dict.fromkeys(question[:LONGEST] for question in found))


def _lines(path: Path) -> list[str]:
    text = read_plain(path, 4 << 20).decode("utf-8", "replace")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _question(row: Any) -> str:
    """The question of a row, whatever its format; "" where it has none."""
    if isinstance(row, str):
        return row.strip()
    if not isinstance(row, dict):
        return ""
    for turns in (row.get("messages"), row.get("conversations")):
        for turn in turns if isinstance(turns, list) else []:
            said = turn.get("content") or turn.get("value") if isinstance(turn, dict) else None
            if isinstance(said, str) and turn.get("role", turn.get("from")) in ("user", "human"):
                return said.strip()
    return next((row[key].strip() for key in _KEYS if isinstance(row.get(key), str)), "")


def shipped(kind: str, language: str) -> list[str]:
    """The shipped questions "persona" or "neutral" in a language; English where there are none in it."""
    folder = places.shipped() / "prompts" / "self-training"
    file = folder / f"{kind}-{language}.txt"
    return _lines(file if file.is_file() else folder / f"{kind}-en.txt")


def language_of(texts: Iterable[str]) -> str:
    """The language in which most of these texts lean, of those that questions are shipped in."""
    votes = [leaning(text) for text in texts]
    return "pt" if sum("pt" in vote for vote in votes) > sum("en" in vote for vote in votes) else "en"


def judging(
    name: str, probes: Sequence[str], heldout: Sequence[str], run: RunDir | None = None
) -> dict[str, list[str]]:
    """The questions that must stay unknown to training, by what they are: all rubrics that ship or were used here."""
    found = {"a probe": list(probes), "a held-out question": list(heldout)}
    rubrics = [rubric.load(file) for file in {rubric.for_persona(name), rubric.shipped()["general"]}]
    if run is not None:
        rubrics += [sheet.header.rubric for sheet in sheets.readable(run)[0]]
    for by in rubrics:
        found.setdefault(f"a question of the rubric {by.name}", []).extend(question.text for question in by.questions)
    return found


def sorted_out(asked: Sequence[str], judging: dict[str, list[str]]) -> tuple[list[str], dict[str, str]]:
    """The questions that may be asked, and each that may not with what it is (nearly)."""
    refused: dict[str, str] = {}
    for what, others in judging.items():
        for question in resembling([each for each in asked if each not in refused], others):
            refused[question] = what
    return [question for question in asked if question not in refused], refused


def chosen(
    own: Sequence[str], listed: Sequence[str], against: dict[str, list[str]], trained: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The prompts to ask, the user's `own` first, and a sentence for what is left out of them."""
    free, refused = sorted_out(own, against)
    notes = [f"Not asked, since it is {what}: “{excerpt(question)}”." for question, what in refused.items()]
    known = set(resembling(free, trained))
    if known:
        notes.append(f"Not asked, since they stand in the training rows: {len(known)} of your questions.")
    mine = [question for question in free if question not in known]
    more, _ = sorted_out(listed, against)
    taken = set(resembling(more, [*trained, *mine]))
    return [*mine, *(question for question in more if question not in taken)], notes


def probes_of(spec: Spec) -> list[str]:
    """The probe questions of a spec whose paths are absolute."""
    return freeze.probes(spec)
