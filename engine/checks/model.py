"""What is odd about a model repository beyond what makes it impossible to load: small pure checks over one look at it.

`engine.models.inspect` and `adapters` refuse what is unsafe or broken; here stands what will surprise later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.contract.calls import Finding
from engine.contract.severity import worst_first
from engine.models.inspect import PICKLES
from engine.models.safetensors_header import Tensor

_ROPES = frozenset({"default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional", "su", "mrope"})
_STRETCHES = frozenset({"linear", "dynamic", "yarn"})
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
_SHOWN = 200  # characters of a template's own words


@dataclass(frozen=True)
class Template:
    """What a chat template writes. `problem` is why it cannot be used, and then the rest says nothing."""

    problem: str = ""
    end: str | None = None  # the token right after an answer
    end_text: str = ""  # whatever it writes there
    takes_system: bool = True
    default_system: str = ""


@dataclass(frozen=True)
class Repository:
    """A model folder as it was read; nothing of it was loaded."""

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)  # generation_config.json, {} where there is none
    files: frozenset[str] = frozenset()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    known_architecture: bool = True
    vocabulary: int = 0  # ids of the tokenizer, 0 where there is none that can be read
    tokens: Mapping[str, str] = field(default_factory=dict)  # eos_token, pad_token … as text
    texts: Mapping[int, str] = field(default_factory=dict)  # of the ids named in the configurations
    template: Template | None = None

    @property
    def text_config(self) -> Mapping[str, Any]:
        inner = self.config.get("text_config")
        return inner if isinstance(inner, dict) else self.config


Check = Callable[[Repository], Iterator[Finding]]


def architecture_known(model: Repository) -> Iterator[Finding]:
    kind = model.config.get("model_type")
    if isinstance(kind, str) and not model.known_architecture:
        yield Finding(
            id="unknown-architecture",
            severity="error",
            message=f"transformers here has no architecture {kind[:60]!r}.",
            why="It would need code from the repository, and Molting runs none.",
            remedy="Take a model of an architecture that transformers has built in, or a newer transformers.",
        )


def sizes_stated(model: Repository) -> Iterator[Finding]:
    """transformers fills what is missing with its own defaults, without a word."""
    wanted = (("hidden_size", "n_embd"), ("num_hidden_layers", "n_layer"), ("vocab_size",))
    missing = [names[0] for names in wanted if not any(name in model.text_config for name in names)]
    if model.config and missing:
        yield Finding(
            id="missing-fields",
            severity="warning",
            message=f"config.json of {model.name} does not say {' and '.join(missing)}.",
            why="Defaults of the architecture are taken in silence; they may not be those of these weights.",
            remedy="Take the config.json of the original model.",
        )


def rope_sane(model: Repository) -> Iterator[Finding]:
    for key in ("rope_parameters", "rope_scaling"):
        value = model.text_config.get(key)
        if value is None:
            continue
        problem = _rope_problem(value)
        if problem:
            yield Finding(
                id="odd-rope",
                severity="error" if "unknown" in problem else "warning",
                message=f"{key} in config.json of {model.name} {problem}.",
                evidence=str(value)[:_SHOWN],
                why="Positions are then not those the model was trained with, and answers degrade with length.",
                remedy="Take the config.json of the original model; stretch a context with [model.rope] of the spec.",
            )
            continue
        kind, factor = _rope_kind(value), value.get("factor")
        if kind not in ("default", ""):
            yield Finding(
                id="rope-stretched",
                severity="note",
                message=f"This model stretches its context already: {kind}" + (f" x {factor:g}." if factor else "."),
                remedy="Leave [model.rope] of the spec alone.",
            )


def _rope_kind(value: Mapping[str, Any]) -> str:
    return str(value.get("rope_type", value.get("type", "")))


def _rope_problem(value: Any) -> str:
    """What is wrong with rotary parameters, finishing "rope_scaling …"; empty for nothing."""
    if not isinstance(value, dict):
        return f"is {str(value)[:40]!r}, not a table"
    if value and all(isinstance(each, dict) for each in value.values()):  # one table a kind of layer
        return next(filter(None, map(_rope_problem, value.values())), "")
    kind, factor = _rope_kind(value), value.get("factor")
    if {"rope_type", "type"} <= set(value) and value["rope_type"] != value["type"]:
        return f"names two kinds, {str(value['rope_type'])[:30]!r} and {str(value['type'])[:30]!r}"
    if kind and kind not in _ROPES:
        return f"names the unknown kind {kind[:30]!r}"
    if not kind and factor is not None:
        return "has a factor but names no kind, so it changes nothing"
    if kind in _STRETCHES and (isinstance(factor, bool) or not isinstance(factor, int | float)):
        return f"is of the kind {kind} and has no factor"
    if isinstance(factor, int | float) and not isinstance(factor, bool) and not 1 <= factor <= 1000:
        return f"has the impossible factor {factor:g}"
    return ""


def ids_have_embeddings(model: Repository) -> Iterator[Finding]:
    rows = next((each.shape[0] for name, each in model.tensors.items() if name.endswith(_EMBEDDINGS) and each.shape), 0)
    if rows and model.vocabulary > rows:
        yield Finding(
            id="vocabulary-too-large",
            severity="error",
            message=f"The tokenizer of {model.name} has {model.vocabulary:,} tokens, the weights only {rows:,}.",
            why="A token beyond the last embedding ends training or an answer with an index error.",
            remedy="Take the tokenizer files that belong to these weights.",
        )


def fast_tokenizer(model: Repository) -> Iterator[Finding]:
    """The packages themselves are `tokenizer-packages`, an error of the inspection."""
    slow = next((name for name in ("tokenizer.model", "spiece.model", "vocab.json") if name in model.files), "")
    if slow and "tokenizer.json" not in model.files:
        yield Finding(
            id="slow-tokenizer",
            severity="error",
            message=f"{model.name} has its tokenizer only as {slow}, without a tokenizer.json.",
            why="Rows are encoded with the fast tokenizer, which is that file.",
            remedy='Convert it once: python -c "from transformers import AutoTokenizer as T; '
            "T.from_pretrained('FOLDER').save_pretrained('FOLDER')\" (a sentencepiece model needs "
            "pip install sentencepiece protobuf).",
        )


def template_there(model: Repository) -> Iterator[Finding]:
    if model.template is None and model.vocabulary:
        yield Finding(
            id="no-chat-template",
            severity="warning",
            message=f"{model.name} has no chat template: it is a base model, or an old one.",
            why="Questions and answers are then plain text, and it was never taught to end its turn.",
            remedy='Take its "Instruct" or "Chat" version, or give one: model.chat_template = "chatml".',
        )


def template_usable(model: Repository) -> Iterator[Finding]:
    if model.template and model.template.problem:
        yield Finding(
            id="bad-template",
            severity="error",
            message=model.template.problem,
            why="It is rendered apart from everything else, with little time and memory, so nothing else is harmed.",
            remedy='Give another one in the spec: model.chat_template = "chatml".',
        )


def template_takes_system(model: Repository) -> Iterator[Finding]:
    template = model.template
    if template and not template.problem and not template.takes_system:
        yield Finding(
            id="template-no-system",
            severity="warning",
            message=f"The chat template of {model.name} ignores or refuses a system prompt.",
            why="A persona's system prompt would be lost, or its rows refused.",
            remedy='Put it into the first question, or give a template that has one: model.chat_template = "chatml".',
        )


def template_identity(model: Repository) -> Iterator[Finding]:
    template = model.template
    if template and not template.problem and template.default_system.strip():
        yield Finding(
            id="template-identity",
            severity="warning",
            message="The chat template adds a system prompt of its own where none is given.",
            evidence=template.default_system.strip()[:_SHOWN],
            why="Without a system prompt in the spec the model is told to be someone else than the persona.",
            remedy="Give the persona a system prompt: data.system or data.system_file.",
        )


def template_ends(model: Repository) -> Iterator[Finding]:
    template = model.template
    if template and not template.problem and template.end is None:
        yield Finding(
            id="template-no-end",
            severity="warning",
            message=f"The chat template of {model.name} writes no end token after an answer.",
            evidence=repr(template.end_text[:40]),
            why="A model that is taught no end runs on until the cap cuts it.",
            remedy='Give a template that closes the assistant\'s turn: model.chat_template = "chatml".',
        )


def stops_where_the_template_ends(model: Repository) -> Iterator[Finding]:
    end = model.template.end if model.template and not model.template.problem else None
    stops = {**_eos(model.config, "config.json"), **_eos(model.generation, "generation_config.json")}
    texts = {model.texts.get(number, f"id {number}") for number in stops}
    if end and stops and end not in texts:
        yield Finding(
            id="stop-mismatch",
            severity="warning",
            message=f"The chat template ends an answer with {end!r}, and the model is set to stop at "
            f"{', '.join(sorted(map(repr, texts)))}.",
            evidence="; ".join(f"{where}: eos_token_id {number}" for number, where in stops.items()),
            why="Molting stops at both; other programs would run on past the end of every answer.",
            remedy=f"For use elsewhere, add the id of {end!r} to eos_token_id in generation_config.json.",
        )
    beyond = [number for number in stops if model.vocabulary and not 0 <= number < model.vocabulary]
    if beyond:
        yield Finding(
            id="stop-unknown",
            severity="warning",
            message=f"The stop token {beyond[0]} of {stops[beyond[0]]} is not in the tokenizer.",
            why="It can never be generated, so it stops nothing.",
            remedy="Take the configuration that belongs to this tokenizer.",
        )


def end_is_eos(model: Repository) -> Iterator[Finding]:
    end = model.template.end if model.template and not model.template.problem else None
    eos = model.tokens.get("eos_token")
    if end and eos and end != eos:
        yield Finding(
            id="eos-is-not-end",
            severity="note",
            message=f"The tokenizer's end token is {eos!r}, while the chat template ends an answer with {end!r}.",
            why="Rows written by hand with the first teach the model an end that its chat format does not have. "
            "Molting learns the template's and stops at both.",
        )


def pad_is_eos(model: Repository) -> Iterator[Finding]:
    pad, eos = model.tokens.get("pad_token"), model.tokens.get("eos_token")
    if eos and pad in (eos, None):
        what = "is its end token" if pad else "is not named, so libraries take its end token"
        yield Finding(
            id="pad-is-eos",
            severity="note",
            message=f"The padding token of {model.name} {what} ({eos!r}); that is harmless here.",
            why="Elsewhere it hides the end from learning, or brings the warning that no attention mask was set. "
            "Molting learns by position, not by token, and always passes the mask.",
        )


def other_formats(model: Repository) -> Iterator[Finding]:
    pickles = sorted(name for name in model.files if name.endswith(PICKLES))
    if pickles and model.tensors:
        yield Finding(
            id="pickles-ignored",
            severity="note",
            message=f"{model.name} also has {pickles[0]}, a format that can run code; it is never opened.",
            evidence=", ".join(pickles[:8]),
        )


def _eos(config: Mapping[str, Any], where: str) -> dict[int, str]:
    value = config.get("eos_token_id")
    return {number: where for number in (value if isinstance(value, list) else [value]) if type(number) is int}


CHECKS: tuple[Check, ...] = (
    architecture_known,
    sizes_stated,
    rope_sane,
    ids_have_embeddings,
    fast_tokenizer,
    template_there,
    template_usable,
    template_takes_system,
    template_identity,
    template_ends,
    stops_where_the_template_ends,
    end_is_eos,
    pad_is_eos,
    other_formats,
)


def findings(model: Repository) -> list[Finding]:
    """What all checks find, errors first."""
    return worst_first(finding for check in CHECKS for finding in check(model))
