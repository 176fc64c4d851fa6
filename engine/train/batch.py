"""How rows are laid out in the model's input, without torch.

Packed: all rows in one sequence without padding, in which whatever rows begin with alike (the system prompt, few-shot
turns, a template) lies only once: a tree of segments. Positions restart in every row, and a token sees its own segment
up to itself and the segments above. That gives the loss and the gradients of the rows one by one wherever attention is
plainly causal and positions are rotary. Padded: one row a line, for every other architecture.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from engine.contract.spec import Training

# Checked against the row-by-row reference: attention is causal over the whole window, positions are rotary.
PACKABLE = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma3_text", "smollm3", "granite", "olmo2"}
)
AUTO_TOKENS = 4096  # more at once saves nothing but the few prefixes that are computed again in each part
WORTH = 16  # tokens a segment of its own must save: attending to one more costs about as much as computing 5 to 10
PIECE = 256  # tokens of a segment; a longer one is cut, which spares attention the half that cannot be seen


class Row(Protocol):
    """A row as the encoder makes it; labels are -100 where nothing is learned."""

    @property
    def input_ids(self) -> Sequence[int]: ...
    @property
    def labels(self) -> Sequence[int]: ...


class Segment(NamedTuple):
    """Tokens `start` to `end` of the packed sequence, which continue segment `parent` (-1: a row's beginning)."""

    start: int
    end: int
    parent: int


@dataclass
class Layout:
    """One forward pass. `sources[i]` is the (line, position) whose output must predict `targets[i]`."""

    lines: list[list[int]]
    positions: list[list[int]]
    lengths: list[int]  # of the rows in their lines; what follows is padding
    sources: list[tuple[int, int]] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)  # packed: the one line; padded: none

    @property
    def computed(self) -> int:
        """Tokens that pass through the model, padding included."""
        return sum(len(line) for line in self.lines)


def unpackable(config: object, longest: int) -> str:
    """Why packing would not be exact for this (transformers) configuration and rows of up to `longest` tokens.

    Empty where it is exact. A sliding window that no row fills changes nothing.
    """
    kind = str(getattr(config, "model_type", "")) or "unknown"
    if kind not in PACKABLE:
        return f"the architecture {kind} was not checked to see no difference"
    if getattr(config, "attention_dropout", 0.0):
        return "it drops attention at random while it is trained"
    if getattr(config, "use_bidirectional_attention", False):
        return "its tokens see those that follow them"
    reach, kind = _fixed_positions(config)
    if longest > reach:
        return f"{kind} positions depend on the longest text beside it, and rows have up to {longest} tokens"
    layers = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    slides = any(layer != "full_attention" for layer in layers) if layers else bool(window)
    if slides and (not window or longest > window):
        return f"its attention slides over {window} tokens and rows have up to {longest}"
    return ""


def _fixed_positions(config: object) -> tuple[float, str]:
    """Tokens up to which positions are the same whatever lies beside a row, and what stretches them from there on."""
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    if not isinstance(found, dict):
        return math.inf, ""
    own = getattr(config, "max_position_embeddings", None) or 0
    trained = getattr(config, "original_max_position_embeddings", None) or own
    reach: list[tuple[float, str]] = [(math.inf, "")]
    for rope in [found, *found.values()]:  # some architectures have one for each kind of layer
        kind = str(rope.get("rope_type", rope.get("type"))) if isinstance(rope, dict) else ""
        if kind == "dynamic":
            reach.append((own, kind))
        elif kind == "longrope":
            reach.append((rope.get("original_max_position_embeddings") or trained, kind))
    return min(reach)


def shared_length(one: Sequence[int], other: Sequence[int], start: int = 0) -> int:
    """Tokens that two rows begin with alike; they are known to for `start` tokens."""
    end = min(len(one), len(other))
    while start < end and one[start] == other[start]:
        start += 1
    return start


def micro_batches(rows: Sequence[Row], budget: int) -> Iterator[Sequence[Row]]:
    """The rows of an optimizer step in as few parts as `budget` tokens allow, each to be packed by itself.

    Rows with the same beginning lie together, so it is computed in few parts. A row over the budget is a part alone.
    """
    part: list[Row] = []
    filled = 0
    for row in _in_order(rows):
        ids = row.input_ids
        fresh = len(ids) - (shared_length(part[-1].input_ids, ids) if part else 0)
        if part and filled + fresh > budget:
            yield part
            part, filled, fresh = [], 0, len(ids)
        part.append(row)
        filled += fresh
    if part:
        yield part


