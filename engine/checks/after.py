"""The checks after a training: what its record says, whatever the answers look like. Cheap: no model is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from engine.contract import calls, durable, rundir, summary
from engine.contract.calls import Finding
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.severity import worst_first
from engine.contract.spec import Spec

from .curve import CURVE
from .history import History, read_history
from .recall import Said, by_question, constant_share, recalled, taught
from .words import excerpt, several

MANY_CUT = 0.5  # of the answers
LITTLE = 0.1  # of the trained answers' four-word runs
CONSTANT = 0.2  # of what is learned


@dataclass(frozen=True)
class Basis:
    """What a loss is a loss of; two losses compare only where these agree."""

    name: str
    parts: Mapping[str, str] = field(default_factory=dict)  # "training rows" -> a hash of them
    constant: float = 0.0  # share of what is learned that is the same in every row
    learned: float | None = None  # share of all tokens that is learned


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A run after its training. What is not known is left out; `mean_loss` and `last_loss` may be all there is.

    `answers` are the newest ones of the trained model, `trained` the rows' answers by question (`by_question`),
    `identical` of `compared` answers equal those of the base; `twins` are runs whose final weights are the same.
    """

    history: History = field(default_factory=History)
    spec: Spec | None = None
    mean_loss: float | None = None
    last_loss: float | None = None
    state: str = ""
    answers: Sequence[Said] = ()
    trained: Mapping[str, Sequence[str]] = field(default_factory=dict)
    identical: int = 0
    compared: int = 0
    twins: Sequence[str] = ()
    basis: Basis = field(default_factory=lambda: Basis(""))
    parent: Basis | None = None


Check = Callable[[Trained], Iterator[Finding]]


def ended_early(run: Trained) -> Iterator[Finding]:
    """Fewer steps than planned; a run that ended by early stopping meant to."""
    made, planned = run.history.made, run.history.planned
    live = run.state in {"queued", "starting", "training", "stopping"}
    meant = run.history.end is not None and run.history.end.outcome == "finished"
    if not planned or made >= planned or live or meant:
        return
    yield Finding(
        id="ended-early" if made else "no-steps",
        severity="warning" if made else "error",
        message=f"The run made {made} of {planned} planned steps and ended as {run.state or 'interrupted'}.",
        evidence=f"{made / planned:.0%} of the plan",
        why="The weights are those of an unfinished training, whose learning rate had not fallen yet.",
        remedy="`molting resume RUN` makes the rest.",
    )


def mean_is_not_last(run: Trained) -> Iterator[Finding]:
    """F5: libraries print the mean over the run as the training loss, and people quote it as the final one."""
    losses = run.history.losses
    mean = run.mean_loss if run.mean_loss is not None else sum(losses) / len(losses) if losses else None
    last = run.last_loss if run.last_loss is not None else losses[-1] if losses else None
    if mean is not None and last is not None and abs(mean - last) > 0.2 * max(mean, last):
        yield Finding(
            id="mean-not-last",
            severity="note",
            message=f"The mean loss over the run is {mean:.3f}, the last is {last:.3f}: two different things.",
            evidence=f"mean {mean:.3f}, last {last:.3f}",
            why="A mean over all steps holds the high ones of the beginning; it is often quoted as the final loss.",
            remedy="Compare runs by their loss on the same held-out rows.",
        )


def answers_are_cut(run: Trained) -> Iterator[Finding]:
    """F1: an end token that was never learned shows in answers that all run into the cap."""
    cut, count = sum(said.cut for said in run.answers), len(run.answers)
    if count >= 3 and cut > MANY_CUT * count:
        yield Finding(
            id="cap-hit",
            severity="warning",
            message=f"{cut} of {count} answers ran into the cap of tokens instead of ending by themselves.",
            evidence=excerpt(next(said.answer for said in run.answers if said.cut)),
            why="Whatever the cap, a model that never learned its end token runs into it.",
            remedy="`molting doctor SPEC` says whether the end token is learned; raise generation.max_new_tokens "
            "only if it is.",
        )


def little_is_recalled(run: Trained) -> Iterator[Finding]:
    """F3: the loss looks learned, and asked the very questions of its rows the model says something else."""
    shares = recalled(run.answers, run.trained)
    if len(shares) < 2 or sum(shares) / len(shares) >= LITTLE:
        return
    last = run.last_loss if run.last_loss is not None else run.history.losses[-1] if run.history.losses else None
    beside = f", whatever the last loss of {last:.3f} seems to say" if last is not None else ""
    yield Finding(
        id="little-recalled",
        severity="warning",
        message=f"Asked {len(shares)} trained questions, the answers share {sum(shares) / len(shares):.0%} of their "
        f"four-word runs with the trained answers: barely learned{beside}.",
        evidence=", ".join(f"{share:.0%}" for share in shares[:12]),
        why="A model that had memorised its rows would repeat them.",
        remedy="More optimizer steps (a smaller training.accumulation, more epochs), then a higher rate.",
    )


def answers_are_the_bases(run: Trained) -> Iterator[Finding]:
    if run.compared and run.identical == run.compared:
        yield Finding(
            id="same-answers",
            severity="error",
            message=f"All {run.compared} answers of the trained model are the base's, token for token.",
            evidence=f"{run.identical} of {run.compared} identical",
            why="Greedy answers that never differ mean an adapter that is not applied, or far too weak.",
            remedy="`molting why RUN` finds which.",
        )


