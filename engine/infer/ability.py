"""What a run does not train and should not cost: how well, and how differently, a model goes on with other prompts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from engine.contract.errors import MoltingError
from engine.contract.events import Ability
from engine.data.conversation import BadRow, Conversation, Turn
from engine.data.encode import Encoder
from engine.data.read import open_records

from .effect import divergence
from .generate import answering
from .head import hidden_states, logits
from .loss import answer_loss

MOST = 64  # prompts; each costs a pass at every evaluation
_PROMPTS, _EXPECTED = ("prompt", "question", "instruction"), ("expected", "answer", "completion", "output")

Item = tuple[str, str]  # a prompt and its expected answer, which may be empty


def load(path: Path) -> list[Item]:
    """The first MOST prompts of a file of rows: {"prompt": …, "expected": …}, or text, one prompt a line.

    Raises MoltingError (code 2) where there is none, or a row holds no prompt.
    """
    if path.suffix in (".txt", ".md"):
        lines = path.read_text("utf-8", "replace").splitlines()
        items = [(line.strip(), "") for line in lines if line.strip() and not line.startswith("#")][:MOST]
    else:
        items = [_item(record.value, record.index, path) for record in islice(open_records(path), MOST)]
    if not items:
        raise MoltingError(f"{path} holds no prompt to measure abilities by.", remedy="One a line.", code=2)
    return items


def _item(value: Any, index: int, path: Path) -> Item:
    row = {"prompt": value} if isinstance(value, str) else value
    prompt, expected = (next((row[key] for key in keys if row.get(key)), "") for keys in (_PROMPTS, _EXPECTED))
    if isinstance(prompt, str) and isinstance(expected, str) and prompt.strip():
        return prompt, expected
    raise MoltingError(
        f"Row {index + 1} of {path} holds no prompt.",
        remedy='Write rows as {"prompt": "2 + 2 =", "expected": "4"}; the expected answer may be left out.',
        code=2,
    )


class Abilities:
    """Measured on the model as it begins, then at every evaluation against that."""

    def __init__(self, model: Any, encoder: Encoder, items: Sequence[Item]) -> None:
        """`model` must still be the base: untrained adapters change nothing. MoltingError (code 2) for bad prompts."""
        self._pad_id = encoder.stop_ids[0]
        try:
            self._prompts = [encoder.prompt_ids([Turn("user", prompt)]) for prompt, _ in items]
            self._rows = [encoder.encode(_pair(*item)) for item in items if item[1]]
        except BadRow as bad:
            raise MoltingError(f"A prompt of evaluation.ability_probes cannot be asked: {bad.why}.", code=2) from bad
        self._first = self._first_tokens(model)
        self._base = self._loss(model)

    def measure(self, model: Any, step: int) -> Ability:
        """How `model` stands at `step`. The mode it is in stays."""
        kl, _ = divergence(self._first, self._first_tokens(model))
        said = Ability(step=step, prompts=len(self._prompts), kl=float(kl.mean()), base=self._base)
        said.loss = self._loss(model)
        return said

    def _loss(self, model: Any) -> float | None:
        return answer_loss(model, self._rows, pad_id=self._pad_id)[0] if self._rows else None

    def _first_tokens(self, model: Any) -> torch.Tensor:
        """Log-probabilities [prompts, vocabulary] of the first token of each answer, on the CPU."""
        found = []
        with answering(model):
            for prompt in self._prompts:
                ids = torch.tensor([prompt], device=model.device)
                last = hidden_states(model, ids, torch.ones_like(ids))[0, -1:]
                found.append(logits(model, last).log_softmax(dim=-1).cpu())
        return torch.cat(found)


def _pair(prompt: str, expected: str) -> Conversation:
    return Conversation([Turn("user", prompt), Turn("assistant", expected)], "completion")
