"""The one trainer: TRL's, with our batches, our loss, our events and our sealed checkpoints.

One item of its data loader is the number of an optimizer step; the rows of that step follow from (seed, step). So
accumulation and packing never change the gradient, and a resumed run continues with exactly the rows that follow.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from datasets import Dataset
from peft.helpers import disable_input_dtype_casting
from trl import SFTTrainer

from engine.contract import durable, events
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec

from . import batch, checkpoint, compiling, duration, memory, plan
from .arguments import arguments
from .attention import tree_attention
from .control import Control
from .learn import Rows
from .loss import summed_loss
from .progress import Progress, not_finite, nothing_learned
from .ranks import Ranks
from .recorder import Recorder
from .siblings import Siblings
from .watch import Watch, due

MEMORY_EVERY = 10.0  # seconds
FULL = 16_000_000  # bytes free below which a failed write is put down to the disk


class PersonaTrainer(SFTTrainer):
    """Trains on the rows that `rows.of_step` gives; everything it does becomes an event."""

    foreseen: memory.Foreseen | None = None

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
        abilities: Callable[[Any, int], None] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.sharded = bool(self.ranks.several and spec.training.shard is True)  # each process holds a part of it
        self.run, self.spec, self.base = run, spec, base
        self.recorder = recorder
        self.progress = Progress(batch_tokens=int(spec.training.batch_tokens), world=self.ranks.world)
        self.rows = rows
        self._evaluate_rows, self._sample, self._abilities = evaluate_rows, sample, abilities
        self._records: events.Stream | None = None
        self._pad_id = tokenizer.pad_token_id
        self._loss_sum, self._losses = 0.0, 0
        self.last_loss: float | None = None
        self.eval_loss: float | None = None
        self._saved_size, self._evaluated = 0, -1
        self._memory_at, self._memory_due = 0.0, False
        self.pace = duration.Pace()
        self.compiled = not self.sharded and compiling.worthwhile(spec, rows, device)
        if self.compiled:
            compiling.compile_layers(model)
        self.watch = Watch(spec, control, recorder, self.ranks)
        self.siblings, self.why = Siblings(run, spec), ""
        steps = int(spec.training.max_steps)
        super().__init__(
            model=model,
            args=arguments(spec, run, device, self.ranks),
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

    def get_train_dataloader(self) -> Any:
        """The numbers of the steps; several processes get the same ones, and share out the rows themselves."""
        if not self.ranks.several:
            return super().get_train_dataloader()
        return torch.utils.data.DataLoader(self.train_dataset, batch_size=1, collate_fn=self.data_collator)

    def training_step(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> torch.Tensor:
        """Forward and backward for all rows of one optimizer step; returns its mean nats per learned token."""
        self._began = time.perf_counter()
        first = self.compiled and not self._losses
        if first:
            self.recorder.phase("compiling")
        rows = self.rows.of_step(int(inputs["step"]))
        learned = batch.learned(rows)
        if not learned:
            raise nothing_learned(self.state.global_step + 1)
        model.train()
        loss, self._computed = torch.zeros((), device=self.args.device), 0
        layouts = self._layouts(rows)
        for number, (layout, counts) in enumerate(layouts, 1):
            with self._synchronised(model, number == len(layouts)):
                loss += self._pass(model, layout, learned, counts)
            self._computed += layout.computed
            self.recorder.beat()
        loss = self._together(loss)
        if not math.isfinite(loss.item()):
            raise not_finite("loss", self.state.global_step + 1, self.newest())
        if first:
            self.recorder.phase("training", total=self.state.max_steps, unit="steps", done=self.state.global_step)
        self._presented = sum(len(row.input_ids) for row in rows)
        self.progress.tokens += self._presented
        self._step_rows, self._step_learned = len(rows), learned
        return loss

    def _layouts(self, rows: Sequence[batch.Row]) -> list[tuple[batch.Layout, bool]]:
        """What this process passes through the model for a step, and whether it counts.

        Processes that train together must all take part in a backward pass, even one whose share is empty.
        """
        ours = batch.share(rows, self.ranks.rank, self.ranks.world, self.spec.training)
        made = [(layout, True) for layout in self._laid_out(ours)]
        least = int(self.ranks.most(len(made), self.args.device)) if self.sharded else 1
        if len(made) < least:
            idle = made[0][0] if made else next(self._laid_out(rows))
            made += [(idle, False)] * (least - len(made))
        return made

    def _laid_out(self, rows: Sequence[batch.Row]) -> Iterator[batch.Layout]:
        parts = batch.parts(rows, self.spec.training) if rows else ()
        layouts = (batch.pack(part) if self.packed else batch.pad(part, self._pad_id) for part in parts)
        return (layout for layout in layouts if layout.targets)

    def _synchronised(self, model: Any, last: bool) -> contextlib.AbstractContextManager[None]:
        """Several processes exchange their gradients once a step, at its last part."""
        return contextlib.nullcontext() if last or not self.ranks.several else self.accelerator.no_sync(model)

    def _together(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss over all processes, and now and then what memory they all have."""
        due = self.ranks.first and time.monotonic() - self._memory_at >= MEMORY_EVERY
        total, computed, said = self.ranks.total(loss.item(), self._computed, due, device=self.args.device)
        self._computed, self._memory_due = int(computed), said > 0
        return loss if not self.ranks.several else torch.tensor(total, device=loss.device)

    @property
    def packed(self) -> bool:
        """Whether rows lie in one sequence, what they share only once."""
        return bool(self.spec.training.packing)

    def _pass(self, model: Any, layout: batch.Layout, learned: int, counts: bool = True) -> torch.Tensor:
        """Forward and backward of one part of a step; its share of the step's loss, 0 where it does not count."""
        with tree_attention(model) if self.packed else contextlib.nullcontext(), self._cast_once():
            with self.compute_loss_context_manager():
                share = self._forward(model, layout) / learned * counts
            # Gradients are averaged over the processes, and this one's share is of the whole step.
            self.accelerator.backward(share * self.ranks.world)
        return share.detach()

    def _cast_once(self) -> contextlib.AbstractContextManager[None]:
        """Keep PEFT from casting inputs to fp32, which autocast casts back; the norms of DoRA are out of its reach."""
        half = self.args.bf16 or self.args.fp16
        return disable_input_dtype_casting(self.model, active=half and not self.spec.method.dora)

    def _forward(self, model: Any, layout: batch.Layout) -> torch.Tensor:
        """The summed loss; where the layers cannot be compiled, uncompiled from now on."""
        try:
            return summed_loss(model, layout)
        except Exception as error:
            if not self.compiled or not compiling.failed(error):
                raise
            self.compiled = False
            compiling.back_to_eager(model)
            why = str(error).strip().splitlines()[0][:200]
            self.recorder.warn("not-compiled", f"The model's layers could not be compiled: {why}")
            return summed_loss(model, layout)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """One optimizer step becomes one event; the closing summary of the library is not one."""
        if "loss" not in logs:
            return
        step, seconds = self.state.global_step, time.perf_counter() - self._began
        loss, norm = logs["loss"], logs.get("grad_norm")
        self.pace.add(self._computed, seconds)
        self.recorder.emit(
            events.Metric(
                step=step,
                loss=loss,
                grad_norm=norm if norm is not None and math.isfinite(norm) else None,
                lr=logs["learning_rate"],
                tokens=self.progress.tokens,
                learned=self._step_learned,
                rows=self._step_rows,
                seconds=seconds,
                epoch=plan.epoch_of(step, self.rows.count, self.spec),
                presented=self._presented,
                computed=self._computed,
            )
        )
        self._say_records()
        self.progress.learned(loss)
        if not self._losses:
            self._say_saving()
        self.progress.step, self.last_loss = step, loss
        self._loss_sum, self._losses = self._loss_sum + loss, self._losses + 1
        if loss == 0.0 and norm == 0.0:
            raise nothing_learned(step)
        if norm is not None and not math.isfinite(norm) and not self.args.fp16:
            raise not_finite("gradient", step, self.newest())
        if self._memory_due:
            self._memory_at = time.monotonic()
            self.recorder.emit(memory.of_all(self.ranks.gathered(memory.event(self.run.path, self.args.device))))

    def _say_records(self) -> None:
        """How many records a stream has: at first as they can be estimated, then as they were counted."""
        if self.rows.stream and not (self._records and self._records.exact):
            said = self.rows.stream.records()
            if self._records is None or said.exact:
                self._records = said
                self.recorder.emit(said)

    def _say_saving(self) -> None:
        saved = 1 - self._computed / self._presented
        if self.packed and saved > 0:
            said = f"{self._computed:,} instead of {self._presented:,} tokens passed through the model"
            self.recorder.log(f"Sharing saved {saved:.0%} of the first step's work: {said}.")

    @property
    def mean_loss(self) -> float | None:
        """Over the steps of this attempt."""
        return self._loss_sum / self._losses if self._losses else None

    def newest(self) -> int:
        """The step of the newest checkpoint; 0 for none."""
        return next(iter(self.run.checkpoint_steps()), 0)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Answer loss over the held-out rows and answers to the probe questions, where they are due."""
        step = self.state.global_step
        if step == self._evaluated:
            return {}  # the library asks again at the end of its epoch
        with compiling.uncompiled() if self.compiled else self._callable():
            self._watch_step(step)
        return {}

    def _callable(self) -> contextlib.AbstractContextManager[None]:
        """What answers need of a model that is split."""
        if not self.sharded:
            return contextlib.nullcontext()
        from .shard import outer_layers

        return outer_layers(self.model)

    def _watch_step(self, step: int) -> None:
        evaluation = self.spec.evaluation
        self._evaluated, last = step, step >= self.state.max_steps
        if self._evaluate_rows and (last or step % int(evaluation.every) == 0):
            self._evaluate_heldout(self._evaluate_rows, step)
        alike = self.ranks.first or self.sharded  # where each has the whole model, one is enough
        if alike and self._abilities and (last or step % int(evaluation.every) == 0):
            self._abilities(self.model, step)
        if alike and self._sample and evaluation.sample_every and (last or due(step, int(evaluation.sample_every))):
            self.recorder.phase("sampling")
            self._sample(self.model, step)
        self.recorder.phase("training", total=self.state.max_steps, unit="steps", done=step)

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
        train, rows = progress.evaluated(), len(self.rows.heldout)
        self.recorder.emit(events.Eval(step=step, loss=loss, rows=rows, seconds=seconds, best=best, train=train))
        if step < self.state.max_steps and (why := self.ranks.told(self.siblings.clearly_worse())):
            self.recorder.log(why)
            self.why, self.watch.stopped = why, True
            self.control.should_training_stop = self.control.should_save = True
        if patience and progress.evaluations_since_best >= patience:
            self.recorder.log(f"No better held-out loss for {patience} evaluations: training ends early.")
            self.control.should_training_stop = self.control.should_save = True

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Seal a checkpoint: whole under its name, or not there at all."""
        step, began = self.state.global_step, time.perf_counter()
        target = self.run.checkpoint(step)
        if self.ranks.told(target.exists()):
            return
        if self.rows.stream:
            self.progress.stream = self.rows.stream.steps.position()
        randoms = self._random_states() if self.ranks.several else {}
        if not self.ranks.first:
            return
        checkpoint.require_space(self.run, self._saved_size)
        staging = self.run.checkpoints / f".staging-{step}-{os.getpid()}"
        staging.mkdir(mode=0o700)
        with disk_full_said(self.run):
            save_weights(self.model, staging)
            self._save_optimizer_and_scheduler(str(staging))
            self._save_scaler(str(staging))
            for name, state in randoms.items():
                (staging / name).write_bytes(state)
            if not randoms:
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

    def _random_states(self) -> dict[str, bytes]:
        """Of all processes, as files of the library."""
        with tempfile.TemporaryDirectory() as folder:
            self._save_rng_state(folder)
            ours = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
        return {name: state for states in self.ranks.gathered(ours) for name, state in states.items()}

    def restore(self, path: Path) -> None:
        """Take our own counters from the checkpoint that training resumes from."""
        self.progress = msgspec.json.decode((path / "progress.json").read_bytes(), type=Progress)
        self._saved_size = checkpoint.size_of(path)
        if self.progress.world != self.ranks.world:
            self.recorder.warn(
                "other-processes",
                f"Trained by {self.progress.world} at once up to step {self.progress.step}, by {self.ranks.world} from "
                "here on: each step has the same rows; sums are rounded, and dropout is drawn, in another way.",
                step=self.progress.step,
            )
            self.progress.world = self.ranks.world
        if self.rows.stream and self.progress.stream:
            self.recorder.phase("indexing", unit="B")
            self.rows.stream.go_on(self.progress.step, self.progress.stream, self.recorder.progress)
        if self.progress.batch_tokens:
            training = msgspec.structs.replace(self.spec.training, batch_tokens=self.progress.batch_tokens)
            self.spec = msgspec.structs.replace(self.spec, training=training)


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
