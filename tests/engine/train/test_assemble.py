"""What the spec says of the method is what is trained: nothing of it is lost on the way to the library."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.contract.errors import MoltingError
from engine.contract.spec import Data, Method, Model, Spec
from engine.train import assemble
from tests.support.voices import plain_model


def learner(model: Any, **method: Any) -> Any:
    spec = Spec(model=Model(base="b"), data=Data(train="x"), method=Method(**method))
    return assemble._learner(spec, SimpleNamespace(model=model), checkpointing=False)  # type: ignore[arg-type]


def test_an_adapter_has_every_setting_of_its_method_and_is_all_that_learns() -> None:
    said = {"rank": 3, "alpha": 7.0, "dropout": 0.25, "target_modules": ["q_proj"], "rslora": True, "dora": True}
    made = learner(plain_model(), **said)
    config = made.peft_config["default"]
    told = (config.r, config.lora_alpha, config.lora_dropout, list(config.target_modules), config.use_rslora)
    assert (*told, config.use_dora) == tuple(said.values())
    learns = [name for name, parameter in made.named_parameters() if parameter.requires_grad]
    assert learns and all("q_proj.lora_" in name for name in learns)


def test_full_training_moves_every_weight_in_fp32() -> None:
    made = learner(plain_model(dtype="bfloat16"), kind="full")
    assert all(each.requires_grad and each.dtype == torch.float32 for each in made.parameters())


def test_names_that_match_nothing_are_one_sentence() -> None:
    with pytest.raises(MoltingError, match=r"method\.target_modules does not fit"):
        learner(plain_model(), alpha=8.0, target_modules=["Wqkv"])
