"""Runs a bench: one candidate after the other, each in an engine process of its own, kept as soon as it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from engine.contract import bench, calls, presets, rundir, summary
from engine.contract.bench import Bench, Benched, BenchFile, BenchRequest, Candidate, Precision, Prompt, Quantize, Row
from engine.contract.errors import MoltingError
from engine.contract.presets import Preset
from engine.contract.rundir import RunDir
from engine.contract.spec import Generation

Call = Callable[[BenchRequest], Benched]
Tell = Callable[[calls.Note], None]

NO_CHOICE: tuple[Literal[""]] = ("",)  # as the run has it, or as the device likes it
DEFAULT_PRESET = "deterministic"
DEFAULT_CAP = 200  # tokens of an answer; the same for all, or answers could not be compared


class Plan(msgspec.Struct, frozen=True):
    """What a bench will do, checked before anything is loaded."""

    sets: list[str]
    prompts: list[Prompt]
    candidates: list[Candidate]
    ways: dict[str, Preset]
    cap: int
    seed: int


def plan(
    runs: Path,
    models: Sequence[str],
    sets: Sequence[str],
    *,
    quantize: Sequence[Quantize] = NO_CHOICE,
    precision: Sequence[Precision] = NO_CHOICE,
    wanted: Sequence[str] = (),
    own: Mapping[str, Preset] | None = None,
    cap: int = DEFAULT_CAP,
    seed: int = 0,
) -> Plan:
    """Every model in every quantisation and precision.

    MoltingError (code 2) for prompts or presets that are none, and for a name that means several runs.
    """
    known = presets.every(own or {})
    for name in wanted:
        if name not in known:
            raise MoltingError(f"There is no preset {name!r}.", remedy=f"There are {', '.join(known)}.", code=2)
    ways = {name: known[name] for name in wanted or [DEFAULT_PRESET]}
    prompts = bench.read_prompts(sets)
    named = [(model, _run(runs, model)) for model in models]
    variants = product(named, quantize or NO_CHOICE, precision or NO_CHOICE)
    candidates = [
        Candidate(model=model, run=run, quantize=bits, precision=number) for (model, run), bits, number in variants
    ]
    return Plan(list(sets), prompts, list(dict.fromkeys(candidates)), ways, cap, seed)


def _run(runs: Path, model: str) -> str:
    """The path of the run that is meant, empty where a model is: "demo", or what looks like a path or a hub id."""
    if model == "demo" or "/" in model or Path(model).exists():
        return ""
    meant = any(run.id.startswith(model) or summary.name_of(run) == model for run in rundir.listed(runs))
    return str(rundir.find(runs, model, summary.name_of).path) if meant else ""


def carry_out(wanted: Plan, runs: Path, models: Path, call: Call, tell: Tell) -> Bench:
    """Ask all of them. What goes wrong with one becomes its row; what ends `call` otherwise ends the bench."""
    file = BenchFile(runs, wanted.sets, wanted.prompts, wanted.candidates)
    try:
        for number, candidate in enumerate(wanted.candidates, 1):
            tell(calls.Note(text=f"{number} of {len(wanted.candidates)}: {candidate.name}"))
            file.add(_one(wanted, candidate, models, call))
    finally:
        file.close()
    return bench.load(file.path)


def _one(wanted: Plan, candidate: Candidate, models: Path, call: Call) -> Benched:
    try:
        ways = [
            bench.Way(preset=name, options=_options(wanted, candidate, preset)) for name, preset in wanted.ways.items()
        ]
        return call(BenchRequest(candidate=candidate, models=str(models), prompts=wanted.prompts, ways=ways))
    except MoltingError as error:
        return Benched(rows=[Row(candidate=candidate, error=error.message, remedy=error.remedy)], said=[])


def _options(wanted: Plan, candidate: Candidate, preset: Preset) -> Generation:
    own = summary.load_spec(RunDir(Path(candidate.run))).generation if candidate.run else Generation()
    return msgspec.structs.replace(preset.over(own), max_new_tokens=wanted.cap, seed=wanted.seed)


def quantizations(given: Sequence[str]) -> list[Quantize]:
    """What was written, as kinds that there are. MoltingError (code 2)."""
    return _kinds("quantize", given, get_args(Quantize))


def precisions(given: Sequence[str]) -> list[Precision]:
    """The same of precisions."""
    return _kinds("precision", given, get_args(Precision))


def _kinds(what: str, given: Sequence[str], known: Sequence[Any]) -> list[Any]:
    kinds = ", ".join(filter(None, known))
    for each in given:
        if not each or each not in known:
            raise MoltingError(f"There is no {what} {each!r}.", remedy=f"Give {kinds}.", code=2)
    return list(given)
