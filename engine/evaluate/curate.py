"""The verb `curate`: measure a run, let it answer prompts that judge nothing, and hear the gates on each answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine.checks import gather
from engine.checks.case import Facts
from engine.checks.claims import claims, names_told
from engine.checks.words import plain
from engine.contract import calls, curation, durable, generations, places, rubric, sheets, summary
from engine.contract.curation import Candidate, CurateRequest, Header
from engine.contract.errors import MoltingError
from engine.contract.generations import Measures
from engine.contract.rundir import RunDir
from engine.contract.sheets import Decoding
from engine.contract.spec import Generation, Spec
from engine.data import original

from . import disjoint, drift, gates
from .gates import Standard

if TYPE_CHECKING:
    from engine.infer.session import Session

Tell = Callable[[calls.Line], None]
WARMTH, TOP_P = 0.8, 0.95  # where the run's own settings are greedy


class Answered(msgspec.Struct, kw_only=True):
    """Result of `curate`. `batch` is empty where only was measured; `refused` counts answers by gate."""

    run: str
    measures: Measures
    batch: str = ""
    path: str = ""
    prompts: int = 0
    candidates: int = 0
    offered: int = 0
    refused: dict[str, int] = {}
    reasons: list[str] = []  # of some that were refused
    notes: list[str] = []
    seconds: float = 0.0


def curate(request: CurateRequest, tell: Tell) -> Answered:
    """Open the run, measure it, make the batch. MoltingError for a run, prompts or facts that cannot be used."""
    began = time.monotonic()
    run = RunDir(Path(request.run))
    spec = summary.load_spec(run)
    rows, heldout = original.trained(spec)
    language = disjoint.language_of(original.answers(rows)[:200])
    prompts, notes = ([], []) if request.measure_only else _prompts(request, run, spec, rows, heldout, language)
    by, missing = standard(run, spec, rows, Path(request.facts) if request.facts else None)
    notes += missing
    tell(calls.Progress(phase="importing"))
    from engine.infer.session import open_session  # takes seconds, which are shown

    session = open_session(run, Path(request.models), tell)
    adapter = _weights(run)
    measures = _measures(session, adapter, disjoint.shipped("neutral", language), tell)
    if request.measure_only:
        return Answered(run=run.id, measures=measures, notes=session.warnings, seconds=time.monotonic() - began)
    options = _options(session.spec.generation, request)
    candidates = gates.judged(_ask(session, prompts, request.k, options, tell), by)
    header = Header(
        run=run.id,
        t=time.time(),
        adapter=adapter,
        per_prompt=request.k,
        prompts=len(prompts),
        gated=request.gates,
        decoding=_decoding(options, request.k),
        notes=[*session.warnings, *notes],
    )
    batch = curation.write(run, header, candidates)
    return Answered(
        run=run.id,
        measures=measures,
        batch=batch.name,
        path=str(run.curation / f"{batch.name}.jsonl"),
        prompts=len(prompts),
        candidates=len(candidates),
        offered=len(batch.offered),
        refused=dict(batch.refused),
        reasons=[f"{each.gate}: {each.why}" for each in candidates if each.gate][:5],
        notes=header.notes,
        seconds=time.monotonic() - began,
    )


def _measures(session: Session, adapter: str, questions: list[str], tell: Tell) -> Measures:
    """What was measured of these weights by the same instrument before, else measured now and kept."""
    known = generations.measured(session.run)
    how = drift.instrument(questions, session.spec.data.system, session.spec.model.fingerprint)
    if known is not None and (known.adapter, known.instrument) == (adapter, how):
        return known
    found = drift.measure(session, adapter, questions, tell)
    generations.write_measures(session.run, found)
    return found


def _prompts(
    request: CurateRequest,
    run: RunDir,
    spec: Spec,
    rows: list[original.Origin],
    heldout: list[original.Origin],
    language: str,
) -> tuple[list[str], list[str]]:
    own = disjoint.of_file(Path(request.prompts)) if request.prompts else []
    listed = [] if request.only else disjoint.shipped("persona", language)
    against = disjoint.judging(spec.name, disjoint.probes_of(spec), original.questions(heldout), run)
    # What an earlier generation was asked may be asked again: its answers are gated as copies.
    trained = original.questions([each for each in rows if not each.generated])
    prompts, notes = disjoint.chosen(own, listed, against, trained)
    if not prompts:
        raise MoltingError(
            "There is no prompt left to ask: all of them judge the persona or are trained already.",
            remedy="Give other ones with --prompts FILE.",
            code=2,
        )
    if len(prompts) * request.k > curation.MOST:
        raise MoltingError(
            f"{len(prompts)} prompts {request.k} times are too many; {curation.MOST:,} answers at most.", code=2
        )
    return prompts, notes


def standard(
    run: RunDir, spec: Spec, rows: Sequence[original.Origin], file: Path | None = None
) -> tuple[Standard, list[str]]:
    """What the answers of a run are held against, and a sentence where the facts table is missing.

    The table is `file`, else the one that was frozen with the rows, else that of the shipped persona of this name.
    """
    notes = []
    facts = _facts(file, run, spec)
    own = [each for each in rows if not each.generated]
    told = " ".join(original.answers(list(own)))
    name = facts.true.get("name") or facts.true.get("nome") or _name_in(spec.data.system, told)
    if not facts.file:
        notes.append("There is no facts table, so no answer was refused for what it claims. --facts FILE gives one.")
    return (
        Standard(
            rubric=rubric.load(rubric.for_persona(spec.name)),
            facts=facts,
            name=name,
            answers=original.answers(list(rows)),
            said=plain(f"{spec.data.system} {told} {' '.join(facts.true.values())}"),
        ),
        notes,
    )


def _facts(file: Path | None, run: RunDir, spec: Spec) -> Facts:
    if file is not None:
        if not file.is_file():
            raise MoltingError(f"There is no facts table {file}.", code=2)
        return gather.facts_in(file)
    first = spec.name.split("-")[0]
    return gather.facts(run.inputs, places.shipped() / "personas" / first)


def _name_in(system: str, told: str) -> str:
    """The name in a system prompt that the answers use too; "" where that is not clear."""
    names = {claim.value for claim in claims(system, prompt=True) if claim.topic == "name"} or names_told(system)
    used = [name for name in sorted(names) if f" {plain(name)} " in f" {plain(told)} "]
    return used[0] if len(used) == 1 else ""


def _options(own: Generation, request: CurateRequest) -> Generation:
    """Drawn, never greedy: k greedy answers would be one."""
    drawn = own.temperature > 0
    return msgspec.structs.replace(
        own,
        temperature=request.temperature or (own.temperature if drawn else WARMTH),
        top_p=own.top_p if drawn else TOP_P,
        seed=request.seed,
    )


def _decoding(options: Generation, k: int) -> Decoding:
    values: dict[str, Any] = msgspec.to_builtins(options)
    return Decoding(**values, samples=k)


def _ask(session: Session, prompts: Sequence[str], k: int, options: Generation, tell: Tell) -> list[Candidate]:
    """k answers to each prompt; those to one prompt stand together, as they are read."""
    ids = session.prompts(prompts)
    drawn = [drift.answers(session, ids, drift.options(options, sample), tell) for sample in range(k)]
    found: list[Candidate] = []
    for place, prompt in enumerate(prompts):
        for sample in range(k):
            made = drawn[sample][place]
            said = made.ids[:-1] if made.stop == "end" else made.ids
            found.append(
                Candidate(
                    id=f"c{len(found) + 1}",
                    prompt=prompt,
                    answer=session.encoder.tokenizer.decode(said, skip_special_tokens=False).strip(),
                    sample=sample,
                    seed=options.seed + sample,
                    tokens=len(made.ids),
                    stop="end" if made.stop == "end" else "cap",
                )
            )
    return found


def _weights(run: RunDir) -> str:
    from engine.infer.session import trained_weights

    learned, _ = trained_weights(run)
    return sheets.weights_hash({name: each.sha256 for name, each in durable.read_manifest(learned).files.items()})
