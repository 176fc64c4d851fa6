"""All that the report tells, read from the run's files. What is not there is None, and is said to be missing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.checks.after import after
from engine.checks.history import History, read_history
from engine.checks.recall import Said
from engine.contract import calls, durable, grades, proofs, rundir, sheets
from engine.contract import summary as runs
from engine.contract.errors import MoltingError
from engine.contract.lifecycle import Transition
from engine.contract.lineage import leaves
from engine.contract.rundir import RunDir
from engine.contract.sheets import Sheet
from engine.contract.spec import Spec
from engine.contract.summary import Summary
from engine.contract.verdict import CompareRequest, Comparison, Cycle, CycleRequest, Different, Evaluation

from . import compare, summary
from .precheck import was_cut

T = TypeVar("T")
_CHUNK = 1 << 20
_SHOWN = 80
# Keys that say nothing of what was taught: names, and where files lie, whose hashes tell what is in them.
_NAMES = frozenset({"name", "parent", "data.date", "model.revision"})
_NAMES |= {"data.train", "data.heldout", "data.system_file", "evaluation.probes", "evaluation.ability_probes"}
_FINGERPRINTS = {"data.sha256": "training rows (sha256)", "model.fingerprint": "base model (fingerprint)"}


@dataclass(frozen=True)
class File:
    """A file of the run: its path in there, bytes, and sha256."""

    name: str
    size: int
    sha256: str


@dataclass
class Facts:
    """One run. `other` is the one it is compared with, `spec_differs` what their specs do not share."""

    run: RunDir
    seen: Summary
    name: str
    spec: Spec | None = None
    history: History = field(default_factory=History)
    states: list[Transition] = field(default_factory=list)
    proof: calls.Proof | None = None
    stale_proof: bool = False  # the adapter was sealed after it
    evaluation: Evaluation | None = None
    sheet: Sheet | None = None  # the graded one, else the newest
    other: RunDir | None = None
    other_name: str = ""
    comparison: Comparison | None = None
    base: Comparison | None = None  # base voice against the trained one, of the same sheet
    spec_differs: list[Different] | None = None
    findings: list[calls.Finding] = field(default_factory=list)
    inputs: list[File] = field(default_factory=list)
    graded_files: list[File] = field(default_factory=list)
    weights: dict[str, str] = field(default_factory=dict)  # final weights: file -> sha256
    missing: list[str] = field(default_factory=list)

    @property
    def cycle(self) -> Cycle | None:
        return self.evaluation.main if self.evaluation else None

    @property
    def imported(self) -> bool:
        """Whether its answers and scores came from elsewhere, so that nothing was trained here."""
        return bool(self.sheet and self.sheet.header.origin == "imported")


def gather(run: RunDir, against: RunDir | None, tell: Callable[[calls.Line], None]) -> Facts:
    """Read everything. A part that cannot be read is missing, with its sentence; nothing here raises for a bad run."""
    facts = Facts(run, runs.summarise(run), runs.name_of(run))
    said = facts.missing
    facts.spec = _or(said, lambda: runs.load_spec(run))
    facts.history = _or(said, lambda: read_history(run)) or History()
    facts.states = runs.transitions(run)[0]
    _read_proof(facts)
    facts.weights = _weights(run)
    tell(calls.Progress(phase="counting the grades"))
    _read_grades(facts, against, tell)
    facts.inputs = _files(run, sorted(run.inputs.rglob("*")) if run.inputs.is_dir() else [])
    facts.graded_files = _files(run, [*sheets.listed(run), *grades.listed(run)])
    answers = facts.sheet.of(facts.sheet.main_voice, 0) if facts.sheet else []
    spoken = [Said(each.question, each.answer, was_cut(each.answer, each.stop)) for each in answers]
    facts.findings = _or(said, lambda: after(run, spoken)) or []
    if facts.seen.problem:
        said.append(facts.seen.problem)
    facts.missing = list(dict.fromkeys(said))
    return facts


def _read_proof(facts: Facts) -> None:
    run = facts.run
    try:
        raw = runs.read_small(run.proof)
        facts.proof = msgspec.json.decode(raw, type=calls.Proof)
        facts.stale_proof = (run.adapter / durable.MANIFEST).is_file() and not proofs.is_current(run, facts.proof)
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError, MoltingError):
        facts.missing.append("proof.json is damaged, so the proof of effect is not told.")


def _read_grades(facts: Facts, against: RunDir | None, tell: Callable[[calls.Line], None]) -> None:
    run, said = facts.run, facts.missing
    facts.evaluation = _or(said, lambda: summary.cycle(CycleRequest(run=str(run.path)), tell))
    if facts.evaluation:
        said += facts.evaluation.problems
    readable, _ = sheets.readable(run)
    graded = facts.cycle.sheet if facts.cycle else ""
    facts.sheet = next((each for each in readable if each.header.name == graded), readable[-1] if readable else None)
    facts.other = against or _parent(facts)
    if facts.other:
        other = facts.other
        facts.other_name = runs.name_of(other)
        theirs = _or(said, lambda: runs.load_spec(other))
        if facts.spec and theirs and not facts.imported:
            facts.spec_differs = spec_differences(theirs, facts.spec)
        if facts.cycle:
            request = CompareRequest(a=str(other.path), b=str(run.path))
            facts.comparison = _or(said, lambda: compare.compare(request, tell))
    if facts.cycle and facts.evaluation and _has_base(facts):
        facts.base = _or(said, lambda: compare.compare(CompareRequest(b=str(run.path), base=True), tell))


def _has_base(facts: Facts) -> bool:
    """Whether somebody graded the base too; `compare` then finds the grading that has both."""
    assert facts.evaluation is not None
    cycles = [facts.evaluation.main, *facts.evaluation.others]
    files = {each.grades for each in cycles if each}
    return any("base" in recorded.opened.voices for recorded in _recorded(facts.run, files))


def _recorded(run: RunDir, names: set[str]) -> list[grades.Recorded]:
    found = []
    for path in grades.listed(run):
        if path.name in names:
            try:
                found.append(grades.read(path))
            except MoltingError:
                continue
    return found


def _parent(facts: Facts) -> RunDir | None:
    if facts.spec is None or not facts.spec.parent:
        return None
    try:
        return rundir.find(facts.run.path.parent, facts.spec.parent, runs.name_of)
    except MoltingError:
        facts.missing.append(f"The parent run {facts.spec.parent} is not here, so nothing is compared with it.")
        return None


def spec_differences(a: Spec, b: Spec) -> list[Different]:
    """Every key of two frozen specs that differs and says something of what was taught, in the order of the file."""
    mine, theirs = dict(leaves(msgspec.to_builtins(a))), dict(leaves(msgspec.to_builtins(b)))
    found = []
    for key in dict.fromkeys([*mine, *theirs]):
        here, there = mine.get(key), theirs.get(key)
        if here == there or key in _NAMES or key.startswith("sweep.") or _is_place(here, there):
            continue
        found.append(Different(what=_FINGERPRINTS.get(key, key), a=_words(here), b=_words(there)))
    return found


def _is_place(*values: Any) -> bool:
    """Where files lie says nothing of what is in them: their hashes do."""
    return all(isinstance(value, str) and (value.startswith("/") or not value) for value in values)


def _words(value: Any) -> str:
    if value in (None, ""):
        return "none"
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _weights(run: RunDir) -> dict[str, str]:
    try:
        manifest = durable.read_manifest(run.adapter)
    except MoltingError:
        return {}
    return {name: entry.sha256 for name, entry in sorted(manifest.files.items()) if name.endswith(".safetensors")}


def _files(run: RunDir, paths: list[Path]) -> list[File]:
    return [
        File(str(path.relative_to(run.path)), path.lstat().st_size, _sha256(path))
        for path in paths
        if path.is_file() and not path.is_symlink()
    ]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _or(said: list[str], read: Callable[[], T]) -> T | None:
    """What `read` gives, or None and its sentence in `said`."""
    try:
        return read()
    except MoltingError as error:
        said.append(error.message)
    except (OSError, ValueError, RecursionError) as error:
        said.append(f"A part could not be read: {type(error).__name__}: {str(error)[:200]}.")
    return None
