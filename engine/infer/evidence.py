"""What an investigation measures on an opened run: recitation, losses, other prompts, the merged weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.checks.recall import Said, overlap
from engine.contract import calls
from engine.contract.spec import Generation
from engine.data.conversation import BadRow, Conversation, Turn
from engine.data.encode import EncodedRow, Encoder
from engine.data.template import ChatTemplate, template_source

from .effect import Shift, divergence, log_probabilities, measure_shift, states
from .head import chunk_length
from .loss import answer_loss
from .session import Session
from .voices import Voices, generate_both

ASKED = 8  # trained questions
LOSS_ROWS = 16
HELDOUT_ROWS = 32
MOST_TOKENS = 160  # of a recitation: its beginning tells enough

Tell = Callable[[calls.Line], None]


@dataclass(frozen=True)
class Exercise:
    """A trained row as a question: the turns before its last answer, and that answer."""

    turns: tuple[Turn, ...]
    answer: str


@dataclass(frozen=True)
class Recital:
    """Asked trained questions: how much of the trained answers comes back, 0 to 1, from either voice."""

    asked: int
    base: float
    tuned: float
    said: tuple[Said, ...] = ()


@dataclass(frozen=True)
class Use:
    """How the model is really asked. `system` and `template` None: as the run has it."""

    generation: Generation
    system: str | None = None
    chat_template: str | None = None


def exercises(rows: Sequence[Conversation]) -> list[Exercise]:
    """Up to ASKED rows, evenly over the file, that have a question before their last answer."""
    usable = [
        Exercise(tuple(row.turns[:-1]), row.turns[-1].content)
        for row in rows
        if len(row.turns) > 1 and row.turns[-1].role == "assistant"
    ]
    return _spread(usable, ASKED)


def encoded(encoder: Encoder, rows: Sequence[Conversation]) -> list[EncodedRow]:
    """Some of the rows as they were trained on."""
    found = encoder.encode_all(_spread(rows, LOSS_ROWS))
    return [row for row in found if not isinstance(row, BadRow)]


def losses(session: Session, rows: Sequence[EncodedRow]) -> calls.Losses:
    """Answer loss of both voices over some rows."""
    with session.voices.as_base() as model:
        base, _ = answer_loss(model, rows)
    with session.voices.as_tuned() as model:
        tuned, _ = answer_loss(model, rows)
    return calls.Losses(base=base, adapter=tuned)


def encoder_in_use(own: Encoder, use: Use) -> Encoder:
    """The run's encoder with the chat template that is really used. MoltingError for one that does not work."""
    if use.chat_template is None:
        return own
    source = template_source(use.chat_template, own.template.source if own.template else None)
    tokens = own.template.tokens if own.template else {}
    template = ChatTemplate(source, tokens) if source else None
    system = own.system_prompt
    return Encoder(
        own.tokenizer,
        template,
        eos_ids=own.stop_ids,
        bos_id=next(iter(own.plain.bos), None),
        max_length=own.max_length,
        system_prompt=system,
        join=own.join,
    )


def prompt(encoder: Encoder, turns: Sequence[Turn], system: str | None) -> list[int] | None:
    """The ids before an answer; `system` replaces the row's own. None where the template refuses it."""
    if system is not None and turns and turns[0].role == "system":
        turns = turns[1:]
    try:
        return encoder.prompt_ids(turns, system)
    except BadRow:
        return None


def recite(
    session: Session,
    tasks: Sequence[Exercise],
    generation: Generation,
    tell: Tell,
    *,
    encoder: Encoder | None = None,
    system: str | None = None,
) -> Recital | None:
    """Ask trained questions, behind their own system prompt or another one. None where none can be asked."""
    own = encoder or session.encoder
    asked = [(task, ids) for task in tasks if (ids := prompt(own, task.turns, system)) is not None]
    if not asked:
        return None
    longest = max(len(own.tokenizer.encode(task.answer, add_special_tokens=False).ids) for task, _ in asked)
    cap = min(generation.max_new_tokens, MOST_TOKENS, longest + 8)

    def advance(done: int) -> None:
        tell(calls.Progress(phase="trained questions", done=done, total=len(asked), unit="questions"))

    advance(0)
    base, tuned, _ = generate_both(
        session.voices,
        [ids for _, ids in asked],
        options=msgspec.structs.replace(generation, max_new_tokens=cap),
        stop_ids=own.stop_ids,
        pad_id=own.stop_ids[0],
        advance=advance,
    )
    texts = [
        [own.tokenizer.decode(made.ids, skip_special_tokens=True).strip() for made in voice] for voice in (base, tuned)
    ]
    shares = [[overlap(text, task.answer) for text, (task, _) in zip(voice, asked, strict=True)] for voice in texts]
    said = tuple(
        Said(task.turns[-1].content, text, made.stop == "cap" and cap == generation.max_new_tokens)
        for (task, _), text, made in zip(asked, texts[1], tuned, strict=True)
    )
    return Recital(len(asked), _mean(shares[0]), _mean(shares[1]), said)


