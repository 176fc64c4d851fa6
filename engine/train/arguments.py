"""What the library is told; whatever is ours to do, it is told not to."""

from __future__ import annotations

from typing import Any

from trl import SFTConfig

from engine.contract.rundir import RunDir
from engine.contract.spec import Spec

from .ranks import Ranks


def arguments(spec: Spec, run: RunDir, device: str, ranks: Ranks) -> SFTConfig:
    training, steps = spec.training, int(spec.training.max_steps)
    return SFTConfig(
        output_dir=str(run.path / "attempts"),  # nothing is written there by the library
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        max_steps=steps,
        learning_rate=float(training.learning_rate),
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm or 1e12,  # 0 would hide the norm as well
        seed=training.seed + ranks.rank,  # of dropout; weights are made before, and alike
        **(_distributed(spec, device) if ranks.several else {}),
        bf16=spec.model.precision == "bf16",
        fp16=spec.model.precision == "fp16",
        use_cpu=device == "cpu",
        optim="adamw_torch_fused",
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


def _distributed(spec: Spec, device: str) -> dict[str, Any]:
    """What the library is told where several processes train together."""
    return {
        "ddp_backend": "gloo" if device == "cpu" else "nccl",
        "ddp_timeout": int(spec.training.hang_minutes * 60),
        "ddp_find_unused_parameters": False,
    }
