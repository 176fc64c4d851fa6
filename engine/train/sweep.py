"""The verb `sweep`: a run for every point of a spec's sweep, all checked first, then queued one after another."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from engine.checks import preflight
from engine.contract import calls, durable, rundir, sweeps
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec, Sweep
from engine.contract.sweeps import Point

from . import freeze, start

Tell = Callable[[calls.Line], None]


@dataclass(frozen=True)
class Member:
    """One run to be: what it has of its own, and what the checks said of it."""

    point: Point
    spec: Spec
    checked: preflight.Checked


def sweep(request: calls.SweepRequest, tell: Tell) -> calls.Sweeping:
    """Check all runs of a sweep, make them, let them queue. MoltingError (code 1) naming every error of every run."""
    file, models, runs = Path(request.spec).expanduser().absolute(), Path(request.models), Path(request.runs)
    base = freeze.read(file)
    points = sweeps.points(base.sweep)
    if not points:
        raise MoltingError(
            f"{file} has no [sweep], so it is one run.",
            remedy='Give it one, as `[sweep]` with `grid = { "method.rank" = [8, 16] }`, or use `molting train`.',
            code=2,
        )
    base = msgspec.structs.replace(base, name=base.name or file.parent.name)
    members = _checked(base, file, points, models, tell)
    alike = sweeps.comparable(base, points)
    _warn(members, alike, tell)
    planned = [_planned(member) for member in members]
    times = [run.seconds for run in planned if run.seconds is not None]
    whole = sum(times) if len(times) == len(planned) else None
    made = calls.Sweeping(sweep="", runs=planned, seconds=whole, comparable=alike)
    if request.start:
        _start(made, members, base, runs, models, tell)
    return made


def _checked(base: Spec, file: Path, points: list[Point], models: Path, tell: Tell) -> list[Member]:
    """Every run looked at; what hinders any of them is told of all at once, and nothing was made."""
    members, wrong = [], dict[str, list[Point]]()
    for number, point in enumerate(points, start=1):
        tell(calls.Progress(phase="checking runs", done=number - 1, total=len(points), unit="runs"))
        named = msgspec.structs.replace(sweeps.applied(base, point), name=f"{base.name}: {sweeps.label(point)}"[:200])
        try:
            opened = freeze.opened(named, file)
            checked = preflight.check(opened, models)
        except MoltingError as error:
            wrong.setdefault(str(error), []).append(point)
            continue
        for finding in checked.findings:
            if finding.severity == "error":
                wrong.setdefault(f"{finding.message} {finding.remedy}".strip(), []).append(point)
        members.append(Member(point, opened.spec, checked))
    if wrong:
        said = [f"{sweeps.whose(failing, points)}: {message}" for message, failing in wrong.items()]
        raise MoltingError(
            "\n".join(["No run of this sweep was started:", *said]),
            remedy="Mend the spec, or leave those values out.",
            code=1,
        )
    return members


def _warn(members: list[Member], alike: bool, tell: Tell) -> None:
    """What does not hinder, each sentence once."""
    findings = itertools.chain.from_iterable(member.checked.findings for member in members)
    for note in dict.fromkeys(start.said(finding).text for finding in findings):
        tell(calls.Note(text=note))
    if not alike:
        tell(
            calls.Note(
                text="warning: These runs hold out other rows, or read them as other tokens, so their held-out losses "
                "do not compare: none will be called best, and none stopped as worse. A held-out file of its own "
                "(data.heldout) mends that where only the training rows differ."
            )
        )


def _planned(member: Member) -> calls.SweepRun:
    plan = member.checked.plan
    return calls.SweepRun(
        name=member.spec.name,
        changes=member.point,
        steps=plan.steps if plan else 0,
        seconds=plan.seconds if plan else None,
    )


def _start(made: calls.Sweeping, members: list[Member], base: Spec, runs: Path, models: Path, tell: Tell) -> None:
    """Make all run directories, then let them queue: a run knows its siblings from its first step on."""
    if base.launcher.kind == "local":
        start.warn_of_logout(tell)
    made.sweep = new_id(base.name)
    created = [_create(runs, made, base, member) for member in members]
    for planned, run in zip(made.runs, created, strict=True):
        planned.run = run.id
    start.launch_all(created, models, tell)


def new_id(name: str) -> str:
    """What the runs of one sweep have in common."""
    return f"{rundir.slug(name)}-sweep-{datetime.now():%Y%m%d}-{secrets.token_hex(2)}"


def _create(runs: Path, made: calls.Sweeping, base: Spec, member: Member) -> RunDir:
    own = Sweep(
        id=made.sweep,
        changes=member.point,
        stop_worse=base.sweep.stop_worse and made.comparable,
        comparable=made.comparable,
    )
    spec = msgspec.structs.replace(member.checked.resolved, sweep=own)
    try:
        return rundir.create(runs, spec.name, lambda new: freeze.write(new, spec))
    except OSError as error:
        raise durable.explain(error, "make the runs of the sweep") from error