def parts(rows: Sequence[Row], training: Training) -> list[Sequence[Row]]:
    """The rows of an optimizer step as they pass through the model, one part after another."""
    if training.packing:
        return list(micro_batches(rows, AUTO_TOKENS if training.batch_tokens == "auto" else training.batch_tokens))
    return [rows[start : start + training.batch] for start in range(0, len(rows), training.batch)]


def share(rows: Sequence[Row], rank: int, world: int, training: Training) -> list[Row]:
    """The rows of an optimizer step that process `rank` of `world` computes, each row in one process.

    It follows from the rows alone. What lies together shares most, and each process gets about as many tokens.
    """
    if world == 1:
        return list(rows)
    ordered = _in_order(rows) if training.packing else list(rows)
    costs = [len(row.input_ids) for row in ordered]
    total, before, ours = sum(costs), 0, []
    for row, cost in zip(ordered, costs, strict=True):
        if (before + cost / 2) * world // max(total, 1) == rank:  # by its middle
            ours.append(row)
        before += cost
    return ours


def _in_order(rows: Sequence[Row]) -> list[Row]:
    # In lexicographic order neighbours share most, and what the first and the last of a group share, all share.
    return sorted(rows, key=lambda row: list(row.input_ids))


def pack(rows: Sequence[Row]) -> Layout:
    """All rows in one line; what rows begin with alike lies there once, where that saves something."""
    layout = Layout([[]], [[]], [0])
    waiting: list[tuple[Sequence[Row], list[int], int]] = [(_in_order(rows), [], -1)]
    while waiting:  # each: rows that share a beginning, the places where it lies, and the segment it ends in
        group, path, parent = waiting.pop()
        depth, first, last = len(path), group[0].input_ids, group[-1].input_ids
        shared = shared_length(first, last, depth)
        if shared == len(last) or (shared - depth) * (len(group) - 1) >= WORTH:
            path = [*path, *_lay(layout, first[depth:shared], depth, parent)]
            parent = len(layout.segments) - 1
        for part in _alike(group, shared):
            if len(part[0].input_ids) == len(path):
                _learn(layout, part, path)
            else:
                waiting.append((part, path, parent))
    return layout


def _alike(rows: Sequence[Row], place: int) -> list[list[Row]]:
    """Rows by their token at `place`; those that end there are a group too."""
    groups = itertools.groupby(rows, key=lambda row: row.input_ids[place] if place < len(row.input_ids) else None)
    return [list(group) for _, group in groups]


def _lay(layout: Layout, ids: Sequence[int], depth: int, parent: int) -> range:
    """Append a segment that begins `depth` tokens into its rows; returns its places."""
    start = layout.lengths[0]
    end = layout.lengths[0] = start + len(ids)
    layout.lines[0].extend(ids)
    layout.positions[0].extend(range(depth, depth + len(ids)))
    for piece in range(start, end, PIECE):
        layout.segments.append(Segment(piece, min(piece + PIECE, end), parent))
        parent = len(layout.segments) - 1
    return range(start, end)


def _learn(layout: Layout, rows: Sequence[Row], path: list[int]) -> None:
    for row in rows:
        for i in range(1, len(path)):
            if row.labels[i] != -100:
                layout.sources.append((0, path[i - 1]))
                layout.targets.append(row.labels[i])


def pad(rows: Sequence[Row], pad_id: int) -> Layout:
    """One row a line, padded on the right."""
    width = max(len(row.input_ids) for row in rows)
    layout = Layout([], [], [])
    for line, row in enumerate(rows):
        layout.lines.append([*row.input_ids, *[pad_id] * (width - len(row.input_ids))])
        layout.positions.append(list(range(width)))
        layout.lengths.append(len(row.input_ids))
        for i in range(1, len(row.input_ids)):
            if row.labels[i] != -100:
                layout.sources.append((line, i - 1))
                layout.targets.append(row.labels[i])
    return layout


def learned(rows: Sequence[Row]) -> int:
    """Tokens that can be learned: the first token of a row has nothing before it to be predicted from."""
    return sum(label != -100 for row in rows for label in row.labels[1:])
