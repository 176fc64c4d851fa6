"""Context extension: set on the configuration before a model is built from it, where alone it has an effect."""

from __future__ import annotations

from typing import Any

from engine.contract.errors import MoltingError


def apply_rope(config: Any, rope: dict[str, Any]) -> None:
    """Stretch the positions of `config` in place: {"rope_type": "linear", "factor": 4.0} makes its window 4-fold.

    linear   every distance is divided by the factor (position interpolation, arXiv:2306.15595)
    dynamic  only texts longer than the model's own window are changed, the more the longer they are
    yarn     distances that only slow frequencies can tell are divided, and attention is sharpened (arXiv:2309.00071)

    The factor counts from the model's own window; a configuration that already has exactly this one stays as it is.
    Raises MoltingError (bad_model) for a model without rotary positions or with another stretching of its own.
    """
    kind, factor = str(rope.get("rope_type", "linear")), float(rope.get("factor", 1.0))
    if kind == "none" or factor == 1.0:
        return
    own = getattr(config, "rope_parameters", None)
    if not isinstance(own, dict) or "rope_theta" not in own:
        what = "no rotary positions" if not own else "several kinds of rotary positions"
        raise _cannot(f"{config.model_type} has {what}, so its context cannot be stretched by {factor:g}.")
    stretched = {**own, **rope, "rope_type": kind}
    own_window = getattr(config, "max_position_embeddings", None)
    if kind == "yarn":  # said now: the library would take the window as it is later, which is the stretched one
        stretched.setdefault("original_max_position_embeddings", own_window)
    if own == stretched:
        return
    if own.get("rope_type", "default") != "default":
        raise _cannot(f"This model already stretches its context ({own['rope_type']}).")
    config.rope_parameters = stretched
    # Dynamic stretching begins where this number is exceeded, so it stays as it is.
    if own_window and kind != "dynamic":
        config.max_position_embeddings = round(own_window * factor)


def window(config: Any) -> int | None:
    """Tokens that a (transformers) configuration takes, what it stretches included; None where it does not say."""
    said = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None)
    if said and isinstance(rope, dict) and rope.get("rope_type") == "dynamic":
        return round(said * float(rope.get("factor") or 1.0))
    return said


def unstretchable(config: dict[str, Any]) -> str:
    """Why the positions of a config.json cannot be stretched, as far as it says so itself; empty for no reason.

    `apply_rope` has the last word, on the configuration as the library reads it.
    """
    said = config.get("rope_parameters") or config.get("rope_scaling")
    if isinstance(said, dict):
        kind = str(said.get("rope_type", said.get("type", "default")))
        if any(isinstance(value, dict) for value in said.values()):
            return "it has several kinds of rotary positions"
        if kind != "default":
            return f"it already stretches its context ({kind[:30]})"
    if config.get("alibi") is True or "n_positions" in config or config.get("model_type") in ("opt", "bloom", "mpt"):
        return "it has no rotary positions"
    return ""


def _cannot(message: str) -> MoltingError:
    return MoltingError(message, remedy='Remove [model.rope] from the spec, or set type = "none".', reason="bad_model")
