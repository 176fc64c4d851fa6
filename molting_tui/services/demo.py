"""The demo from inside the app: the steps of `molting demo` up to a run that trains."""

from __future__ import annotations

from pathlib import Path

from engine.contract import calls
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir

from .personas import earlier_run, persona_folder
from .task import Task


def start(runs: Path, models: str, persona: str, task: Task) -> RunDir:
    """Model, preflight, run: a new one, or the one there is of exactly this persona. MoltingError if it cannot be."""
    spec = persona_folder(persona) / "spec.toml"
    task.call("demo-model", calls.DemoModelRequest(models=models), calls.DemoModel)
    if earlier := earlier_run(runs, spec):
        run, state = earlier
        if state in {"interrupted", "lost"}:
            task.call("resume", calls.RunRequest(run=str(run.path), models=models), calls.Started)
        return run
    checked = task.call("preflight", calls.PreflightRequest(spec=str(spec), models=models), calls.Preflight)
    errors = [finding for finding in checked.findings if finding.severity == "error"]
    if errors:
        raise MoltingError(errors[0].message, remedy=errors[0].remedy, code=1)
    request = calls.CreateRequest(spec=str(spec), runs=str(runs), models=models)
    return RunDir(Path(task.call("create", request, calls.Started).path))
