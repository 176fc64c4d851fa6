"""Tiny models with adapters, made in memory."""

from __future__ import annotations

from typing import Any

from tests.support.tiny import tiny_config

STOP = 2
PROMPTS = [[5, 6, 7], [9, 10, 11, 12, 13, 14, 15], [20], [30, 31, 32, 33]]


def plain_model(*, seed: int = 0, dtype: str = "float32", **config: Any) -> Any:
    """A random Llama in eval mode; weights are large enough for its greedy answers to vary."""
    import torch
    from transformers import LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(tiny_config(initializer_range=0.1, **config))
    return model.to(getattr(torch, dtype)).eval()


def with_adapter(model: Any, *, strength: float = 0.0, seed: int = 1, **lora: Any) -> Any:
    """`model` with a LoRA adapter whose B matrices are noise of size `strength` (0: as before training)."""
    import torch
    from peft import LoraConfig, get_peft_model

    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | lora
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tuned = get_peft_model(model, LoraConfig(**settings))
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=strength)
    return tuned.eval()
