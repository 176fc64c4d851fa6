"""The one trainer: TRL's, with our batches, our loss, our events and our sealed checkpoints.

One item of its data loader is the number of an optimizer step; the rows of that step follow from (seed, step). So
accumulation and packing never change the gradient, and a resumed run continues with exactly the rows that follow.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTConfig, SFTTrainer

from engine.contract import durable, events
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec

from . import batch, checkpoint, memory, plan
from .control import Control
from .learn import Rows
from .loss import summed_loss
from .recorder import Recorder

MEMORY_EVERY = 10.0  # seconds
FULL = 16_000_000  # bytes free below which a failed write is put down to the disk


class Progress(msgspec.Struct, kw_only=True):
    """What a checkpoint carries besides the weights: our own counters, and the best evaluation so far."""

    step: int = 0
    tokens: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    evaluations_since_best: int = 0


class Watch(TrainerCallback):
    """Decides after each step what happens next; the trainer then does it in the order log, evaluate, save."""

    def __init__(self, spec: Spec, control: Control, recorder: Recorder) -> None:
        self._spec = spec
        self._control = control
        self._recorder = recorder
        self.stopped = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        step, last = state.global_step, state.global_step >= state.max_steps
        evaluation = self._spec.evaluation
        control.should_log = True
        control.should_evaluate = last or step % int(evaluation.every) == 0 or _due(step, int(evaluation.sample_every))
        control.should_save = last or step % int(self._spec.training.save_every) == 0
        if self._control.take_save():
            self._recorder.emit(events.Control(command="save-now", step=step))
            control.should_save = True
        if not last and self._control.stop():
            self._recorder.emit(events.Control(command="stop", step=step))
            self.stopped = control.should_save = control.should_training_stop = True
        return control


def _due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0


class PersonaTrainer(SFTTrainer):
    """Trains on the rows that `rows.of_step` gives; everything it does becomes an event."""

    def __init__(
        self,
        *,
        run: RunDir,
        spec: Spec,
        base: Path,
        model: Any,
        tokenizer: Any,
        rows: Rows,
        device: str,
        recorder: Recorder,
        control: Control,
        evaluate_rows: Callable[[Any], float | None] | None,
        sample: Callable[[Any, int], None] | None,
    ) -> None:
        self.run, self.spec, self.base = run, spec, base
        self.recorder = recorder
        self.progress = Progress()
        self.rows = rows
        self._evaluate_rows, self._sample = evaluate_rows, sample
        self._pad_id = tokenizer.pad_token_id
        self.packed = bool(spec.training.packing) and batch.packable(model.config)
        if spec.training.packing is True and not self.packed:
            recorder.warn("not-packed", "Packing is not exact for this architecture, so rows are padded instead.")
        self._loss_sum, self._losses = 0.0, 0
        self.last_loss: float | None = None
        self.eval_loss: float | None = None
        self._saved_size, self._evaluated = 0, -1
        self._memory_at = 0.0
        self.watch = Watch(spec, control, recorder)
        steps = int(spec.training.max_steps)
        super().__init__(
            model=model,
            args=_arguments(spec, run, device),
            train_dataset=Dataset.from_dict({"step": range(steps)}),
            processing_class=tokenizer,
            data_collator=lambda items: items[0],
            callbacks=[self.watch],
        )

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The learning rate over the steps, by the function that the checks forecast it with."""
        training, steps = self.spec.training, int(self.spec.training.max_steps)
        warmup = plan.warmup_steps(steps, training.warmup)
        share = functools.partial(plan.rate_share, steps=steps, warmup=warmup, schedule=training.schedule)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, share)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> torch.Tensor:
        """Forward and backward for all rows of one optimizer step; returns its mean nats per learned token."""
        self._began = time.perf_counter()
        rows = self.rows.of_step(int(inputs["step"]))
        learned = batch.learned(rows)
        if not learned:
            raise nothing_learned(self.state.global_step + 1)
        model.train()
        size = self.spec.training.batch
        loss = torch.zeros((), device=self.args.device)
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            if not batch.learned(part):
                continue
            layout = batch.pack(part) if self.packed else batch.pad(part, self._pad_id)
            with self.compute_loss_context_manager():
                share = summed_loss(model, layout) / learned
            self.accelerator.backward(share)
            loss += share.detach()
            self.recorder.beat()
        if not math.isfinite(loss.item()):
            raise not_finite("loss", self.state.global_step + 1, self.newest())
        self.progress.tokens += sum(len(row.input_ids) for row in rows)
        self._step_rows, self._step_learned = len(rows), learned
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """One optimizer step becomes one event; the closing summary of the library is not one."""
        if "loss" not in logs:
            return
        step = self.state.global_step
        loss, norm = logs["loss"], logs.get("grad_norm")
        self.recorder.emit(
            events.Metric(
                step=step,
                loss=loss,
                grad_norm=norm if norm is not None and math.isfinite(norm) else None,
                lr=logs["learning_rate"],
                tokens=self.progress.tokens,
                learned=self._step_learned,
                rows=self._step_rows,
                seconds=time.perf_counter() - self._began,
                epoch=plan.epoch_of(step, self.rows.count, self.spec),
            )
        )
        self.progress.step, self.last_loss = step, loss
        self._loss_sum, self._losses = self._loss_sum + loss, self._losses + 1
        if loss == 0.0 and norm == 0.0:
            raise nothing_learned(step)
        if norm is not None and not math.isfinite(norm) and not self.args.fp16:
            raise not_finite("gradient", step, self.newest())
        if time.monotonic() - self._memory_at >= MEMORY_EVERY:
            self._memory_at = time.monotonic()
            self.recorder.emit(memory.event(self.run.path, self.args.device))

    @property
    def mean_loss(self) -> float | None:
        """Over the steps of this attempt."""
        return self._loss_sum / self._losses if self._losses else None

    def newest(self) -> int:
        """The step of the newest checkpoint; 0 for none."""
        return next(iter(self.run.checkpoint_steps()), 0)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Answer loss over the held-out rows and answers to the probe questions, where they are due."""
        step, evaluation = self.state.global_step, self.spec.evaluation
        if step == self._evaluated:
            return {}  # the library asks again at the end of its epoch
        self._evaluated, last = step, step >= self.state.max_steps
        if self._evaluate_rows and (last or step % int(evaluation.every) == 0):
            self._evaluate_heldout(self._evaluate_rows, step)
        if self._sample and evaluation.sample_every and (last or _due(step, int(evaluation.sample_every))):
            self.recorder.phase("sampling")
            self._sample(self.model, step)
        self.recorder.phase("training", total=self.state.max_steps, unit="steps", done=step)
        return {}

    def _evaluate_heldout(self, evaluate_rows: Callable[[Any], float | None], step: int) -> None:
        self.recorder.phase("evaluating", total=len(self.rows.heldout), unit="rows")
        began = time.perf_counter()
        loss = evaluate_rows(self.model)
        progress, patience = self.progress, self.spec.training.early_stopping
        best = loss is not None and (progress.best_loss is None or loss < progress.best_loss)
        if best:
            progress.best_loss, progress.best_step, progress.evaluations_since_best = loss, step, 0
            self.control.should_save = self.control.should_save or self.spec.training.keep_best
        else:
            progress.evaluations_since_best += 1
        self.eval_loss = loss
        seconds = time.perf_counter() - began
        self.recorder.emit(events.Eval(step=step, loss=loss, rows=len(self.rows.heldout), seconds=seconds, best=best))
        if patience and progress.evaluations_since_best >= patience:
            self.recorder.log(f"No better held-out loss for {patience} evaluations: training ends early.")
            self.control.should_training_stop = self.control.should_save = True

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Seal a checkpoint: whole under its name, or not there at all."""
        step, began = self.state.global_step, time.perf_counter()
        target = self.run.checkpoint(step)
        if target.exists():
            return
        checkpoint.require_space(self.run, self._saved_size)
        staging = self.run.checkpoints / f".staging-{step}-{os.getpid()}"
        staging.mkdir(mode=0o700)
        with disk_full_said(self.run):
            save_weights(self.model, staging)
            self._save_optimizer_and_scheduler(str(staging))
            self._save_scaler(str(staging))
            self._save_rng_state(str(staging))
            self.state.save_to_json(str(staging / "trainer_state.json"))
            (staging / "progress.json").write_bytes(msgspec.json.encode(self.progress))
            durable.seal(staging, target, step=step, base=self.spec.model.fingerprint)
        self._saved_size = checkpoint.size_of(target)
        self.recorder.emit(
            events.Checkpoint(
                step=step,
                path=str(target.relative_to(self.run.path)),
                size=self._saved_size,
                seconds=time.perf_counter() - began,
                best=step == self.progress.best_step,
            ),
            durable=True,
        )
        checkpoint.rotate(self.run, self.spec.training.keep, self.progress.best_step)

    def restore(self, path: Path) -> None:
        """Take our own counters from the checkpoint that training resumes from."""
        self.progress = msgspec.json.decode((path / "progress.json").read_bytes(), type=Progress)
        self._saved_size = checkpoint.size_of(path)


