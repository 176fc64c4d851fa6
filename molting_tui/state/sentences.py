"""What an event says, in one sentence for every reader. Outside text in it is as it came: the caller makes it safe."""

from __future__ import annotations

from functools import singledispatch

from engine.contract import events

from .. import text

_BEST = ", the best so far"


@singledispatch
def said(event: object) -> str:
    """The sentence; empty for what has none, such as a step."""
    return ""


@said.register
def _(start: events.Start) -> str:
    parts = [f"{text.plural(start.steps, 'step')} on {start.device}, {start.precision}"]
    if start.parameters:
        parts.append(f"{start.trainable:,} of {start.parameters:,} parameters learn")
    if start.plan.get("compiled"):
        parts.append("layers compiled")
    if start.step:
        parts.append(f"continues at step {start.step}")
    return ", ".join(parts)


@said.register
def _(rows: events.Funnel) -> str:
    if rows.stream and not rows.read:
        return "read while it trains" + (f", as {rows.format}" if rows.format else "")
    parts = [f"{rows.read:,} read" + (f" as {rows.format}" if rows.format else "")]
    parts += [f"{count:,} dropped ({why})" for why, count in rows.dropped.items() if count]
    parts += [f"{rows.heldout:,} held out", f"{rows.trained:,} trained"]
    if rows.truncated:
        parts.append(f"{rows.truncated:,} shortened")
    if rows.tokens:
        parts.append(f"{rows.tokens:,} tokens, {text.percent(rows.learned / rows.tokens)} learned")
    return ", ".join(parts)


@said.register
def _(stream: events.Stream) -> str:
    return f"{'' if stream.exact else 'about '}{stream.records:,} records in the file"


@said.register
def _(held: events.Eval) -> str:
    train = "" if held.train is None else f" (training {text.number(held.train)})"
    return f"held-out loss {text.number(held.loss)}{train} at step {held.step}{_BEST if held.best else ''}"


@said.register
def _(kept: events.Ability) -> str:
    loss = "" if kept.loss is None else f"loss {text.number(kept.loss)}, {text.number(kept.base)} before training, "
    return f"{loss}KL {text.number(kept.kl)} from the base over {text.plural(kept.prompts, 'prompt')}"


@said.register
def _(saved: events.Checkpoint) -> str:
    best = _BEST if saved.best else ""
    return f"step {saved.step} sealed ({text.size(saved.size)}, {saved.seconds:.1f} s){best}"


@said.register
def _(log: events.Log) -> str:
    return log.message


@said.register
def _(warning: events.Warn) -> str:
    return f"{warning.message} {warning.remedy}".strip()


@said.register
def _(control: events.Control) -> str:
    return f"obeyed at step {control.step}"


@said.register
def _(end: events.End) -> str:
    parts = [f"at step {end.step}", f"loss {text.number(end.last_loss)} (mean {text.number(end.mean_loss)})"]
    if end.eval_loss is not None:
        parts.append(f"held-out loss {text.number(end.eval_loss)}")
    return ", ".join([*parts, end.why] if end.why else parts)