def shift_behind(
    session: Session, encoder: Encoder, questions: Sequence[str], system: str | None, tell: Tell
) -> tuple[Shift, int] | None:
    """The shift on these questions behind a prompt, and how many greedy answers differ. None where all are refused."""
    prompts = [ids for text in questions if (ids := prompt(encoder, [Turn("user", text)], system)) is not None]
    if not prompts:
        return None
    greedy = Generation(max_new_tokens=min(session.spec.generation.max_new_tokens, 80))
    tell(calls.Progress(phase="answering", total=len(prompts), unit="questions"))
    base, tuned, _ = generate_both(
        session.voices, prompts, options=greedy, stop_ids=encoder.stop_ids, pad_id=encoder.stop_ids[0]
    )
    spoken = [[*ids, *made.ids] for ids, made in zip(prompts, tuned, strict=True)]

    def advance(done: int) -> None:
        tell(calls.Progress(phase="comparing", done=done, total=len(prompts), unit="probes"))

    advance(0)
    differing = sum(one.ids != other.ids for one, other in zip(base, tuned, strict=True))
    return measure_shift(session.voices, spoken, advance), differing


@dataclass(frozen=True)
class Merged:
    """The adapter added to the base's weights against the adapter beside them, over some positions.

    `lost` and `own` are KL in nats: from the adapter to the merged weights, and from the adapter to the base.
    """

    lost: float
    own: float
    flip_rate: float
    positions: int


def measure_merged(voices: Voices, sequences: Sequence[Sequence[int]]) -> Merged | None:
    """What merging would keep of the adapter, without merging it; None after full fine-tuning."""
    if voices.base is not None:
        return None
    lost, own, flips, positions = 0.0, 0.0, 0, 0
    for ids in sequences:
        tuned, base = states(voices.as_tuned, ids), states(voices.as_base, ids)
        with _merged_one_by_one(voices.tuned):
            merged = states(voices.as_tuned, ids)
        step = chunk_length(voices.tuned)
        for start in range(0, len(ids), step):
            p, q, b = (log_probabilities(voices.as_tuned, part[start : start + step]) for part in (tuned, merged, base))
            kl, flipped = divergence(p, q)
            lost, flips = lost + float(kl.sum()), flips + int(flipped.sum())
            own += float(divergence(p, b)[0].sum())
        positions += len(ids)
    if not positions:
        return None
    # Rounding may leave a hair below 0 where both are the same.
    return Merged(max(0.0, lost) / positions, max(0.0, own) / positions, flips / positions, positions)


@contextlib.contextmanager
def _merged_one_by_one(model: Any) -> Iterator[None]:
    """Each layer is merged while it computes and put back after, so that one layer's weights are held twice at most.

    `unmerge` would subtract and leave rounding errors behind; here the old weights come back as they were.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    kept: dict[Any, tuple[Any, Any, dict[str, Any]]] = {}

    def merge(layer: Any, _: Any) -> None:
        weight = layer.get_base_layer().weight
        kept[layer] = weight, weight.data, dict(weight.__dict__)
        layer.merge(safe_merge=True)  # in a copy

    def restore(layer: Any, *_: Any) -> None:
        if layer not in kept:
            return
        weight, data, attributes = kept.pop(layer)
        weight.__dict__.update(attributes)  # PEFT marks 4-bit weights as not quantised
        weight.data = data
        layer.get_base_layer().weight = weight
        layer.merged_adapters.clear()

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer) and hasattr(module, "merge")]
    hooks = [layer.register_forward_pre_hook(merge) for layer in layers]
    hooks += [layer.register_forward_hook(restore) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer in list(kept):
            restore(layer)


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """`count` of the items, evenly over all of them."""
    return [items[len(items) * i // count] for i in range(count)] if len(items) > count else list(items)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
