"""The plan of a run in numbers: how many steps, at which rate, how often each row is seen."""

from __future__ import annotations

from collections.abc import Iterator

from engine.contract.calls import Change, Finding
from engine.contract.spec import steps_per_epoch
from engine.train.plan import learning_rate

from .case import Case, change
from .words import SHOWN, several

FEW_STEPS = 60  # below this, personas in the files this was learned from had not taken
ENOUGH_STEPS = 120
FEW_ROWS, VERY_FEW_ROWS = 100, 10
MANY_REPEATS = 20.0
MOST_EPOCHS = 8.0  # what a better plan may ask for
LONG_WARMUP = 0.3
LOW_RANK = 4
MOST_TEMPERATURE, MOST_PENALTY = 1.5, 1.5


def too_few_steps(case: Case) -> Iterator[Finding]:
    plan = case.plan
    if not plan or not case.rows or plan.steps >= FEW_STEPS:
        return
    training = case.spec.training
    if case.spec.data.stream:  # its rows were not counted: the steps are what the spec says they are
        evidence = f"training.max_steps = {plan.steps}"
        remedy, fix = f"Set training.max_steps = {ENOUGH_STEPS}.", change("training.max_steps", ENOUGH_STEPS)
    else:
        evidence = (
            f"{plan.rows} rows / ({training.batch} × {training.accumulation}) rows a step, each row seen "
            f"{plan.seen:.1f} times"
        )
        remedy, fix = _more_steps(case)
    yield Finding(
        id="few-steps",
        severity="warning",
        message=f"The whole run makes only {several(plan.steps, 'optimizer step')}.",
        evidence=evidence,
        why="A persona seldom takes in so few steps: the weights hardly move.",
        remedy=remedy,
        fix=fix,
    )


