"""The verb `why`: one ordered investigation into why a run seems to have changed nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.checks import after
from engine.contract import calls, durable, summary
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec
from engine.models import fetch
from engine.models.adapters import DoesNotFit, inspect_adapter
from engine.models.fingerprint import fingerprint

from .ask import chosen_options

Tell = Callable[[calls.Line], None]


def why(request: calls.WhyRequest, tell: Tell) -> calls.Investigation:
    """Look at the files first, then open the run and measure. Raises MoltingError where the base cannot be had."""
    run, models = RunDir(Path(request.run)), Path(request.models)
    spec = summary.load_spec(run)
    options = chosen_options(spec.generation, request)
    known = after.gather(run)
    against = _the_same(run, request.against)
    seen = look(run, spec, models, tell)
    if seen.ends is not None:
        return _with_findings(seen.ends, after.findings(known))
    tell(calls.Progress(phase="importing"))
    from .evidence import Use  # takes seconds, which are shown
    from .investigate import investigate
    from .session import open_session

    try:
        session = open_session(run, models, tell, learned=seen.learned)
    except DoesNotFit as error:
        return _with_findings(_keys_do_not_fit(error), after.findings(known))
    session.warnings.extend(seen.notes)
    use = Use(options, request.system, request.chat_template)
    return investigate(
        session, use, tell, known=known, against=against, seal=seen.seal, files=seen.files, base=seen.base
    )


@dataclass(frozen=True)
class Files:
    """What the files alone say. `ends`: the investigation, where they already tell the cause."""

    learned: Path | None = None
    seal: str = ""
    files: str = ""
    base: str = ""
    notes: tuple[str, ...] = ()
    ends: calls.Investigation | None = None


def look(run: RunDir, spec: Spec, models: Path, tell: Tell) -> Files:
    """Are the weights there, whole, and of this base? Weights that changed since their sealing are judged all the same.

    Raises MoltingError where the base cannot be had.
    """
    learned = _learned(run)
    if learned is None:
        return Files(ends=_no_weights(run))
    problems = durable.check_seal(learned)
    seal = problems[0] if problems else ""
    notes = () if learned == run.adapter else (f"The weights are those of the checkpoint {learned.name}.",)
    if spec.method.kind == "full" and seal:
        return Files(ends=_ends("damaged", "files", f"Damaged: {seal}", "Resume the run, or train again.", seal))
    if spec.method.kind != "full" and (bad := _error(inspect_adapter(learned))):
        remedy = bad.remedy or "Put the weights back as they were sealed, or train again."
        return Files(ends=_ends("damaged", "files", f"Damaged: {bad.message}", remedy, bad.message))
    reference = fetch.resolve(spec.model.base, revision=spec.model.revision, models_dir=models)
    folder = fetch.fetch(reference, models_dir=models, progress=_progress(tell))
    said, wrong = _base(spec, folder, learned)
    if wrong is not None:
        return Files(ends=wrong)
    files = f"{_size(learned)}, sealed and unchanged"
    return Files(learned, seal, files, said, notes)


def _learned(run: RunDir) -> Path | None:
    """The final weights, damaged or not, else the newest checkpoint."""
    if run.adapter.is_dir():
        return run.adapter
    return next((run.checkpoint(step) for step in run.checkpoint_steps()), None)


def _base(spec: Spec, folder: Path, learned: Path) -> tuple[str, calls.Investigation | None]:
    recorded = spec.model.fingerprint
    found = fingerprint(folder)
    remedy = f"Put the weights of {spec.model.base} as they were then back, or train again on this model."
    if recorded and found != recorded:
        evidence = f"fingerprint {found[:12]}, trained on {recorded[:12]}"
        sentence = f"Wrong base: the model in {folder} is not the one that was trained on ({evidence})."
        return "", _ends("wrong_base", "base", sentence, remedy, evidence)
    if spec.method.kind != "full" and (bad := _error(inspect_adapter(learned, folder))):
        return "", _ends("wrong_base", "base", f"Wrong base: {bad.message}", bad.remedy or remedy, bad.message)
    return (f"fingerprint {found[:12]}, as recorded" if recorded else ""), None


def _no_weights(run: RunDir) -> calls.Investigation:
    seen = summary.summarise(run)
    how = f"it is {seen.state}" + (f" ({seen.why.rstrip('.')})" if seen.why else "")
    evidence = f"step {seen.step} of {seen.steps}, no weights saved"
    sentence = f"Not trained: the run has no weights yet; {how}, at step {seen.step} of {seen.steps}."
    remedy = f"Wait for it; `molting attach {run.id}` follows it."
    if seen.imported:
        sentence = "Not trained: this run was imported, and its weights are not here."
        remedy = "Its grades and curves can be looked at and compared: `molting compare`, `molting report`."
    elif not seen.live:
        remedy = (
            f"{seen.remedy} Then `molting resume {run.id}`.".strip() if seen.remedy else f"`molting resume {run.id}`."
        )
    return _ends("not_trained", "files", sentence, remedy, evidence)


def _keys_do_not_fit(error: DoesNotFit) -> calls.Investigation:
    report = error.report
    evidence = f"{len(report.missing_keys)} keys missing, {len(report.unexpected_keys)} without a place"
    return _ends("not_applied", "files", f"Not applied: {error.message}", error.remedy, evidence)


def _ends(cause: calls.Cause, at: str, sentence: str, remedy: str, evidence: str) -> calls.Investigation:
    """An investigation that the files alone decide: what was not reached is shown as skipped."""
    from .questions import ended_at

    return calls.Investigation(cause=cause, sentence=sentence, remedy=remedy, steps=ended_at(at, evidence))


def _with_findings(ended: calls.Investigation, findings: list[calls.Finding]) -> calls.Investigation:
    ended.findings = findings
    return ended


def _the_same(run: RunDir, against: str) -> str:
    """The name of the run that this one was compared with, where both have the same weights."""
    if not against:
        return ""
    other = RunDir(Path(against))
    own = after.weights_hash(run)
    same = other.path.resolve() == run.path.resolve() or (own and own == after.weights_hash(other))
    return other.id if same else ""


def _error(findings: list[calls.Finding]) -> calls.Finding | None:
    return next((finding for finding in findings if finding.severity == "error"), None)


def _size(learned: Path) -> str:
    size = sum(file.stat().st_size for file in learned.glob("*.safetensors"))
    return f"{size:,} bytes of weights"


def _progress(tell: Tell) -> Callable[..., None]:
    def progress(phase: str, done: float | None = None, total: float | None = None) -> None:
        tell(calls.Progress(phase=phase, done=done or 0.0, total=total or 0.0))

    return progress
