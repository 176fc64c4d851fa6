"""A batch that is being curated: each choice is on the disk before the form takes it in."""

from __future__ import annotations

import msgspec

from engine.contract import curation
from engine.contract.curation import AnyEvent, ChoiceFile, Choices
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir

from ..state.curate_form import CurateForm
from .durable_form import DurableForm


class Curating(DurableForm[CurateForm, AnyEvent]):
    """One batch, its form and its file."""

    def __init__(self, run: RunDir, choices: Choices) -> None:
        """Go on where it was left. MoltingError when another window is at it."""
        self.run = run
        file = ChoiceFile(run, choices.batch)
        # What another window wrote before it let go counts too.
        form = CurateForm(curation.newest(run, choices.batch.name))
        events = form.choices.events
        super().__init__(form, file, events[-1].t if events else 0.0)


def newest(run: RunDir, batch: str = "") -> Choices | None:
    """The newest batch of a run with its choices; None where there is none. MoltingError for one that is damaged."""
    if not curation.listed(run) and not batch:
        return None
    return curation.newest(run, batch)


def control(run: RunDir, choices: Choices) -> Choices:
    """The same answers once more as a batch without gates: then nothing but the gates differs."""
    header = msgspec.structs.replace(choices.batch.header, gated=False)
    return curation.newest(run, curation.write(run, header, choices.batch.candidates).name)


def require_curatable(run: RunDir) -> None:
    """MoltingError (code 2) where a run has no weights that could answer."""
    if not run.adapter.exists() and not run.checkpoint_steps():
        raise MoltingError(f"{run.id} has no trained weights yet, so it cannot answer.", code=2)
