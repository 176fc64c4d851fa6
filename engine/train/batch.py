"""How rows are laid out in the model's input, without torch.

Packed: one sequence `[prefix][row 1][row 2]…`, no padding, positions that restart after the prefix, and a mask in
which each row sees the prefix and itself. It gives the loss and gradients of the rows one by one wherever attention
is plain causal and positions are rotary. Padded: one row a line, for every other architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

# Checked against the row-by-row reference: attention is causal over the whole window, positions are rotary.
PACKABLE = frozenset({"llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "smollm3", "granite", "olmo2"})


class Row(Protocol):
    """A row as the encoder makes it; labels are -100 where nothing is learned."""

    @property
    def input_ids(self) -> Sequence[int]: ...
    @property
    def labels(self) -> Sequence[int]: ...


@dataclass
class Layout:
    """One forward pass. `sources[i]` is the (line, position) whose output must predict `targets[i]`."""

    lines: list[list[int]]
    positions: list[list[int]]
    segments: list[list[int]]  # packed: 0 for the shared prefix, else the row's number; padded: 1, and -1 for padding
    sources: list[tuple[int, int]] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    packed: bool = False


def packable(config: object) -> bool:
    """Whether packing is exact for a model of this (transformers) configuration."""
    if getattr(config, "model_type", "") not in PACKABLE:
        return False
    layer_types = getattr(config, "layer_types", None) or []
    sliding = any(kind != "full_attention" for kind in layer_types)
    if not layer_types:
        sliding = bool(getattr(config, "sliding_window", None))
    return not sliding


def common_prefix(rows: Sequence[Row]) -> int:
    """Tokens that all rows share from their start, none of them learned and at least one token left in each row."""
    first = rows[0]
    length = min(len(row.input_ids) for row in rows) - 1
    for row in rows:
        shared = 0
        while shared < length and row.input_ids[shared] == first.input_ids[shared] and row.labels[shared] == -100:
            shared += 1
        length = shared
    return length


def pack(rows: Sequence[Row]) -> Layout:
    """All rows in one line behind their common prefix."""
    prefix = common_prefix(rows) if len(rows) > 1 else 0
    ids = list(rows[0].input_ids[:prefix])
    positions = list(range(prefix))
    segments = [0] * prefix
    layout = Layout([ids], [positions], [segments], packed=True)
    for number, row in enumerate(rows, start=1):
        start = len(ids) - prefix  # where this row's own token `i` lies is start + i
        for i in range(max(prefix, 1), len(row.input_ids)):
            if row.labels[i] != -100:
                layout.sources.append((0, i - 1 if i == prefix else start + i - 1))
                layout.targets.append(row.labels[i])
        ids.extend(row.input_ids[prefix:])
        positions.extend(range(prefix, len(row.input_ids)))
        segments.extend([number] * (len(row.input_ids) - prefix))
    return layout


def pad(rows: Sequence[Row], pad_id: int) -> Layout:
    """One row a line, padded on the right."""
    width = max(len(row.input_ids) for row in rows)
    layout = Layout([], [], [])
    for line, row in enumerate(rows):
        missing = width - len(row.input_ids)
        layout.lines.append([*row.input_ids, *[pad_id] * missing])
        layout.positions.append(list(range(width)))
        layout.segments.append([1] * len(row.input_ids) + [-1] * missing)
        for i in range(1, len(row.input_ids)):
            if row.labels[i] != -100:
                layout.sources.append((line, i - 1))
                layout.targets.append(row.labels[i])
    return layout


def learned(rows: Sequence[Row]) -> int:
    """Tokens that can be learned: the first token of a row has nothing before it to be predicted from."""
    return sum(label != -100 for row in rows for label in row.labels[1:])
