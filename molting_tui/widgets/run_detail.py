"""The pane beside the table: one run in a few lines."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from engine.contract import lifecycle, sweeps
from engine.contract.safe import safe
from engine.contract.summary import Summary

from .. import text
from ..state import spark
from ..state.glance import Glance
from ..state.run_list import age
from ..terminal import MARKS
from ..themes import KIND
from .run_table import base_name, loss, steps

_CURVE_ROWS = 5
_ANSWER = 400  # characters
_DIFFERENCES = 600  # characters


class RunDetail(Widget):
    """Shows what it is given; asks for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[Summary | None, str, Glance | None] = (None, "", None)

    def show(self, run: Summary | None, name: str, glance: Glance | None) -> None:
        """Show `run` under `name`; `glance` is None until its log was read."""
        if self._shown != (run, name, glance):
            self._shown = (run, name, glance)
            self.refresh(layout=True)  # it is as high as what it says

    def render(self) -> Content:
        run, name, glance = self._shown
        if run is None:
            return Content()
        width = max(10, self.content_size.width)
        lines = [
            *_head(run, name),
            *_family(run, glance),
            Content(),
            *_curve(glance, width),
            *_numbers(run, glance, width),
            *_trouble(run, glance),
        ]
        lines += [Content(), *_sample(glance), *_where(run)]
        return Content("\n").join(lines)


def _head(run: Summary, name: str) -> list[Content]:
    mark = (f"{MARKS[run.state][0]} {run.state}", f"$state-{KIND[run.state]}")
    reason = f" ({run.reason})" if run.reason else ""
    job = f" {run.job.word}" if run.job and run.job.running and run.live else ""
    attempt = f"  attempt {run.attempt}" if run.attempt > 1 else ""
    return [
        Content.assemble(
            (name, "bold"), "  ", mark, reason, (safe(job, keep_newlines=False), "$muted"), (attempt, "$muted")
        ),
        Content.assemble((" · ".join(part for part in (base_name(run), run.method) if part), "$muted")),
    ]


def _family(run: Summary, glance: Glance | None) -> list[Content]:
    """Where the run comes from, and what it has of its own."""
    lines = []
    if run.parent:
        lines.append(Content.assemble(("child of ", "$muted"), safe(run.parent, keep_newlines=False)))
    if glance and glance.differs:
        lines.append(Content.assemble(("differs in ", "$muted"), "; ".join(glance.differs)[:_DIFFERENCES]))
    elif glance and glance.differs == []:
        lines.append(Content.assemble(("its spec is the same", "$muted")))
    if run.sweep:
        own = f": {sweeps.label(run.changes)}"[:_DIFFERENCES]
        lines.append(Content.assemble(("sweep ", "$muted"), safe(run.sweep, keep_newlines=False), own))
    return lines


def _curve(glance: Glance | None, width: int) -> list[Content]:
    if glance is None or not glance.losses:
        return []
    known = [value for value in glance.losses if value is not None]
    span = f"between {text.number(min(known))} and {text.number(max(known))}" if known else "never finite"
    title = f"loss, last {text.plural(len(glance.losses), 'step')}, {span}"
    rows = spark.braille(glance.losses, width, _CURVE_ROWS)
    return [Content.assemble((title, "$muted")), *(Content.assemble((row, "$accent")) for row in rows)]


def _numbers(run: Summary, glance: Glance | None, width: int) -> list[Content]:
    pairs = [
        ("step", steps(run) + _seen(run)),
        ("loss", loss(run)),
        ("eval", text.number(run.eval_loss)),
        ("score", text.number(run.score) if run.score is not None else ""),
        ("grad", text.number(glance.grad_norm) if glance else ""),
        ("lr", f"{glance.lr:.2g}" if glance and glance.lr is not None else ""),
        ("tok/s", text.number(glance.rate) if glance else ""),
        ("age", text.age(age(run))),
        ("left", text.clock(run.eta) if run.eta is not None else ""),
        ("saved at", str(run.checkpoint) if run.checkpoint is not None else ""),
    ]
    said = [Content.assemble((f"{name} ", "$muted"), value) for name, value in pairs if value not in ("", text.DASH)]
    phase = []
    # That it trains is told by the state and the steps.
    if run.state in lifecycle.LIVE and glance and glance.phase and glance.phase.name != "training":
        done = f" {text.percent(glance.phase.done / glance.phase.total)}" if glance.phase.total else ""
        phase = [Content.assemble(("now ", "$muted"), safe(glance.phase.name, keep_newlines=False) + done)]
    return [*_flowing(said, width), *phase]


def _flowing(parts: list[Content], width: int) -> list[Content]:
    """Parts side by side in lines of `width` cells, none of them broken."""
    lines: list[Content] = []
    for part in parts:
        if lines and lines[-1].cell_length + 3 + part.cell_length <= width:
            lines[-1] = Content("   ").join([lines[-1], part])
        else:
            lines.append(part)
    return lines


def _trouble(run: Summary, glance: Glance | None) -> list[Content]:
    lines: list[Content] = []
    if run.why:
        style = "$error" if KIND[run.state] == "bad" else "$muted"
        lines.append(Content.assemble(("why ", "$muted"), (safe(run.why)[:600], style)))
    if run.remedy:
        lines.append(Content.assemble(("try ", "$muted"), safe(run.remedy)[:600]))
    if run.state in {"interrupted", "failed", "lost"}:
        lines.append(Content.assemble(("r ", "bold $primary"), (_resume(run), "$muted")))
    if run.problem:
        lines.append(Content.assemble(("! ", "$warning"), safe(run.problem)[:600]))
    warnings = glance.warnings if glance else []
    for warning in warnings[-2:]:
        said = safe(f"{warning.message} {warning.remedy}", keep_newlines=False).strip()
        lines.append(Content.assemble(("warning ", "$warning"), said[:400]))
    return [Content(), *lines] if lines else []


def _seen(run: Summary) -> str:
    """How much of a stream was learned from."""
    return "" if run.seen is None else f"  {text.fine_percent(run.seen)} of {run.records:,} records seen"


def _resume(run: Summary) -> str:
    return f"continues it from step {run.checkpoint}" if run.resumable else "starts it again from step 0"


def _sample(glance: Glance | None) -> list[Content]:
    if glance is None or glance.sample is None:
        return []
    sample = glance.sample
    cut = "" if sample.stop == "end" else " (cut)"
    return [
        Content.assemble(("sample at step ", "$muted"), (str(sample.step), "$muted")),
        Content.assemble(("Q ", "$muted"), safe(sample.question, keep_newlines=False)[:_ANSWER]),
        Content.assemble(("A ", "bold $accent"), safe(sample.answer)[:_ANSWER], (cut, "$muted")),
        Content(),
    ]


def _where(run: Summary) -> list[Content]:
    return [Content.assemble((safe(run.path, keep_newlines=False), "$muted"))]
