"""The keys of plots that show the same runs on the same axis: what is done to one is done to all."""

from __future__ import annotations

from collections.abc import Callable

from textual import on, work

from ..state.curves import default_smoothing
from ..state.live import AXES
from ..state.view import View
from ..widgets.plot import Plot
from .journey import AfterTraining

_CLOSER = 1.5
_STEP = 0.2  # of what is seen


class PlotActions(AfterTraining):
    """What is chosen here is remembered for the next time, under `live.…`."""

    @property
    def plots(self) -> list[Plot]:
        """All of them, the main one first."""
        return list(self.query(Plot))

    def use_choices(self) -> None:
        """Show the plots as they were shown last."""
        choices = self.molting.runs.view.choices
        main = self.plots[0]
        for plot in self.plots:
            plot.smoothing = _weight(choices.get("live.smoothing", ""), plot.smoothing)
            plot.axis = choices["live.axis"] if choices.get("live.axis") in AXES else plot.axis
        main.log_scale = choices.get("live.log") == "yes"

    def suit(self, steps: int) -> None:
        """Smooth as suits a run of so many steps, until the user has chosen."""
        if "live.smoothing" not in self.molting.runs.view.choices:
            for plot in self.plots:
                plot.smoothing = default_smoothing(steps)

    def remember(self, edit: Callable[[View], None]) -> None:
        """Change the view in memory now, and on disk soon."""
        edit(self.molting.runs.view)
        self._write(edit)

    @work(thread=True, group="remember", exit_on_error=False)
    def _write(self, edit: Callable[[View], None]) -> None:
        if self.molting.places.runs.is_dir():
            self.molting.store.change(edit)

    def _choose(self, name: str, value: str) -> None:
        self.remember(lambda view: view.choices.__setitem__(f"live.{name}", value))

    def align(self) -> None:
        """A wheel turned over one plot zooms all."""
        moved = next((plot for plot in self.plots if plot.window != self._window), None)
        if moved is None:
            return
        self._window = moved.window
        for plot in self.plots:
            if plot.window != self._window:
                plot.window = self._window
                plot.refresh_data()

    _window: tuple[float, float] | None = None

    @on(Plot.CursorMoved)
    def _moved(self, message: Plot.CursorMoved) -> None:
        for plot in self.plots:
            if plot is not message.plot and plot.axis == message.axis:
                plot.set_cursor(message.x, tell=False)

    def undo_plot(self) -> bool:
        """Put the cursor away, then end the zoom; False when there is neither."""
        if self.plots[0].cursor is not None:
            self.plots[0].set_cursor(None)
        elif self._window is not None:
            self.action_zoom_all()
        else:
            return False
        return True

    def action_smooth(self) -> None:
        weight = self.plots[0].cycle_smoothing()
        for plot in self.plots[1:]:
            plot.smoothing = weight
            plot.refresh_data()
        self.molting.tell(f"Smoothing {weight:g}." if weight else "No smoothing.")
        self._choose("smoothing", str(weight))

    def action_log_scale(self) -> None:
        self._choose("log", "yes" if self.plots[0].toggle_log() else "no")

    def action_x_axis(self) -> None:
        axis = self.plots[0].cycle_axis()
        for plot in self.plots[1:]:
            plot.axis, plot.window = axis, None
            plot.set_cursor(None, tell=False)
            plot.refresh_data()
        self._window = None
        self._choose("axis", axis)

    def action_zoom_in(self) -> None:
        self.plots[0].zoom(_CLOSER)
        self.align()

    def action_zoom_out(self) -> None:
        self.plots[0].zoom(1 / _CLOSER)
        self.align()

    def action_zoom_all(self) -> None:
        self.plots[0].reset()
        self.align()

    def action_pan_left(self) -> None:
        self.plots[0].pan(-_STEP)
        self.align()

    def action_pan_right(self) -> None:
        self.plots[0].pan(_STEP)
        self.align()

    def action_cursor_left(self) -> None:
        self.plots[0].move_cursor(-1)

    def action_cursor_right(self) -> None:
        self.plots[0].move_cursor(1)


def _weight(said: str, otherwise: float) -> float:
    try:
        weight = float(said)
    except ValueError:
        return otherwise
    return weight if 0 <= weight < 1 else otherwise
