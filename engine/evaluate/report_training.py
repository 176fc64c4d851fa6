"""The sections on what was taught and how: changes, data, training, proof of effect, what the record says. Pure."""

from __future__ import annotations

import hashlib
from pathlib import PurePath

from engine.contract.spec import Spec

from .report_blocks import Block, Bullets, Paragraph, Plot, Section, Table
from .report_facts import Facts
from .report_numbers import UNKNOWN, count, duration, loss, points, short_hash
from .report_plots import curve

_BOTH = frozenset({1, 2})


def changed(facts: Facts) -> Section:
    """What is not the same as in the run it is compared with."""
    blocks: list[Block] = []
    if facts.other is None:
        blocks.append(Paragraph("No parent run is recorded and none was given with --against: nothing is compared."))
    elif facts.spec_differs is not None:
        blocks += _spec_changes(facts)
    found = facts.comparison.differs if facts.comparison else None
    for title, things in (("instrument", found.instrument), ("treatment", found.treatment)) if found else ():
        if things and (title == "instrument" or facts.spec_differs is None):
            rows = [[each.what, each.a, each.b] for each in things]
            blocks += [Paragraph(f"The {title} differs:"), Table([title, facts.other_name, facts.name], rows)]
    if facts.other is not None and not blocks:
        blocks.append(Paragraph("Nothing that was recorded of both differs; what was not recorded may."))
    return Section("What changed", blocks)


def _spec_changes(facts: Facts) -> list[Block]:
    differs = facts.spec_differs or []
    if not differs:
        return [Paragraph(f"The specs of {facts.other_name} and {facts.name} say the same.")]
    rows = [[each.what, each.a, each.b] for each in differs]
    blocks: list[Block] = [Table(["key", facts.other_name, facts.name], rows)]
    if len(differs) > 1:
        said = f"{len(differs)} things changed at once: what made a difference cannot be told from these two runs."
        blocks.append(Paragraph(said))
    return blocks


def data(facts: Facts) -> Section:
    """The manifest: files with sizes and hashes, what became of the rows."""
    spec, funnel = facts.spec, facts.history.funnel
    blocks: list[Block] = []
    if facts.imported:
        blocks.append(Paragraph("Imported: rows and settings of the training were not recorded here."))
    elif spec is not None:
        system = hashlib.sha256(spec.data.system.encode("utf-8", "replace")).hexdigest() if spec.data.system else ""
        rows = [
            ["training rows (sha256)", spec.data.sha256 or UNKNOWN],
            ["system prompt (sha256)", system or "none"],
            ["format", (funnel.format if funnel else "") or spec.data.format],
            ["rows are cut at, tokens", str(spec.data.max_length)],
        ]
        blocks.append(Table(["what", "value"], rows))
    if facts.inputs:
        files = [[each.name, f"{each.size:,}", each.sha256] for each in facts.inputs]
        blocks.append(Table(["file", "bytes", "sha256"], files, frozenset({1})))
    if funnel is not None:
        stages = [["read", f"{funnel.read:,}"], *([f"dropped: {why}", f"{n:,}"] for why, n in funnel.dropped.items())]
        stages += [["held out", f"{funnel.heldout:,}"], ["trained", f"{funnel.trained:,}"]]
        stages += [["of them cut to fit", f"{funnel.truncated:,}"], ["tokens", f"{funnel.tokens:,}"]]
        stages += [["tokens learned", f"{funnel.learned:,}"]]
        blocks.append(Table(["rows", "count"], stages, frozenset({1})))
    elif not facts.imported:
        blocks.append(Paragraph("No funnel was recorded: how many rows were read and dropped is not known."))
    return Section("Data", blocks)


def training(facts: Facts) -> Section:
    """Steps, losses (the mean and the last are two things), rates, time, attempts, and the curve."""
    history = facts.history
    if facts.imported:
        header = facts.sheet.header if facts.sheet else None
        said = [[key, _without_home(value)] for key, value in (header.recorded if header else {}).items()]
        blocks: list[Block] = [Paragraph("Nothing was trained here. What the imported files say of themselves:")]
        return Section("Training", [*blocks, Table(["what", "value"], said)] if said else blocks)
    if not history.metrics:
        return Section("Training", [Paragraph(f"No step was recorded; the run is {facts.seen.state}.")])
    blocks = [Table(["what", "value"], _settings(facts.spec) + _numbers(facts))]
    losses = [(each.step, each.loss) for each in history.metrics if each.loss is not None]
    evals = list({each.step: each.loss for each in history.evals if each.loss is not None}.items())
    if losses:
        drawn = "Training loss over the steps" + ("; hollow dots: held-out loss" if evals else "")
        blocks.append(Plot(curve(losses, evals), drawn))
    if evals:
        rows = [[str(step), loss(value)] for step, value in evals]
        blocks.append(Table(["step", "held-out loss"], rows, frozenset({0, 1})))
    blocks.append(_attempts(facts))
    return Section("Training", blocks)


def _without_home(value: str) -> str:
    """A path without the folders that only tell whose machine it was."""
    return f"…/{PurePath(value).parent.name}/{PurePath(value).name}" if value.startswith("/") else value


