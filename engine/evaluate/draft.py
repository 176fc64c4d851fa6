"""The verb `draft`: override rows from questions and a persona's card, for a person to edit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from engine.checks import gather
from engine.checks.case import Facts
from engine.checks.claims import names_told
from engine.checks.words import leaning
from engine.contract import calls, durable, tomlcheck
from engine.contract.drafts import Drafted, DraftRequest, Drafts
from engine.contract.errors import MoltingError
from engine.contract.plainfile import read_plain
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec
from engine.data import original
from engine.train import freeze

from . import disjoint, draft_templates

Tell = Callable[[calls.Line], None]
KIND = "draft"
_LIMIT = 1 << 20


@dataclass(frozen=True)
class Card:
    """Who the persona is: facts, the system prompt as text, its name; and the questions that judge it."""

    facts: Facts
    system: str
    name: str
    probes: Sequence[str] = ()
    heldout: Sequence[str] = ()


def draft(request: DraftRequest, tell: Tell) -> Drafts:
    """Write the rows. MoltingError (code 2) for questions or a card that cannot be used, or a file that is there."""
    target = Path(request.to)
    if os.path.lexists(target):
        raise MoltingError(f"{target} exists already.", remedy="Give another name with --out.", code=2)
    asked = disjoint.of_file(Path(request.questions))
    card = _card(request)
    against = disjoint.judging(card.name.lower(), card.probes, card.heldout)
    free, refused = disjoint.sorted_out(asked, against)
    if not free:
        raise MoltingError(
            f"None of {len(asked)} questions may be trained on: each is one that judges the persona, or nearly.",
            remedy="Ask the same things in other words; keep those that judge for judging.",
            code=1,
        )
    spoken = _spoken(request, free, tell)
    rows, drafted = rows_of(free, card, spoken)
    try:
        durable.write_new(target, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    except OSError as error:
        raise durable.explain(error, f"write {target}") from error
    notes = [] if card.facts.listed else ["The card has no facts table, so only the name could be put into drafts."]
    return Drafts(path=str(target), rows=len(rows), drafted=drafted, refused=refused, notes=notes)


def rows_of(
    questions: Sequence[str], card: Card, spoken: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], list[Drafted]]:
    """A row for each draft, marked as one; a question that nothing answers gets a row to be written. Pure but for
    the date."""
    facts = dict(card.facts.listed) or ({"name": (card.name,)} if card.name else {})
    fallback = leaning(card.system) or leaning(" ".join(questions))
    made: dict[str, int] = {}
    rows, drafted = [], []
    for place, question in enumerate(questions):
        lean = leaning(question) or fallback
        language = "pt" if "pt" in lean and "en" not in lean else "en"
        topic = draft_templates.topic_of(question)
        text = draft_templates.answer(question, facts, language, made.get(topic, 0))
        made[topic] = made.get(topic, 0) + 1
        drafts = [("template", text)] if text else []
        drafts += [("model", spoken[place])] if spoken else []
        for by, answer in drafts or [("nobody", "")]:
            rows.append(_row(question, answer, by))
            drafted.append(Drafted(question=question, by=by))  # type: ignore[arg-type]
    return rows, drafted


def _row(question: str, answer: str, by: str) -> dict[str, Any]:
    day = datetime.fromtimestamp(time.time(), timezone.utc).date().isoformat()
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "origin": {"kind": KIND, "by": by, "date": day}}


def _card(request: DraftRequest) -> Card:
    if bool(request.persona) == bool(request.card):
        raise MoltingError("Say who the persona is: --persona DIR or --card FILE, one of them.", code=2)
    if request.persona:
        return _folder(Path(request.persona))
    file = Path(request.card)
    if not file.is_file():
        raise MoltingError(f"There is no card {file}.", remedy="Give a facts.toml or a text.", code=2)
    if file.suffix == ".toml":
        facts = gather.facts_in(file)
        return Card(facts, "", _name(facts, ""))
    system = read_plain(file, _LIMIT).decode("utf-8", "replace").strip()
    return Card(Facts(), system, _name(Facts(), system))


def _folder(folder: Path) -> Card:
    if not folder.is_dir():
        raise MoltingError(f"There is no persona folder {folder}.", remedy="`molting init NAME` makes one.", code=2)
    facts, spec_file = gather.facts(folder), folder / "spec.toml"
    system_file = folder / "system.txt"
    system = read_plain(system_file, _LIMIT).decode("utf-8", "replace").strip() if system_file.is_file() else ""
    if not facts.listed and not system:
        raise MoltingError(
            f"{folder} has neither facts.toml nor system.txt.", remedy="Write one of them first.", code=2
        )
    name = _name(facts, system) or folder.name
    if not spec_file.is_file():
        return Card(facts, system, name)
    spec = freeze.opened(tomlcheck.load(spec_file, Spec), spec_file).spec
    heldout = original.questions(original.trained(spec)[1])
    return Card(facts, system or spec.data.system, name, freeze.probes(spec), heldout)


def _name(facts: Facts, system: str) -> str:
    told = sorted(names_told(system))
    return facts.true.get("name") or facts.true.get("nome") or (told[0].title() if len(told) == 1 else "")


def _spoken(request: DraftRequest, questions: Sequence[str], tell: Tell) -> list[str]:
    """What a run's trained voice answers, greedily; nothing without a run."""
    if not request.run:
        return []
    from . import drift

    tell(calls.Progress(phase="importing"))
    from engine.infer.session import open_session  # takes seconds, which are shown

    session = open_session(RunDir(Path(request.run)), Path(request.models), tell)
    greedy = msgspec.structs.replace(session.spec.generation, temperature=0.0)
    made = drift.answers(session, session.prompts(questions), greedy, tell)
    return [
        session.encoder.tokenizer.decode(each.ids[:-1] if each.stop == "end" else each.ids).strip() for each in made
    ]
