"""Peak memory of loading a model of about 0.5B parameters, against what it takes in the end.

    python benchmarks/load_peak.py

Builds a random Llama of 0.47B parameters in a temporary folder and loads it in fresh processes: in bf16, in 4 bits
(NF4, double quant) by transformers alone, in 4 bits by Molting on the fly, and from Molting's kept 4-bit model.
Memory is the resident set above what it was after all imports, mapped pages of the weight file included. Before the
final figure is taken every weight is read once: pages of a mapped file count from their first use only.
What transformers alone ends with is mostly waste (the whole file stays mapped for its embedding, freed blocks stay
with the C library), so its peak is to be read against the weights.
Exits with 1 when a limit is exceeded.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

MIB = 1 << 20
ROWS = {  # mode: (label, limit of peak / final)
    "bf16": ("bf16", None),
    "peer": ("4-bit, transformers alone", None),
    "nf4": ("4-bit on the fly", 1.35),
    "kept": ("4-bit from the kept model", 1.05),
}


def build(folder: Path) -> None:
    import torch
    from transformers import LlamaForCausalLM

    from tests.support.tiny import tiny_config, tiny_tokenizer

    torch.set_default_dtype(torch.bfloat16)
    model = LlamaForCausalLM(
        tiny_config(
            vocab=32_000,
            hidden=1024,
            layers=24,
            intermediate_size=4096,
            num_attention_heads=16,
            num_key_value_heads=16,
        )
    )
    print(f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.0f}M parameters", flush=True)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def measure(mode: str, folder: Path, cache: Path) -> dict[str, float]:
    import bitsandbytes  # noqa: F401
    import torch
    from transformers import LlamaForCausalLM  # noqa: F401

    from engine.models import load, memory

    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
    base = memory.resident("VmRSS")
    began = time.monotonic()
    model = _load(mode, folder, cache, load)
    seconds = time.monotonic() - began
    for tensor in model.state_dict().values():
        torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())[::4096].sum()
    gc.collect()
    return {
        "seconds": seconds,
        "peak": memory.resident("VmHWM") - base,
        "final": memory.resident("VmRSS") - base,
        "weights": model.get_memory_footprint(),
    }


def _load(mode: str, folder: Path, cache: Path, load: Any) -> Any:
    if mode == "peer":
        import torch
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

        quantizer = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.bfloat16, device_map={"": "cpu"}, quantization_config=quantizer
        )
    quantization = "none" if mode == "bf16" else "nf4"
    options = load.LoadOptions(precision="bf16", quantization=quantization, device="cpu")
    return load.load_base(folder, options, cache=cache if mode == "kept" else None).model


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name) / "half", Path(name) / "cache"
        print(_self("build", folder, cache))
        print("| load | seconds | peak MiB | final MiB | weights MiB | peak / weights | peak / final | limit |")
        print("|---|---:|---:|---:|---:|---:|---:|---:|")
        exceeded = False
        _self("kept", folder, cache)  # quantises once, and keeps it
        for mode, (label, limit) in ROWS.items():
            figures = json.loads(_self(mode, folder, cache).splitlines()[-1])
            ratio = figures["peak"] / figures["final"]
            exceeded = exceeded or (limit is not None and ratio > limit)
            sizes = " | ".join(f"{figures[key] / MIB:.0f}" for key in ("peak", "final", "weights"))
            over = figures["peak"] / figures["weights"]
            row = [label, f"{figures['seconds']:.1f}", sizes, f"{over:.2f}", f"{ratio:.2f}", str(limit or "")]
            print(f"| {' | '.join(row)} |", flush=True)
    return int(exceeded)


def _self(mode: str, folder: Path, cache: Path) -> str:
    command = [sys.executable, __file__, mode, str(folder), str(cache)]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(main())
    job, *paths = sys.argv[1:]
    if job == "build":
        build(Path(paths[0]))
    else:
        print(json.dumps(measure(job, *(Path(path) for path in paths))))