def _settings(spec: Spec | None) -> list[list[str]]:
    if spec is None:
        return [["spec", "not readable"]]
    method, train = spec.method, spec.training
    what = method.kind if method.kind == "full" else f"{method.kind}, rank {method.rank}, alpha {method.alpha}"
    return [
        ["base", PurePath(spec.model.base).name],
        ["method", what],
        ["precision", spec.model.precision],
        ["rows per step", str(spec.rows_per_step)],
        ["schedule", f"{train.schedule}, warm-up {train.warmup:g}, peak {train.learning_rate}, seed {train.seed}"],
    ]


def _numbers(facts: Facts) -> list[list[str]]:
    metrics, losses = facts.history.metrics, facts.history.losses
    start, last = facts.history.start, metrics[-1]
    rates = [each.lr for each in metrics]
    rows = [
        ["steps made", f"{facts.history.made:,} of {facts.history.planned or '?'} planned"],
        ["loss of the last step", loss(last.loss)],
        ["mean loss of all steps", loss(sum(losses) / len(losses) if losses else None)],
        ["learning rate, first, highest, last", f"{rates[0]:.3g}, {max(rates):.3g}, {rates[-1]:.3g}"],
        ["times each row was seen", f"{last.epoch:.2f}"],
        ["tokens", f"{last.tokens:,}"],
        ["seconds in steps", duration(sum(each.seconds for each in metrics))],
    ]
    if start:
        rows += [["device", f"{start.device}, {start.precision}, {start.path}"]]
        rows += [["trainable parameters", f"{start.trainable:,} of {start.parameters:,}"]]
    return rows


def _attempts(facts: Facts) -> Block:
    """How every attempt went: the last word that was said of it."""
    last = {each.attempt: each for each in facts.states}
    said = []
    for number, state in sorted(last.items()):
        why = f": {state.why or state.reason}" if state.why or state.reason else ""
        said.append(f"attempt {number}: {state.state}{why}")
    return Bullets(said) if said else Paragraph("No attempt is recorded in lifecycle.jsonl.")


def proof(facts: Facts) -> Section:
    """Whether the training changed the model at all, as `molting prove` measured it."""
    title, found = "Proof of effect", facts.proof
    if found is None:
        how = "the model is not here" if facts.imported else f"`molting prove {facts.run.id}` makes one"
        return Section(title, [Paragraph(f"There is none: {how}.")])
    heldout = found.heldout_loss
    rows = [
        ["verdict", found.verdict.replace("_", " ")],
        ["KL(base || adapter), nats per position", points(found.kl)],
        ["positions whose most likely token changed", f"{found.flip_rate:.1%}"],
        ["adapter matrices that are not zero", f"{found.nonzero_b} of {found.total_b}"],
        ["held-out loss, base and adapter", f"{loss(heldout.base)} and {loss(heldout.adapter)}"],
        ["measured on", f"{count(found.probes, 'question')}, {count(found.positions, 'position')}"],
    ]
    blocks: list[Block] = [Paragraph(found.sentence, strong=True), Table(["what", "value"], rows)]
    if facts.stale_proof:
        blocks.insert(0, Paragraph("This proof is older than the weights: measure again."))
    return Section(title, blocks + ([Bullets(found.warnings)] if found.warnings else []))


def record(facts: Facts) -> Section:
    """What the checks after a training say."""
    rows = [
        [each.severity, each.message, " – ".join(part for part in (each.evidence, each.remedy) if part)]
        for each in facts.findings
    ]  # the worst come first
    if rows:
        return Section("What the record says", [Table(["severity", "finding", "evidence and remedy"], rows)])
    return Section("What the record says", [Paragraph("The checks after training found nothing.")])


def hashes(facts: Facts) -> list[list[str]]:
    """Everything by which somebody else knows that they have the same: (what, hash)."""
    spec, header = facts.spec, facts.sheet.header if facts.sheet else None
    rows = []
    if spec is not None and not facts.imported:
        rows = [["training rows", spec.data.sha256], ["base model", spec.model.fingerprint]]
    rows += [[f"weights {name}", digest] for name, digest in facts.weights.items()]
    if facts.sheet and header:
        rows += [["rubric", header.rubric.fingerprint], ["answer sheet", facts.sheet.sha256]]
        rows += [
            ["chat template", header.template],
            ["base as asked", header.base],
            ["adapter as asked", header.adapter],
        ]
        rows += [[f"imported {name}", digest] for name, digest in header.sources.items()]
    rows += [[each.name, each.sha256] for each in facts.graded_files if each.name.startswith("grades/")]
    return [[what, digest or UNKNOWN] for what, digest in rows]


def in_short(facts: Facts) -> list[str]:
    """The training in a line or two, for the version fit to post."""
    if not facts.history.metrics or facts.imported:
        return []
    losses, evals = facts.history.losses, facts.history.evals
    mean = loss(sum(losses) / len(losses) if losses else None)
    said = f"{count(facts.history.made, 'step')}; last loss {loss(facts.history.metrics[-1].loss)} (mean {mean})"
    if evals:
        said += f", held-out {loss(evals[-1].loss)}"
    rows = short_hash(facts.spec.data.sha256) if facts.spec else UNKNOWN
    return [f"Training: {said}. Rows {rows}."]
