"""Context extension: set on the configuration before a model is built from it, where alone it has an effect."""

from __future__ import annotations

from typing import Any

from engine.contract.errors import MoltingError


def apply_rope(config: Any, rope: dict[str, Any]) -> None:
    """Stretch the positions of `config` in place: {"rope_type": "linear", "factor": 4.0} makes its window 4-fold.

    The factor counts from the model's own window; a configuration that already has exactly this one stays as it is.
    Raises MoltingError (bad_model) for a model without rotary positions or with another stretching of its own.
    """
    kind, factor = str(rope.get("rope_type", "linear")), float(rope.get("factor", 1.0))
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return
    own = getattr(config, "rope_parameters", None)
    if not isinstance(own, dict) or "rope_theta" not in own:
        what = "no rotary positions" if not own else "several kinds of rotary positions"
        raise _cannot(f"{config.model_type} has {what}, so its context cannot be stretched by {factor:g}.")
    stretched = {**own, **rope, "rope_type": kind}
    if own == stretched:
        return
    if own.get("rope_type", "default") != "default":
        raise _cannot(f"This model already stretches its context ({own['rope_type']}).")
    config.rope_parameters = stretched
    if window := getattr(config, "max_position_embeddings", None):
        config.max_position_embeddings = round(window * factor)


def _cannot(message: str) -> MoltingError:
    return MoltingError(message, remedy='Remove [model.rope] from the spec, or set type = "none".', reason="bad_model")
