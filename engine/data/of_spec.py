"""What a spec says about rows, made into an encoder and reading options; the same for training, checks and answers."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from engine.contract.spec import Spec

from .encode import Encoder
from .prepare import DataOptions, data_mapping
from .template import ChatTemplate, template_source
from .tokenizer import TokenizerFiles, load_tokenizer


def options(spec: Spec) -> DataOptions:
    """How the files of a spec, whose paths are absolute, are read."""
    data = spec.data
    return DataOptions(
        train=Path(data.train),
        heldout=Path(data.heldout) if data.heldout else None,
        heldout_fraction=data.heldout_fraction,
        format=data.format,
        fields=data.fields,
        title_template=data.title_template,
        seed=spec.training.seed,
        shuffle_buffer=data.shuffle_buffer,
    )


def encoder_for(spec: Spec, folder: Path) -> Encoder:
    """The encoder of a run: tokenizer of the model in `folder`, chat template and system prompt of the spec.

    Without a template, what stands between a prompt and its answer is the format's, so the rows are looked at.
    MoltingError for a model without a usable tokenizer or template.
    """
    return encoder_from(spec, load_tokenizer(folder))


def encoder_from(spec: Spec, files: TokenizerFiles) -> Encoder:
    """The same, of a tokenizer that was read already."""
    source = template_source(spec.model.chat_template, files.chat_template)
    # A template that writes today's date must write the same one when the run is resumed tomorrow.
    today = datetime.fromisoformat(spec.data.date) if spec.data.date else None
    template = ChatTemplate(source, files.tokens, now=today) if source else None
    join = "" if template else data_mapping(options(spec)).join
    return Encoder.from_files(
        files, template, max_length=spec.data.max_length, system_prompt=spec.data.system, join=join
    )