def _more_steps(case: Case) -> tuple[str, list[Change]]:
    """A plan of at least ENOUGH_STEPS: smaller steps first, then more epochs, as far as repeating makes sense."""
    training, rows = case.spec.training, case.plan.rows if case.plan else len(case.rows)
    seen = min(MOST_EPOCHS, max(case.plan.seen if case.plan else 1.0, 1.0))
    wanted = max(1, int(rows * seen / ENOUGH_STEPS))  # rows a step with which the same epochs make enough steps
    batch = min(training.batch, wanted)
    accumulation = max(1, min(training.accumulation, wanted // batch))
    per_epoch = max(1, -(-rows // (batch * accumulation)))
    epochs = max(seen, min(MOST_EPOCHS, -(-ENOUGH_STEPS // per_epoch)))
    steps = round(per_epoch * epochs)
    if not rows or steps <= (case.plan.steps if case.plan else 0):
        return "Write more rows; repeating a few more often only teaches them by heart.", []
    values: dict[str, object] = {"training.batch": batch, "training.accumulation": accumulation}
    now = {"training.batch": training.batch, "training.accumulation": training.accumulation}
    changed = [Change(key=key, value=value) for key, value in values.items() if value != now[key]]
    # In a resolved spec max_steps is always given, so epochs are offered where they are not what the plan has.
    if epochs > seen or (case.plan and case.plan.seen < seen):
        changed.append(Change(key="training.epochs", value=float(f"{epochs:g}")))
    if case.plan and case.plan.capped:
        changed.append(Change(key="training.max_steps", value=0))
    told = ", ".join(f"{each.key} = {each.value}" for each in changed)
    more = "" if steps >= FEW_STEPS else " More rows would help more."
    return f"Set {told}: {steps} steps.{more}", changed


def few_rows(case: Case) -> Iterator[Finding]:
    rows = len(case.rows)
    if 0 < rows < FEW_ROWS and not case.spec.data.stream:
        yield Finding(
            id="few-rows",
            severity="warning" if rows < VERY_FEW_ROWS else "note",
            message=f"{several(rows, 'row', 'are')} little to learn from.",
            evidence=f"{rows} to train on, {case.funnel.heldout} held out",
            why="A model learns such rows by heart, or not at all; what it should do elsewhere stays open.",
            remedy="Write more rows: the same facts asked in other words, and questions beside the point.",
        )


def too_many_repeats(case: Case) -> Iterator[Finding]:
    plan = case.plan
    if plan and case.rows and plan.seen > MANY_REPEATS:
        fix = [*change("training.epochs", 5.0), *(change("training.max_steps", 0) if plan.capped else [])]
        yield Finding(
            id="many-repeats",
            severity="warning",
            message=f"Each of the {several(plan.rows, 'row')} is seen {plan.seen:.0f} times.",
            evidence=f"{plan.steps} steps of {plan.rows_per_step} rows",
            why="Beyond about ten times rows are learned by heart: the loss falls to nothing and answers get worse.",
            remedy="Set training.epochs = 5, and write more rows if that is too few steps.",
            fix=fix,
        )


def steps_are_capped(case: Case) -> Iterator[Finding]:
    """max_steps that ends a run before it has seen its rows."""
    plan = case.plan
    rows = case.estimated_rows or (plan.rows if plan else 0)
    if not plan or not rows:
        return
    share = plan.steps * plan.rows_per_step / rows
    if share >= 0.9:
        return
    about = "about " if case.estimated_rows else ""
    full = steps_per_epoch(rows, case.spec)
    yield Finding(
        id="steps-capped",
        severity="warning" if share < 0.05 else "note",
        message=f"{several(plan.steps, 'step', 'see')} only a part of the rows: "
        f"{plan.steps * plan.rows_per_step:,} of {about}{rows:,} ({_percent(share)}).",
        why="The rest is never trained on; what such a run shows holds for the rows it saw.",
        remedy=f"One pass takes {full:,} steps. A sample of the rows in a file of its own is the honest small run.",
    )


def long_warmup(case: Case) -> Iterator[Finding]:
    plan = case.plan
    if plan and plan.steps > 4 and plan.warmup_steps > LONG_WARMUP * plan.steps:
        yield Finding(
            id="long-warmup",
            severity="warning",
            message=f"The learning rate rises for {plan.warmup_steps} of {plan.steps} steps "
            f"({plan.warmup_steps / plan.steps:.0%}).",
            why="Most of the run then learns at a fraction of the rate.",
            remedy="Set training.warmup = 0.05.",
            fix=change("training.warmup", 0.05),
        )


def odd_rate(case: Case) -> Iterator[Finding]:
    if not case.plan:
        return
    rate, kind = case.plan.learning_rate, case.spec.method.kind
    fits = learning_rate(case.parameters, kind) if case.parameters else 0.0
    low, high = (1e-6, 5e-4) if kind == "full" else (5e-5, min(5e-3, 10 * fits if fits else 5e-3))
    if low <= rate <= high:
        return
    what, why = (
        ("high", "The weights are thrown about: the loss jumps or becomes nan, and the model forgets to speak.")
        if rate > high
        else ("low", "The weights hardly move, and the answers stay those of the base.")
    )
    yield Finding(
        id="odd-rate",
        severity="warning",
        message=f"A learning rate of {rate:g} is {what} for {kind}.",
        evidence=f"for {case.parameters / 1e6:,.0f}M parameters about {fits:g} fits" if fits else "",
        why=why,
        remedy='Set training.learning_rate = "auto".',
        fix=change("training.learning_rate", "auto"),
    )


def odd_rank(case: Case) -> Iterator[Finding]:
    method = case.spec.method
    if method.kind == "full":
        return
    if method.rank < LOW_RANK:
        yield Finding(
            id="low-rank",
            severity="warning",
            message=f"A LoRA rank of {method.rank} leaves little room for a persona.",
            why="Many facts and a voice do not fit into so few directions.",
            remedy="Set method.rank = 16.",
            fix=change("method.rank", 16),
        )
    ratio = float(method.alpha) / method.rank if method.alpha != "auto" else 2.0
    if not 0.25 <= ratio <= 8:
        yield Finding(
            id="odd-alpha",
            severity="warning",
            message=f"method.alpha = {float(method.alpha):g} with rank {method.rank} scales the adapter by {ratio:g}.",
            why="Usual is 1 to 2: far below, the adapter has no effect; far above, training becomes unstable.",
            remedy='Set method.alpha = "auto".',
            fix=change("method.alpha", "auto"),
        )


def targets_exist(case: Case) -> Iterator[Finding]:
    """Names in method.target_modules that no layer has. lm_head may share the weights of the embedding."""
    wanted = case.spec.method.target_modules
    if isinstance(wanted, str) or not case.modules or case.spec.method.kind == "full":
        return
    endings = {name[i:] for name in case.modules for i in (0, *(at + 1 for at, c in enumerate(name) if c == "."))}
    missing = [name for name in wanted if name not in endings and name != "lm_head"]
    if missing:
        known = sorted({name.rpartition(".")[2] for name in case.modules if name.endswith("_proj")})
        nothing = len(missing) == len(wanted)
        yield Finding(
            id="target-missing",
            severity="error" if nothing else "warning",
            message=f"No layer of this model is called {' or '.join(missing[:SHOWN])} (method.target_modules).",
            evidence=f"among its layers are {', '.join(known)}" if known else "",
            why="There is nothing to train." if nothing else "Only the other layers get an adapter, without a word.",
            remedy='Set method.target_modules = "all-linear".',
            fix=change("method.target_modules", "all-linear"),
        )


def nothing_watches(case: Case) -> Iterator[Finding]:
    training = case.spec.training
    if case.heldout or not case.rows:
        return
    if training.keep_best or training.early_stopping:
        key = "keep_best" if training.keep_best else "early_stopping"
        yield Finding(
            id="blind-stopping",
            severity="warning",
            message=f"training.{key} looks at held-out rows, and there are none.",
            why="Without them no evaluation is better than another, so it has no effect.",
            remedy="Give data.heldout, or data.heldout_fraction above 0.",
            fix=change("data.heldout_fraction", 0.1) if case.spec.data.heldout_fraction == 0 else [],
        )
    yield Finding(
        id="no-heldout",
        severity="note",
        message="No rows are held out, so over-fitting cannot be seen.",
        remedy="Give a data.heldout file; a share is only taken from 10 rows on.",
    )


def answers_hit_the_cap(case: Case) -> Iterator[Finding]:
    """The generation cap against the answers that are taught."""
    cap = case.spec.generation.max_new_tokens
    lengths = [span.end - span.start for row in case.rows for span in row.spans if span.learned and case.chats]
    longer = sum(length > cap for length in lengths)
    if longer > 0.02 * len(lengths):
        longest = -(-max(lengths) // 16) * 16
        yield Finding(
            id="short-cap",
            severity="note",
            message=f"{longer:,} of {len(lengths):,} taught answers are longer than generation.max_new_tokens = {cap}.",
            evidence=f"the longest has {max(lengths):,} tokens",
            why="Answers as long as those taught would be cut, which looks as if the model could not stop.",
            remedy=f"Set generation.max_new_tokens = {min(longest, 1024)}.",
            fix=change("generation.max_new_tokens", min(longest, 1024)),
        )


def wild_answers(case: Case) -> Iterator[Finding]:
    """Sampling that drowns whatever was learned."""
    asked, usual = case.spec.generation, "0 to 1"
    key, value = "temperature", asked.temperature
    if asked.repetition_penalty > MOST_PENALTY or asked.repetition_penalty < 1:
        key, value, usual = "repetition_penalty", asked.repetition_penalty, "1 to 1.3"
    elif value <= MOST_TEMPERATURE:
        return
    best = 1.0 if key == "repetition_penalty" else 0.0
    yield Finding(
        id="wild-answers",
        severity="warning",
        message=f"Answers with generation.{key} = {value:g} fall apart, however well the run went; usual is {usual}.",
        why="Samples and answers of the run would show the sampling and not the training.",
        remedy=f"Set generation.{key} = {best:g}.",
        fix=change(f"generation.{key}", best),
    )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{100 * share:.2g} %"


CHECKS = (
    too_few_steps,
    few_rows,
    too_many_repeats,
    steps_are_capped,
    long_warmup,
    odd_rate,
    odd_rank,
    targets_exist,
    nothing_watches,
    answers_hit_the_cap,
    wild_answers,
)
