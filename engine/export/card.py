"""The README of an exported model: what it is, what it was made of, what was proven, and what it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.checks import after
from engine.contract import outputs, safe, summary
from engine.data.encode import Encoder

if TYPE_CHECKING:
    from .merge import Job


def card(job: Job, encoder: Encoder, proof: outputs.MergeProof, gguf: str = "") -> str:
    """A model card in Markdown, with the header that the hub reads."""
    spec, seen = job.spec, summary.summarise(job.run)
    history = after.gather(job.run).history
    name = _plain(seen.name or job.run.id)
    method = spec.method
    plan = [
        (
            "method",
            f"{method.kind}, rank {method.rank}, alpha {_number(method.alpha)}" + (", DoRA" if method.dora else ""),
        ),
        ("steps", f"{seen.step} of {seen.steps}"),
        ("epochs", f"{spec.training.epochs:g}"),
        ("rows per step", str(spec.rows_per_step)),
        ("learning rate", _number(spec.training.learning_rate)),
        ("seed", str(spec.training.seed)),
    ]
    losses = []
    if history.losses:
        losses.append(("training loss", f"{history.losses[0]:.3f} at first, {history.losses[-1]:.3f} at last"))
    if seen.eval_loss is not None:
        losses.append(("loss on held-out rows", f"{seen.eval_loss:.3f}"))
    made_of = [
        ("base", f"{_base(spec.model.base)} {spec.model.revision}".strip()),
        ("fingerprint of the base", spec.model.fingerprint),
        ("sha256 of the training rows", spec.data.sha256),
        ("weights", f"{job.learned.name} of the run {job.run.id}"),
        ("format", f"safetensors in {job.options.precision}" + (f"; {gguf}" if gguf else "")),
    ]
    parts = [
        f"---\ntags: [merged, {method.kind}]\npipeline_tag: text-generation\n---\n# {name}",
        "A base model with a fine-tuned adapter merged into its weights. Written by Molting.",
        "## Made of\n" + _table(made_of),
        "## Training\n" + _table([*plan, *losses]),
        f"## Proof of the merge\n{proof.sentence} Measured on the files in this folder; the numbers are in "
        "`proof.json`.",
        "## How to ask it\nThe chat template is in the tokenizer's files, the end tokens are in "
        "`generation_config.json`.\n" + _system(encoder.system_prompt),
        "With Ollama: `ollama create NAME -f Modelfile` in this folder.",
        f"## Limits\n{_limits(job)}",
    ]
    return "\n\n".join(parts) + "\n"


def _limits(job: Job) -> str:
    said = [
        "- It was taught a persona with few rows: what it says about itself is trained, not true.",
        "- What the base cannot do, it cannot do either; the base's licence and its limits hold.",
        "- The proof compares it with the adapter, not with the truth: grade its answers before you rely on them.",
    ]
    if job.spec.method.kind == "qlora":
        said.append(
            "- It was trained on a base in 4 bits and merged into the same base in 16 bits, so its answers differ a "
            "little from those of the training run."
        )
    return "\n".join(said)


def _system(prompt: str) -> str:
    if not prompt:
        return "It was trained without a system prompt of its own."
    quoted = "\n".join(f"    {line}" for line in _plain(prompt, lines=True).splitlines())
    return f"It was trained behind this system prompt, and answers as trained only behind it:\n\n{quoted}"


def _base(base: str) -> str:
    """The base as it may be published: of a path on this machine only its last part."""
    return _plain(base.rstrip("/").rpartition("/")[2] if base.startswith(("/", "~", ".")) else base)


def _number(value: float | str) -> str:
    """A number as people write it; a word such as "auto" as it is."""
    return value if isinstance(value, str) else f"{value:g}"


def _table(rows: list[tuple[str, str]]) -> str:
    lines = [f"| {name} | {_plain(str(value)).replace('|', '/')} |" for name, value in rows if str(value)]
    return "\n".join(["| | |", "|---|---|", *lines])


def _plain(text: str, *, lines: bool = False) -> str:
    """Without control characters and HTML: names and prompts are other people's words."""
    kept = "".join(c for c in text if c.isprintable() or (lines and c == "\n"))
    return safe.redact(kept).replace("<", "&lt;") if not lines else safe.redact(kept)
