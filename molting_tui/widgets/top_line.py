"""The one line of header: where the user is, what is live, the GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content
from textual.widget import Widget

from engine.contract.summary import Summary

from .. import text
from ..terminal import MARKS
from ..themes import KIND

if TYPE_CHECKING:
    from ..state.gpu import Machine

_GAP = 2
_BAR = 8


class TopLine(Widget):
    """` molting · Runs      ● rhea 62/100 0:41 left      GPU0 3.1/4.0 GiB`; what has no room is left out."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._live: Content = Content()
        self._gpu: Content = Content()

    def show_title(self, title: str) -> None:
        self._set("_title", title)

    def show_live(self, live: Content) -> None:
        """What trains now, as `live_line` says it."""
        self._set("_live", live)

    def show_gpu(self, gpu: Content) -> None:
        """One GPU in a few words, at the right."""
        self._set("_gpu", gpu)

    def _set(self, name: str, value: str | Content) -> None:
        if getattr(self, name) != value:
            setattr(self, name, value)
            self.refresh()

    def render(self) -> Content:
        width = self.size.width
        left = Content.assemble(" ", ("molting", "bold $primary"), (" · ", "$muted"), (self._title, "bold"))
        right = Content(" ").join([part for part in (self._live, self._gpu) if part.plain])
        if left.cell_length + _GAP + right.cell_length + 1 > width:
            right = self._live or self._gpu
        room = width - left.cell_length - right.cell_length - 1
        if room < _GAP:
            return left
        return Content.assemble(left, " " * room, right, " ")


def gpu_line(machine: Machine) -> Content:
    """`GPU0 ▓▓▓▓▓▓▓░ 3.1/4.0 GiB` for the fullest GPU; nothing where there is none."""
    known = [gpu for gpu in machine.gpus if gpu.total and gpu.used is not None]
    if not known:
        return Content()
    gpu = max(known, key=lambda each: (each.used or 0) / (each.total or 1))
    full = round(_BAR * (gpu.used or 0) / (gpu.total or 1))
    used = (gpu.used or 0) / (1 << 30)
    total = (gpu.total or 0) / (1 << 30)
    return Content.assemble(
        (f"GPU{gpu.label} ", "$muted"),
        ("▓" * full, "$primary"),
        ("░" * (_BAR - full), "$rule"),
        f" {used:.1f}/{total:.1f} GiB",
    )


def live_line(live: list[Summary], name: str) -> Content:
    """`● rhea 62/100 0:41 left +1` for the first of the live runs, called `name`."""
    if not live:
        return Content()
    run = live[0]
    left = f"  {text.clock(run.eta)} left" if run.eta is not None else ""
    more = f"  +{len(live) - 1}" if len(live) > 1 else ""
    shown = text.fit(name, 24).rstrip() if cell_len(name) > 24 else name
    return Content.assemble(
        (MARKS[run.state][0], f"$state-{KIND[run.state]}"),
        f" {shown} {run.step}/{run.steps or '?'}",
        (left + more, "$muted"),
    )
