"""The verb `model-check`: a model or an adapter, judged without loading it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.contract import calls
from engine.contract.errors import MoltingError
from engine.contract.severity import worst_first
from engine.data.shape import shape_of
from engine.data.template import ChatTemplate
from engine.data.tokenizer import TokenizerFiles, load_tokenizer
from engine.models import adapters, fetch, hub
from engine.models.files import Progress, read_json_object
from engine.models.hashes import check_hashes
from engine.models.hub_errors import Unreachable
from engine.models.inspect import MAX_INDEX, built_in, inspect_folder, weight_files
from engine.models.safetensors_header import BITS, Tensor, read_header

from . import model


def model_check(request: calls.ModelCheckRequest, tell: Callable[[calls.Line], None]) -> calls.ModelCheck:
    """Findings about a folder, a GGUF file, a hub id (`org/name` or `org/name@revision`) or an adapter's folder.

    A hub id is downloaded first. MoltingError where there is nothing to judge: no such model, offline.
    """

    def progress(phase: str, done: float | None = None, total: float | None = None) -> None:
        tell(calls.Progress(phase=phase, done=done or 0.0, total=total or 0.0))

    models = Path(request.models)
    path = Path(request.model).expanduser()
    if (path / adapters.CONFIG).is_file() and not (path / "config.json").exists():
        return _adapter(path.absolute(), request.base, models, progress)
    folder = path.absolute() if path.is_dir() and not any(path.glob("*.gguf")) else None
    if folder is not None:  # also one that `resolve` would not take for a model: what is missing is said
        return _model(folder, [], progress)
    name, _, revision = request.model.partition("@")
    reference = fetch.resolve(name, revision=revision, models_dir=models, progress=progress)
    folder = fetch.fetch(reference, models_dir=models, progress=progress)
    said = [calls.Finding(id="copy-used", severity="note", message=reference.note)] if reference.note else []
    if reference.kind == "hub":
        said += _against_hub(reference, folder, progress)
    return _model(folder, said, progress)


def _model(folder: Path, said: list[calls.Finding], progress: Progress) -> calls.ModelCheck:
    found = inspect_folder(folder)
    seen = look(folder)
    ids = {finding.id for finding in found}
    more = [finding for finding in model.findings(seen) if finding.id not in ids]
    if "tokenizer-packages" in ids:
        more = [finding for finding in more if finding.id != "slow-tokenizer"]
    everything = [*found, *more, *check_hashes(folder, progress), *said]
    return calls.ModelCheck(
        findings=worst_first(everything),
        path=str(folder),
        kind="model",
        about=_about(seen),
    )


def look(folder: Path) -> model.Repository:
    """Read what the checks need; what cannot be read stays empty, for the inspection names it."""
    config, generation = _json(folder / "config.json"), _json(folder / "generation_config.json")
    files = frozenset(path.name for path in folder.iterdir())
    try:
        tokenizer: TokenizerFiles | None = load_tokenizer(folder)
    except MoltingError:
        tokenizer = None
    kind = config.get("model_type")
    return model.Repository(
        name=folder.name,
        config=config,
        generation=generation,
        files=files,
        tensors=_tensors(folder),
        known_architecture=not isinstance(kind, str) or built_in(kind),
        vocabulary=_highest(tokenizer) + 1 if tokenizer else 0,
        tokens=tokenizer.tokens if tokenizer else {},
        texts=_texts(tokenizer, config, generation) if tokenizer else {},
        template=_template(tokenizer) if tokenizer and tokenizer.chat_template else None,
    )


def _highest(tokenizer: TokenizerFiles) -> int:
    """The highest id that text can become; a vocabulary may have gaps."""
    return max(tokenizer.tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)


def _texts(tokenizer: TokenizerFiles, *configs: dict[str, Any]) -> dict[int, str]:
    named: set[Any] = set()
    for config in configs:
        value = config.get("eos_token_id")
        named |= {each for each in (value if isinstance(value, list) else [value]) if type(each) is int and each >= 0}
    return {number: text for number in named if (text := tokenizer.tokenizer.id_to_token(number)) is not None}


def _template(tokenizer: TokenizerFiles) -> model.Template:
    template = ChatTemplate(tokenizer.chat_template or "", tokenizer.tokens)
    try:
        shape = shape_of(template, tokenizer.tokenizer)
    except MoltingError as error:
        return model.Template(problem=error.message)
    finally:
        template.close()
    return model.Template(
        end=shape.end, end_text=shape.tail, takes_system=shape.takes_system, default_system=shape.default_system
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_json_object(path, MAX_INDEX)
    except (OSError, ValueError):
        return {}


def _tensors(folder: Path) -> dict[str, Tensor]:
    try:
        return {name: each for file in weight_files(folder) for name, each in read_header(folder / file).items()}
    except (OSError, ValueError):
        return {}


def _about(seen: model.Repository) -> str:
    """The model in one line; of files that do not fit together, what is known."""
    numbers = sum(each.numbers for each in seen.tensors.values())
    size = sum(math.ceil(each.numbers * BITS[each.dtype] / 8) for each in seen.tensors.values())
    window = seen.text_config.get("max_position_embeddings")
    parts = [
        str(seen.config.get("model_type", ""))[:40],
        f"{numbers / 1e6:,.0f}M parameters in {size / 1e9:.2f} GB" if numbers else "",
        "/".join(sorted({each.dtype for each in seen.tensors.values()})),
        f"window {window:,}" if type(window) is int else "",
        f"{seen.vocabulary:,} tokens" if seen.vocabulary else "",
    ]
    return ", ".join(part for part in parts if part)


def _against_hub(reference: fetch.ModelRef, folder: Path, progress: Progress) -> list[calls.Finding]:
    """The hashes that the hub names for this commit."""
    try:
        damaged = hub.damaged(reference.location, reference.revision, folder, None, progress)
    except Unreachable as error:
        message = f"{error.message} So the hashes were not compared again; they were when it was downloaded."
        return [calls.Finding(id="hashes-not-compared", severity="note", message=message)]
    return [
        calls.Finding(
            id="wrong-hash",
            severity="error",
            message=f"{name} is not what {reference.location} has at {reference.revision[:12]}: its hash differs.",
            why="A damaged weight loads without an error and answers nonsense.",
            remedy=f"Remove {folder} and run this again.",
        )
        for name in damaged
    ]


def _adapter(path: Path, wanted: str, models: Path, progress: Progress) -> calls.ModelCheck:
    config = _json(path / adapters.CONFIG)
    record = _json(path / adapters.BASE_RECORD)
    name = wanted or str(record.get("base") or config.get("base_model_name_or_path") or "")
    base, said = _base_of(name, "" if wanted else str(record.get("revision") or ""), models)
    found = [*adapters.inspect_adapter(path, base), *check_hashes(path, progress), *said]
    return calls.ModelCheck(
        findings=worst_first(found),
        path=str(path),
        kind="adapter",
        about=_about_adapter(config, name, base),
    )


def _base_of(name: str, revision: str, models: Path) -> tuple[Path | None, list[calls.Finding]]:
    """The base model's folder if it is on this machine; nothing is downloaded for an adapter's sake."""
    try:
        folder = fetch.local(fetch.resolve(name, revision=revision, models_dir=models), models_dir=models)
    except MoltingError:
        folder = None
    if folder is not None:
        return folder, []
    shown = name[:120] or "no base"
    return None, [
        calls.Finding(
            id="base-not-here",
            severity="note",
            message=f"The adapter names {shown} as its base, which is not on this machine, so they were not compared.",
            remedy="Name the base: molting model check ADAPTER BASE.",
        )
    ]


def _about_adapter(config: dict[str, Any], name: str, base: Path | None) -> str:
    modules = config.get("target_modules")
    listed = ", ".join(sorted(map(str, modules))) if isinstance(modules, list) else str(modules)
    where = f" ({base})" if base else ""
    return (
        f"{str(config.get('peft_type', 'adapter'))[:20]} of {name[:120]}{where}, rank {str(config.get('r'))[:10]}, "
        f"alpha {str(config.get('lora_alpha'))[:10]}, modules {listed[:200]}"
    )
