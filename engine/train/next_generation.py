"""The verb `generation`: the next run of self-training, from the base, on all original rows and what was kept."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from engine.checks import preflight
from engine.contract import calls, curation, durable, generations, rundir, summary
from engine.contract.curation import Candidate, Choices
from engine.contract.errors import MoltingError
from engine.contract.generations import Generated, Generation, GenerationRequest
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec, Sweep, total_steps
from engine.data import original
from engine.data.original import Origin
from engine.evaluate import curate, gates

from . import freeze, start, sweep

Tell = Callable[[calls.Line], None]


def generation(request: GenerationRequest, tell: Tell) -> Generated:
    """Make the run and let it queue. MoltingError: code 1 where the stop rule says no, 2 where nothing was curated."""
    run = RunDir(Path(request.run))
    choices = curation.newest(run, request.batch)
    _require_decided(run, choices)
    reasons = _stopped(run, request)
    spec = summary.load_spec(run)
    rows, heldout = original.trained(spec)
    accepted, edited, left_out = _accepted(run, spec, rows, choices)
    parent = generations.read(run)
    root = parent.root if parent else run.id
    own, made_before = _apart(rows)
    learned, too_many = within(own, accepted, made_before)
    left_out += too_many
    if not learned:
        why = " ".join(left_out[:3]) or f"`molting curate {run.id} --new` asks for other answers."
        raise MoltingError("Nothing that was kept goes into the next set.", remedy=why, code=2)
    made = Generation(
        number=(parent.number if parent else 0) + 1,
        parent=run.id,
        root=root,
        batch=choices.batch.name,
        originals=len(own),
        accepted=len(learned),
        edited=edited,
        gated=choices.batch.header.gated and (parent is None or parent.gated),
        by=choices.opened.by,
        overridden=reasons,
        t=time.time(),
    )
    lines = [each.as_row(kind="original", run=root, generation=0) for each in own] + [row.as_row() for row in learned]
    train = _write(run, f"{choices.batch.name}.rows.jsonl", lines)
    held = _write(
        run, f"{choices.batch.name}.heldout.jsonl", [each.as_row(kind="held out", run=root) for each in heldout]
    )
    following = next_spec(spec, made, train, held if heldout else None, len(rows))
    first, *others = _create(request, run, following, made, tell)
    if request.start and others:
        start.launch_all([first, *others], Path(request.models), tell)
    elif request.start:
        start.launch(first, Path(request.models))
    return Generated(
        run=first.id,
        path=str(first.path),
        state=summary.summarise(first).state,
        generation=made,
        left_out=left_out,
        others=[each.id for each in others],
    )


def _require_decided(run: RunDir, choices: Choices) -> None:
    left = len(choices.batch.offered) - len(choices.decided)
    if left:
        raise MoltingError(
            f"{left} of {len(choices.batch.offered)} answers of {run.id} are neither kept nor rejected yet.",
            remedy=f"`molting curate {run.id}` goes on.",
            code=2,
        )


def _stopped(run: RunDir, request: GenerationRequest) -> list[str]:
    """The reasons that were passed over. MoltingError (code 1) where there are some and nobody said to."""
    line = generations.line_of(generations.ledger(run), run.id)
    reasons = generations.stop_reasons(line, request.limits)
    if reasons and not request.override:
        raise MoltingError(
            f"Self-training of {run.id} stops here. {' '.join(reasons)}",
            remedy="Write better rows, or keep an earlier generation; --despite-stop-rule goes on and is recorded.",
            code=1,
        )
    return reasons


def _apart(rows: Sequence[Origin]) -> tuple[list[Origin], list[Origin]]:
    """What people wrote, and what earlier generations did."""
    return [each for each in rows if not each.generated], [each for each in rows if each.generated]


def within(
    own: Sequence[Origin], accepted: Sequence[Origin], before: Sequence[Origin]
) -> tuple[list[Origin], list[str]]:
    """At most as many generated rows as people wrote, earlier generations first to go; and what was left out."""
    every = [*accepted, *before]
    kept = every[: len(own)]
    left = len(every) - len(kept)
    said = f"{left} of {len(every)} accepted answers: there may be no more of them than the {len(own)} original rows."
    return kept, [said] if left else []


def _accepted(run: RunDir, spec: Spec, rows: Sequence[Origin], choices: Choices) -> tuple[list[Origin], int, list[str]]:
    """What was kept, as rows; how many of them a person edited; and what an edit made refusable, in sentences."""
    header, left_out, found, edited = choices.batch.header, [], [], 0
    by = curate.standard(run, spec, rows)[0]
    for candidate, text in choices.kept:
        if text != candidate.answer and header.gated:
            gate, why = gates.refusal(msgspec.structs.replace(candidate, answer=text, stop="end"), by)
            if gate:
                left_out.append(f"The edited answer {candidate.id}: {why}")
                continue
        edited += text != candidate.answer
        found.append(original.asked(candidate.prompt, text, _origin(run, candidate, text, choices)))
    return found, edited, left_out


def _origin(run: RunDir, candidate: Candidate, text: str, choices: Choices) -> dict[str, Any]:
    header, before = choices.batch.header, generations.read(run)
    return {
        "kind": original.SELF,
        "run": run.id,
        "generation": (before.number if before else 0) + 1,
        "adapter": header.adapter,
        "batch": choices.batch.name,
        "answer": candidate.id,
        "sample": candidate.sample,
        "seed": candidate.seed,
        "stop": candidate.stop,
        "parameters": {
            name: value for name, value in msgspec.to_builtins(header.decoding).items() if value is not None
        },
        "by": choices.opened.by,
        "gate": candidate.gate,  # only in a control: what would have refused it
        "edited": text != candidate.answer,
    }


def next_spec(spec: Spec, made: Generation, train: Path, heldout: Path | None, rows: int) -> Spec:
    """The parent's spec, base and all, with other rows. What was held out stays held out, and is the same.

    Steps that were counted from epochs over the parent's `rows` are counted anew: every row is seen as often.
    """
    family = re.sub(r"-g\d+(?:-control)?(?:-s\d+)?$", "", spec.name)
    data = msgspec.structs.replace(
        spec.data,
        train=str(train),
        heldout=str(heldout) if heldout else "",
        heldout_fraction=spec.data.heldout_fraction if heldout else 0.0,
        format="messages",
        fields={},
        title_template="",
        sha256="",
    )
    name = f"{family}-g{made.number}{'' if made.gated else '-control'}"
    uncapped = msgspec.structs.replace(spec.training, max_steps=0)
    counted = total_steps(rows, msgspec.structs.replace(spec, training=uncapped)) == spec.training.max_steps
    return msgspec.structs.replace(spec, name=name[:200], data=data, training=uncapped if counted else spec.training)


def of_seeds(spec: Spec, seeds: int) -> list[Spec]:
    """`spec` itself, or the members of a sweep over so many seeds, its own first."""
    if seeds == 1:
        return [spec]
    swept, made = sweep.new_id(spec.name), []
    for seed in (each % 2**31 for each in range(spec.training.seed, spec.training.seed + seeds)):
        own = Sweep(id=swept, changes={"training.seed": seed}, comparable=bool(spec.data.heldout))
        training = msgspec.structs.replace(spec.training, seed=seed)
        made.append(msgspec.structs.replace(spec, name=f"{spec.name}-s{seed}", training=training, sweep=own))
    return made


def _write(run: RunDir, name: str, rows: Sequence[dict[str, Any]]) -> Path:
    path = run.curation / name
    try:
        durable.write_replace(path, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    except OSError as error:
        raise durable.explain(error, "write the next set of rows") from error
    return path


def _create(request: GenerationRequest, parent: RunDir, spec: Spec, made: Generation, tell: Tell) -> list[RunDir]:
    checked = preflight.check(freeze.opened(spec, parent.spec), Path(request.models))
    errors = [finding for finding in checked.findings if finding.severity == "error"]
    if errors:
        message = " ".join(finding.message for finding in errors)
        raise MoltingError(message, remedy=errors[0].remedy, reason="bad_data", code=1)
    for finding in checked.findings:
        tell(start.said(finding))
    if spec.launcher.kind == "local":
        start.warn_of_logout(tell)

    def fill(new: RunDir, own: Spec) -> None:
        freeze.write(new, msgspec.structs.replace(own, parent=made.parent))
        if (facts := parent.inputs / "facts.toml").is_file():
            shutil.copyfile(facts, new.inputs / facts.name)
        generations.write(new, made)

    try:
        return [
            rundir.create(Path(request.runs), own.name, partial(fill, own=own))
            for own in of_seeds(checked.resolved, request.seeds)
        ]
    except OSError as error:
        raise durable.explain(error, "make the run of the next generation") from error
