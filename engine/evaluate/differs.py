"""What is not the same about two cycles. Pure.

The instrument (how it was measured) forbids a comparison; the treatment (what was changed) is what a cycle is. A
setting that one of them did not record is a warning, never a refusal.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import Any

import msgspec

from engine.contract.lineage import leaves
from engine.contract.rubric import Rubric, plain
from engine.contract.safe import safe
from engine.contract.sheets import Decoding, Header
from engine.contract.spec import Spec
from engine.contract.verdict import Cycle, Different, Differs

_SHOWN = 80
# Keys of a spec that say how a run was kept and watched, not what was taught.
_NOT_TAUGHT = {
    "name", "parent", "sweep", "evaluation", "generation", "data.train", "data.heldout", "data.system_file",
    "data.date", "training.save_every", "training.keep", "training.hang_minutes", "data.system",
    "model.fingerprint", "model.base", "data.sha256", "data.stream", "data.rows", "data.shuffle_buffer",
}  # fmt: skip
_GROUPS = {"method.kind": "quantisation and method", "method.double_quant": "quantisation and method"}
_GROUPS |= {"model.chat_template": "chat template"}


@dataclass
class Side:
    """One cycle with all that is known of how it came to be. `spec` is None where nothing was trained here."""

    cycle: Cycle
    header: Header
    spec: Spec | None
    questions: list[str] = field(default_factory=list)

    @property
    def rubric(self) -> Rubric:
        return self.header.rubric


def differences(a: Side, b: Side, *, same_run: bool = False) -> tuple[Differs, list[str]]:
    """(what differs, warnings). `same_run`: base and adapter of one sheet, which differ in the adapter alone."""
    found = Differs()
    warnings = _instrument(a, b, found, same_run)
    if not same_run:
        warnings += _treatment(a, b, found)
    return found, warnings


def _instrument(a: Side, b: Side, found: Differs, same_run: bool) -> list[str]:
    warnings = []
    one, two = a.cycle, b.cycle
    if one.rubric_hash != two.rubric_hash:
        found.instrument.append(
            _different("rubric", f"{one.rubric} {one.rubric_hash[:12]}", f"{two.rubric} {two.rubric_hash[:12]}")
        )
    if {plain(each) for each in a.questions} != {plain(each) for each in b.questions}:
        found.instrument.append(_different("questions", _questions(a, b), _questions(b, a)))
    warnings += _decoding(a.header.decoding, b.header.decoding, found)
    if not same_run:
        if a.header.adapter and a.header.adapter == b.header.adapter and one.voice == two.voice != "base":
            same = a.header.adapter[:12]
            found.instrument.append(_different("adapter weights are identical", same, same))
        warnings += _same_answers(a, b)
    first, second = _names(one, two)
    if one.rater != two.rater:
        warnings.append(f"Different raters: {one.rater} graded {first}, {two.rater} graded {second}.")
    unblind = [name for name, cycle in ((first, one), (second, two)) if cycle.blind is not True]
    if unblind:
        warnings.append(f"Not known to be graded blind: {' and '.join(unblind)}.")
    judges = [name for name, cycle in ((first, one), (second, two)) if cycle.kind == "model"]
    if judges:
        warnings.append(f"Graded by an AI assistant, not by a person: {' and '.join(judges)}.")
    return warnings


def _names(one: Cycle, two: Cycle) -> tuple[str, str]:
    """What tells them apart."""
    pairs = ((one.name, two.name), (one.voice, two.voice), (one.run, two.run))
    return next((pair for pair in pairs if pair[0] != pair[1]), ("the first", "the second"))


def _questions(one: Side, other: Side) -> str:
    """How many questions, how many the other was not asked, and the first of those."""
    known = {plain(each) for each in other.questions}
    only = [each for each in one.questions if plain(each) not in known]
    first = f": “{textwrap.shorten(safe(only[0], False), _SHOWN, placeholder=' …')}”" if only else ""
    return f"{len(set(map(plain, one.questions)))}, {len(only)} only here{first}"


def _decoding(a: Decoding, b: Decoding, found: Differs) -> list[str]:
    unknown = []
    for name in Decoding.__struct_fields__:
        mine, theirs = getattr(a, name), getattr(b, name)
        if mine is None or theirs is None:
            if name in ("max_new_tokens", "temperature", "repetition_penalty") and not (mine is None and theirs == 0):
                unknown.append(name)
        elif mine != theirs:
            found.instrument.append(_different(name, str(mine), str(theirs), "decoding"))
    return [f"Not recorded for both, so it may differ: {', '.join(unknown)}."] if unknown else []


def _same_answers(a: Side, b: Side) -> list[str]:
    """Weights of imported runs are not known, but their traces are."""
    mine = {(plain(each.question), each.sample): each.answer for each in a.cycle.answers}
    theirs = {(plain(each.question), each.sample): each.answer for each in b.cycle.answers}
    common = mine.keys() & theirs.keys()
    warnings = []
    if common and all(mine[key] == theirs[key] for key in common):
        warnings.append("All answers are word for word the same: this compares two gradings, not two models.")
    paths = [side.header.recorded.get("adapter", "") for side in (a, b)]
    if paths[0] and paths[0] == paths[1]:
        warnings.append(f"Both name the same adapter, {safe(paths[0], False)[-_SHOWN:]}: perhaps the same weights.")
    if not (a.header.adapter and b.header.adapter):
        warnings.append("The adapter's weights were not recorded for both, so nothing shows that they differ.")
    return warnings


def _treatment(a: Side, b: Side, found: Differs) -> list[str]:
    def compare(what: str, group: str, mine: Any, theirs: Any) -> None:
        if mine != theirs:
            found.treatment.append(_different(what, _words(mine), _words(theirs), group))

    known = [
        ("base", a.header.base or a.header.model or None, b.header.base or b.header.model or None),
        ("system prompt", a.header.system, b.header.system),
        ("chat template", a.header.template or None, b.header.template or None),
    ]
    unknown = [what for what, mine, theirs in known if mine is None or theirs is None]
    for what, mine, theirs in known:
        if what not in unknown:
            compare(what, what, mine, theirs)
    if a.spec is None or b.spec is None:
        unknown += ["rows", "method", "hyper-parameters"]
        _recorded(a.header, b.header, found)
    else:
        compare("rows", "rows", a.spec.data.sha256[:12], b.spec.data.sha256[:12])
        _specs(a.spec, b.spec, compare)
    groups = {each.group for each in found.treatment}
    warnings = [f"Not recorded for both, so it may differ: {', '.join(unknown)}."] if unknown else []
    if len(groups) > 1 or len(found.treatment) > 1:
        told = ", ".join(each.what for each in found.treatment[:8])
        warnings.append(f"More than one thing changed ({told}): what made the difference cannot be told.")
    return warnings


def _recorded(a: Header, b: Header, found: Differs) -> None:
    """What imported files say of themselves."""
    sides = [header.recorded.get("changed", "").split("; ") for header in (a, b)]
    for part in dict.fromkeys([*sides[0], *sides[1]]):
        if part and not all(part in side for side in sides):
            here = ["yes" if part in side else "not said" for side in sides]
            found.treatment.append(_different(part[:_SHOWN], here[0], here[1], "as the files say"))


def _specs(a: Spec, b: Spec, compare: Any) -> None:
    """Every key of the specs that says what was taught and how."""
    mine, theirs = dict(leaves(msgspec.to_builtins(a))), dict(leaves(msgspec.to_builtins(b)))
    for key in sorted(mine.keys() | theirs.keys()):
        if key in _NOT_TAUGHT or key.split(".")[0] in _NOT_TAUGHT or key == "model.chat_template":
            continue
        compare(key, _GROUPS.get(key, key), mine.get(key), theirs.get(key))


def _words(value: Any) -> str:
    if value in (None, ""):
        return "none"
    text = safe(str(value), keep_newlines=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _different(what: str, a: str, b: str, group: str = "") -> Different:
    return Different(what=safe(what, keep_newlines=False), a=_words(a), b=_words(b), group=group or what)
