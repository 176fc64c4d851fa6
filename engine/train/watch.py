"""What the trainer does after each step: log, evaluate, save, stop."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from engine.contract import events
from engine.contract.spec import Spec

from .control import Control
from .ranks import Ranks
from .recorder import Recorder


class Watch(TrainerCallback):
    """Decides after each step what happens next; the trainer then does it in the order log, evaluate, save."""

    def __init__(self, spec: Spec, control: Control, recorder: Recorder, ranks: Ranks) -> None:
        self._spec = spec
        self._control = control
        self._recorder = recorder
        self._ranks = ranks
        self.stopped = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        step, last = state.global_step, state.global_step >= state.max_steps
        evaluation = self._spec.evaluation
        control.should_log = True
        control.should_evaluate = last or step % int(evaluation.every) == 0 or due(step, int(evaluation.sample_every))
        control.should_save = last or step % int(self._spec.training.save_every) == 0
        asked = self._ranks.first and self._control.take_save()
        save, stop = self._ranks.any(asked, self._control.stop(), device=args.device)
        if save:
            self._recorder.emit(events.Control(command="save-now", step=step))
            control.should_save = True
        if not last and stop:
            self._recorder.emit(events.Control(command="stop", step=step))
            self.stopped = control.should_save = control.should_training_stop = True
        return control


def due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0