@contextlib.contextmanager
def disk_full_said(run: RunDir) -> Iterator[None]:
    """Turns whatever a library says when the disk is full (seldom that) into disk_full."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        free = durable.free_bytes(run.path)
        if free >= FULL:
            raise
        raise checkpoint.disk_full(run, free, f"a file could not be written ({error})") from error


def save_weights(model: Any, folder: Path) -> None:
    """The adapter, or the whole model, as safetensors. The model card that PEFT adds names local paths, so it goes."""
    model.save_pretrained(str(folder), safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)


def copy_tokenizer(base: Path, folder: Path) -> None:
    """What a tokenizer consists of, from one model folder into another."""
    for pattern in ("tokenizer*", "special_tokens_map.json", "chat_template.jinja", "vocab.*", "merges.txt"):
        for file in base.glob(pattern):
            shutil.copyfile(file, folder / file.name)


def nothing_learned(step: int) -> MoltingError:
    return MoltingError(
        f"Step {step} had loss 0 and gradient 0: nothing was learned from its rows.",
        remedy="Look at what is learned in each row (`molting doctor SPEC`); rows longer than data.max_length lose "
        "their answers.",
        reason="bad_data",
    )


def not_finite(what: str, step: int, saved: int) -> MoltingError:
    kept = f"The weights of step {saved} are saved." if saved else "No checkpoint was saved before it."
    return MoltingError(
        f"The {what} of step {step} is not a finite number. {kept}",
        remedy="Try a lower training.learning_rate, more warm-up, or precision bf16 instead of fp16.",
        reason="nan_loss",
    )


def _arguments(spec: Spec, run: RunDir, device: str) -> SFTConfig:
    training, steps = spec.training, int(spec.training.max_steps)
    return SFTConfig(
        output_dir=str(run.path / "attempts"),  # nothing is written there by the library
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        max_steps=steps,
        learning_rate=float(training.learning_rate),
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm or 1e12,  # 0 would hide the norm as well
        seed=training.seed,
        bf16=spec.model.precision == "bf16",
        fp16=spec.model.precision == "fp16",
        use_cpu=device == "cpu",
        optim="adamw_torch_fused" if device != "cpu" else "adamw_torch",
        gradient_checkpointing=False,  # the model was told already, where it is wanted
        train_sampling_strategy="sequential",
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
    )