def constant_is_learned(run: Trained) -> Iterator[Finding]:
    """F4, in one run."""
    share = run.basis.constant
    if share >= CONSTANT:
        yield Finding(
            id="constant-learned",
            severity="warning",
            message=f"{share:.0%} of what is learned is the same text in every row.",
            evidence=f"{share:.3f} of the learned text",
            why="Its loss falls to nothing at once and pulls the whole loss down, whatever the answers learned.",
            remedy="Give the rows as messages: then only answers are learned.",
        )


def losses_do_not_compare(run: Trained) -> Iterator[Finding]:
    """F4, between two runs."""
    parent = run.parent
    if parent is None:
        return
    differs = [name for name in run.basis.parts if parent.parts.get(name, "") != run.basis.parts[name]]
    evidence = [f"{name} differ" for name in differs]
    if abs(parent.constant - run.basis.constant) > 0.05:
        evidence.append(f"constant text {parent.constant:.0%} of what was learned there, {run.basis.constant:.0%} here")
    if parent.learned and run.basis.learned and abs(parent.learned - run.basis.learned) > 0.05:
        evidence.append(f"{parent.learned:.0%} of the tokens learned there, {run.basis.learned:.0%} here")
    if evidence:
        yield Finding(
            id="loss-not-comparable",
            severity="note",
            message=f"The training loss does not compare with that of {parent.name}: it is not a loss of the same.",
            evidence="; ".join(evidence),
            why="A loss over other tokens is another quantity: a lower one may mean easier text, no better model.",
            remedy="Compare by held-out rows that both have, or by graded answers.",
        )


def weights_are_anothers(run: Trained) -> Iterator[Finding]:
    """F6: two scores of what turned out to be the same weights."""
    if run.twins:
        yield Finding(
            id="same-weights",
            severity="warning",
            message=f"The final weights are, bit for bit, those of {', '.join(run.twins[:3])}.",
            evidence=several(len(run.twins), "other run"),
            why="Answers and scores of these runs are those of one model: a difference between them is chance.",
            remedy="Unless the run was copied on purpose, train again.",
        )


CHECKS: tuple[Check, ...] = (
    ended_early,
    *(lambda run, check=check: check(run.history, run.spec) for check in CURVE),
    mean_is_not_last,
    answers_are_cut,
    little_is_recalled,
    answers_are_the_bases,
    constant_is_learned,
    losses_do_not_compare,
    weights_are_anothers,
)


def findings(run: Trained) -> list[Finding]:
    """What all checks say, the worst first."""
    return worst_first(finding for check in CHECKS for finding in check(run))


def after(run: RunDir, answers: Sequence[Said] = ()) -> list[Finding]:
    """The findings of a run directory. `answers`: greedy ones of the trained model, where some were just made.

    Reads the record only; what is missing or damaged is not judged.
    """
    known = gather(run)
    return findings(replace(known, answers=[*answers, *known.answers]))


def gather(run: RunDir) -> Trained:
    """What is known of a run, from its own files and those beside it."""
    seen = summary.summarise(run)
    try:
        history, spec = read_history(run), summary.load_spec(run)
    except MoltingError:
        return Trained(state=seen.state)
    rows = _or_none(lambda: taught(spec)) or []
    proof = _or_none(lambda: msgspec.json.decode(summary.read_small(run.proof), type=calls.Proof))
    pairs = proof.answers if proof else []
    said = [Said(pair.question, pair.adapter.text, pair.adapter.stop == "cap") for pair in pairs]
    last = history.samples[-1].step if history.samples else 0
    sampled = [Said(each.question, each.answer, each.stop == "cap") for each in history.samples if each.step == last]
    return Trained(
        history=history,
        spec=spec,
        state=seen.state,
        answers=said or sampled,
        trained=by_question(rows),
        identical=sum(pair.first_difference is None for pair in pairs),
        compared=len(pairs),
        twins=twins(run),
        basis=_basis(run, spec, history, constant_share(rows)),
        parent=_parent(run, spec),
    )


def twins(run: RunDir) -> list[str]:
    """Other runs beside this one whose final weights are the same bytes, by what their seals say."""
    own = weights_hash(run)
    others = (other for other in rundir.listed(run.path.parent) if other.id != run.id)
    return sorted(summary.name_of(other) for other in others if own and weights_hash(other) == own)


def weights_hash(run: RunDir) -> str:
    """The sha256 of a run's sealed final weights, together where there are several files; "" where there is none."""
    try:
        files = durable.read_manifest(run.adapter).files
    except MoltingError:
        return ""
    return " ".join(entry.sha256 for name, entry in sorted(files.items()) if name.endswith(".safetensors"))


def _basis(run: RunDir, spec: Spec, history: History, constant: float) -> Basis:
    funnel, data = history.funnel, spec.data
    parts = {
        "training rows": data.sha256,
        "system prompts": data.system,
        "chat templates": spec.model.chat_template,
        "row lengths": str(data.max_length),
        "base models": spec.model.fingerprint or spec.model.base,
    }
    share = funnel.learned / funnel.tokens if funnel and funnel.tokens else None
    return Basis(spec.name or run.id, parts, constant, share)


def _parent(run: RunDir, spec: Spec) -> Basis | None:
    if not spec.parent:
        return None
    try:
        parent = rundir.find(run.path.parent, spec.parent, summary.name_of)
        its = summary.load_spec(parent)
        return _basis(parent, its, read_history(parent), constant_share(_or_none(lambda: taught(its)) or []))
    except MoltingError:
        return None


def _or_none(read: Callable[[], object]):  # type: ignore[no-untyped-def]
    """What an optional source gives; one that is gone or damaged gives nothing."""
    try:
        return read()
    except (MoltingError, OSError, ValueError, RecursionError):
        return None
