"""The merged weights, and everything another program needs beside them to answer as the run does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.contract import calls
from engine.contract.spec import Generation
from engine.data.encode import Encoder
from engine.models.adapters import attach_adapter
from engine.models.load import load_base, load_tokenizer

if TYPE_CHECKING:
    from .merge import Job, Tell

SHARD = "4GB"


def save_merged(job: Job, encoder: Encoder, tell: Tell) -> None:
    """Merge in memory, then write safetensors, configuration, tokenizer and generation settings into `staging`.

    Raises MoltingError for weights that the adapter makes infinite or NaN.
    """

    def progress(phase: str, done: float | None = None, total: float | None = None) -> None:
        tell(calls.Progress(phase=phase, done=done or 0.0, total=total or 0.0))

    model = load_base(job.folder, job.options, progress).model
    progress("merging the adapter")
    tuned, _ = attach_adapter(model, job.learned)
    merged = _merge(tuned)
    merged.generation_config = settings(merged, encoder, job.spec.generation)
    merged.config.eos_token_id = merged.generation_config.eos_token_id
    merged.config._name_or_path = ""
    progress("writing the merged model")
    merged.save_pretrained(job.staging, max_shard_size=SHARD)
    tokenizer = load_tokenizer(job.folder)
    tokenizer.chat_template = encoder.template.source if encoder.template else None
    tokenizer.save_pretrained(job.staging)


def _merge(tuned: Any) -> Any:
    from engine.contract.errors import MoltingError

    try:
        return tuned.merge_and_unload(safe_merge=True)
    except ValueError as error:  # what safe_merge found
        raise MoltingError(
            f"The adapter cannot be merged: {str(error).splitlines()[0][:200]}.",
            remedy="Its weights are broken: train again with a lower learning rate.",
            reason="nan_loss",
        ) from error


def settings(model: Any, encoder: Encoder, own: Generation) -> Any:
    """The run's way to answer as a GenerationConfig: its end tokens, and its sampling where it samples."""
    from transformers import GenerationConfig

    sampling: dict[str, Any] = {"do_sample": False}
    if own.temperature > 0:
        sampling = {"do_sample": True, "temperature": own.temperature, "top_p": own.top_p, "top_k": own.top_k}
    stops = encoder.stop_ids
    return GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=stops if len(stops) > 1 else stops[0],
        pad_token_id=model.config.pad_token_id if model.config.pad_token_id is not None else stops[0],
        repetition_penalty=own.repetition_penalty,
        max_new_tokens=own.max_new_tokens,
        **sampling,
    )
