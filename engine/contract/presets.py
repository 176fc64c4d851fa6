"""Ways to answer that have a name: the four that ship, and the user's own in `[presets.NAME]` of config.toml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Union

import msgspec
from msgspec import Meta

from .spec import Generation

AS_TRAINED = "as the run"  # the run's own parameters


class Preset(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What a preset sets; what is left out stays as in the run's spec."""

    temperature: Union[Annotated[float, Meta(ge=0.0, le=5.0)], None] = None
    top_p: Union[Annotated[float, Meta(gt=0.0, le=1.0)], None] = None
    top_k: Union[Annotated[int, Meta(ge=0, le=1_000_000)], None] = None
    repetition_penalty: Union[Annotated[float, Meta(ge=0.5, le=5.0)], None] = None
    max_new_tokens: Union[Annotated[int, Meta(ge=1, le=32_768)], None] = None
    seed: Union[Annotated[int, Meta(ge=0, le=2**31 - 1)], None] = None

    def over(self, base: Generation) -> Generation:
        """`base` with what this preset sets."""
        chosen = {key: value for key, value in msgspec.structs.asdict(self).items() if value is not None}
        return msgspec.structs.replace(base, **chosen)


SHIPPED = {
    "deterministic": Preset(temperature=0.0, top_p=1.0, top_k=0, repetition_penalty=1.0),
    "creative": Preset(temperature=0.9, top_p=0.95, top_k=0, repetition_penalty=1.0),
    "conservative": Preset(temperature=0.3, top_p=0.8, top_k=0, repetition_penalty=1.2),
    "technical agent": Preset(temperature=0.2, top_p=0.7, top_k=0, repetition_penalty=1.25),
}


def every(own: Mapping[str, Preset]) -> dict[str, Preset]:
    """All presets by name: the run's own parameters first, then the shipped ones, then the user's, which win."""
    return {AS_TRAINED: Preset(), **SHIPPED, **own}


def name_of(options: Generation, trained: Generation, own: Mapping[str, Preset]) -> str:
    """The preset that gives these parameters; "own" where none does."""
    matches = (name for name, preset in every(own).items() if preset.over(trained) == options)
    return next(matches, "own")
