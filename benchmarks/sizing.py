"""What one card, eight cards and several nodes can train: the table of docs/scale.md, from the forecast alone.

    python benchmarks/sizing.py            # markdown
    python benchmarks/sizing.py --card 12  # for cards of another size, in GiB

Shapes are the published ones of well-known models; bytes come from `engine.train.forecast`, with activations estimated
as the doctor does before it counts them. Needs no GPU and no model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.contract.spec import Data, Evaluation, Method, Model, Spec, Training
from engine.models.safetensors_header import Tensor
from engine.train.forecast import Forecast, Sizes, estimated, forecast, sizes
from engine.train.memory import ROOM

GIB = 1 << 30
TOKENS, LEARNED = 1024, 512  # that pass through at once: the least that is tried before anything else is changed
CARDS = (4, 8, 16, 24, 48, 80, 141)  # GiB
TEAMS = (1, 2, 4, 8, 16, 32)  # cards that train one run


class Shape(NamedTuple):
    """A Llama-like model: name, layers, hidden, feed-forward, heads of keys and values x size, vocabulary, tied."""

    name: str
    layers: int
    hidden: int
    inner: int
    kv: int
    vocab: int
    tied: bool = False


SHAPES = (
    Shape("Llama 3.2 1B", 16, 2048, 8192, 512, 128_256, True),
    Shape("Llama 3.2 3B", 28, 3072, 8192, 1024, 128_256, True),
    Shape("Llama 3.1 8B", 32, 4096, 14_336, 1024, 128_256),
    Shape("Qwen 2.5 14B", 48, 5120, 13_824, 1024, 152_064),
    Shape("Qwen 2.5 32B", 64, 5120, 27_648, 1024, 152_064),
    Shape("Llama 3.1 70B", 80, 8192, 28_672, 1024, 128_256),
)


def sizes_of(shape: Shape) -> Sizes:
    """As `forecast.sizes` reads them from the weight files of such a model."""
    hidden, inner = shape.hidden, shape.inner
    widths = {"q_proj": (hidden, hidden), "k_proj": (shape.kv, hidden), "v_proj": (shape.kv, hidden)}
    widths |= {"o_proj": (hidden, hidden), "gate_proj": (inner, hidden), "up_proj": (inner, hidden)}
    widths["down_proj"] = (hidden, inner)
    tensors = {
        f"model.layers.{layer}.{name}.weight": _tensor(*width)
        for layer in range(shape.layers)
        for name, width in widths.items()
    }
    tensors["model.embed_tokens.weight"] = _tensor(shape.vocab, hidden)
    if not shape.tied:
        tensors["lm_head.weight"] = _tensor(shape.vocab, hidden)
    config: dict[str, Any] = {
        "num_hidden_layers": shape.layers,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "vocab_size": shape.vocab,
        "num_attention_heads": hidden // 128,
        "num_key_value_heads": shape.kv // 128,
        "head_dim": 128,
    }
    return sizes(config, tensors)


def _tensor(*shape: int) -> Tensor:
    return Tensor("BF16", shape, 0, 0)


def needed(shape: Shape, kind: str, cards: int, split: bool) -> Forecast:
    """What each of `cards` cards must have free, with checkpointing and 1,024 tokens at once."""
    spec = Spec(
        model=Model(base=shape.name, precision="bf16"),
        data=Data(train="rows.jsonl"),
        method=Method(kind=kind),  # type: ignore[arg-type]
        training=Training(shard=split),
        evaluation=Evaluation(sample_count=1),
    )
    model = sizes_of(shape)
    counted = estimated(model, TOKENS, LEARNED, checkpointing=True)
    return forecast(model, spec, counted, device="cuda", checkpointing=True, longest=TOKENS, exact=False, world=cards)


def fewest(shape: Shape, kind: str, card: int) -> str:
    """The fewest cards of `card` GiB that train it, and whether it is split over them."""
    for cards in TEAMS:
        if needed(shape, kind, cards, False).peak <= ROOM * card * GIB:
            return "1" if cards == 1 else str(cards)
        if cards > 1 and kind != "full" and needed(shape, kind, cards, True).peak <= ROOM * card * GIB:
            return f"{cards} split"
    return "–"


def table(cards: tuple[int, ...] = CARDS) -> Iterator[str]:
    """Markdown: for each model and method, what one card needs, and how many cards of each size it takes."""
    yield "| model | method | needs on one | split over 8 | " + " | ".join(f"{card} GiB" for card in cards) + " |"
    yield "|---|---|---|---|" + "---|" * len(cards)
    for shape in SHAPES:
        for kind in ("qlora", "lora", "full"):
            alone, parts = needed(shape, kind, 1, False).peak, needed(shape, kind, 8, kind != "full").peak
            split = f"{parts / GIB:.1f}" if kind != "full" else "not split"
            takes = " | ".join(fewest(shape, kind, card) for card in cards)
            yield f"| {shape.name} | {kind} | {alone / GIB:.1f} GiB | {split} | {takes} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--card", type=int, action="append", help="GiB of a card; may be given several times")
    print(*table(tuple(parser.parse_args().card or CARDS)), sep="\n")


if __name__ == "__main__":
    main()
