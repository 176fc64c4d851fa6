"""The plot of a run's curves: zoom, pan, smoothing, a cursor that reads values; a million points at no delay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from .. import text
from ..state.curves import SMOOTHING, Curve, Drawing
from ..state.live import AXES
from ..state.series import Column, Series
from . import plot_scale
from .heading import retitle
from .plot_render import ASCII_SIGNS, SIGNS, Layer, Layout, Row, View, render

_COLOURS = len(SIGNS)
# kind -> sign, in ASCII, style, importance where two fall on one cell
_MARKS = {
    "sample": ("·", ".", "axis", 0),
    "checkpoint": ("╎", ":", "marker", 1),
    "gap": ("×", "x", "warn", 2),
    "warn": ("!", "!", "warn", 3),
    "attempt": ("▸", ">", "marker", 4),
    "rewind": ("«", "<", "warn", 5),
}
_LEAST_SPAN = 1e-9  # of the whole axis: zooming ends before numbers cannot be told apart


class Plot(Widget, can_focus=True):
    """Give it a Drawing with `show`; every call of `refresh_data` paints the rows that changed.

    It is told what to do by method (`zoom`, `pan`, `move_cursor` …), so that the screen's keys decide, and by
    wheel and click. x is fixed to the end of the axis unless it is zoomed.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *(f"plot--curve-{colour}" for colour in range(_COLOURS)),
        *(f"plot--raw-{colour}" for colour in range(_COLOURS)),
        *(f"plot--{name}" for name in ("axis", "marker", "warn", "cursor", "readout", "eval", "rewound")),
    }
    DEFAULT_CSS = """
    Plot {
        width: 1fr; height: 1fr;
        .plot--axis, .plot--marker { color: $secondary; }
        .plot--warn { color: $warning; text-style: bold; }
        .plot--cursor { color: $secondary; }
        .plot--rewound { color: $secondary; text-style: dim; }
        .plot--readout { color: $foreground; text-style: bold; }
        .plot--eval { color: $accent; text-style: bold; }
        .plot--curve-0 { color: $primary; } .plot--raw-0 { color: $primary; text-style: dim; }
        .plot--curve-1 { color: $accent; } .plot--raw-1 { color: $accent; text-style: dim; }
        .plot--curve-2 { color: $success; } .plot--raw-2 { color: $success; text-style: dim; }
        .plot--curve-3 { color: $warning; } .plot--raw-3 { color: $warning; text-style: dim; }
        .plot--curve-4 { color: $error; } .plot--raw-4 { color: $error; text-style: dim; }
        .plot--curve-5 { color: $secondary; } .plot--raw-5 { color: $secondary; text-style: dim; }
    }
    """

    class CursorMoved(Message):
        """The cursor stands at `x` on `axis` (None: it was put away); `values` by the name of the curve."""

        def __init__(self, plot: Plot, axis: str, x: float | None, values: dict[str, float]) -> None:
            super().__init__()
            self.plot, self.axis, self.x, self.values = plot, axis, x, values

        @property
        def control(self) -> Plot:
            return self.plot

    def __init__(
        self, *, ascii: bool = False, empty: str = "No steps yet.", id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.ascii = ascii
        self.empty = empty
        self.drawing = Drawing()
        self.axis = AXES[0]
        self.log_scale = False
        self.smoothing = 0.9
        self.cursor: float | None = None
        self.window: tuple[float, float] | None = None  # what is zoomed to; None: all
        self._rows: list[Row] = []
        self._painted: dict[str, Style] = {}

    # What is shown

    def show(self, drawing: Drawing) -> None:
        """Show this from the next repaint on; zoom and cursor stay. Cheap: call it whenever curves come or go."""
        self.drawing = drawing
        retitle(self, drawing.title)

    def refresh_data(self) -> None:
        """Work the curves out anew and repaint the rows that differ."""
        width, height = self.size
        if not self.is_attached or not width or not height:
            return
        rows = render(self._view(width, height))
        changed = [y for y, row in enumerate(rows) if y >= len(self._rows) or row != self._rows[y]]
        whole = len(rows) != len(self._rows)
        self._rows = rows
        if whole:
            self.refresh()
        elif changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def render_line(self, y: int) -> Strip:
        if y >= len(self._rows):
            return Strip.blank(self.size.width, self.rich_style)
        segments = [Segment(text, self._style(style)) for text, style in self._rows[y]]
        return Strip(segments, sum(len(text) for text, _ in self._rows[y])).adjust_cell_length(self.size.width)

    # What it is told

    def zoom(self, factor: float, at: float | None = None) -> None:
        """Show 1/`factor` of what is seen, around `at`, the cursor or the middle. All there is ends the zoom."""
        x0, x1 = self.seen()
        whole = self._whole()
        pivot = next((x for x in (at, self.cursor) if x is not None and x0 <= x <= x1), (x0 + x1) / 2)
        span = (x1 - x0) / factor
        if span >= whole:
            self.window = None
        elif span > max(_LEAST_SPAN * whole, 1.0 if self.axis == "step" else 0.0):
            begin = pivot - (pivot - x0) / factor
            self.window = self._within(begin, span)
        self.refresh_data()

    def pan(self, share: float) -> None:
        """Move what is seen by `share` of its width; to the right where it is positive."""
        x0, x1 = self.seen()
        if self.window:
            self.window = self._within(x0 + share * (x1 - x0), x1 - x0)
            self.refresh_data()

    def reset(self) -> None:
        """Show everything."""
        self.window = None
        self.refresh_data()

    def move_cursor(self, cells: int) -> None:
        """Move the cursor by cells, or by points where these are further apart. The first time it is put at the end."""
        x0, x1 = self.seen()
        lead = self._lead()
        if self.cursor is None or not x0 <= self.cursor <= x1:
            last = lead.at(x1) if lead else None
            self.set_cursor(last.x if last else x1)
            return
        target = self.cursor + cells * (x1 - x0) / max(1, self._layout().width)
        point = lead.at(target) if lead else None
        if lead and point and point.x == self.cursor:
            point = (lead.after(self.cursor) if cells > 0 else lead.before(self.cursor)) or point
        self.set_cursor(min(x1, max(x0, point.x if point else target)))

    def set_cursor(self, x: float | None, *, tell: bool = True) -> None:
        """Put the cursor at x on the axis shown, or away. `tell`: let other panes know."""
        if x == self.cursor:
            return
        self.cursor = x
        self.refresh_data()
        if tell:
            values = {} if x is None else dict(self._read(x))
            self.post_message(self.CursorMoved(self, self.axis, x, values))

    def cycle_smoothing(self) -> float:
        """The next weight of the past, which is returned; 0 is none."""
        place = SMOOTHING.index(self.smoothing) if self.smoothing in SMOOTHING else -1
        self.smoothing = SMOOTHING[(place + 1) % len(SMOOTHING)]
        self.refresh_data()
        return self.smoothing

    def toggle_log(self) -> bool:
        """Logarithmic y, or linear again; whether it is logarithmic now."""
        self.log_scale = not self.log_scale
        self.refresh_data()
        return self.log_scale

    def cycle_axis(self) -> str:
        """The next x axis, which is returned; zoom and cursor do not carry over."""
        self.axis = AXES[(AXES.index(self.axis) + 1) % len(AXES)]
        self.window = None
        self.set_cursor(None)
        self.refresh_data()
        return self.axis

    def seen(self) -> tuple[float, float]:
        """The part of the axis that is shown."""
        return self.window or (0.0, self._whole())

    # Events

    def on_resize(self) -> None:
        self.refresh_data()

    def notify_style_update(self) -> None:
        self._painted.clear()
        super().notify_style_update()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._wheel(event, 1.25)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._wheel(event, 0.8)

    def on_click(self, event: events.Click) -> None:
        point = lead.at(self._x_at(event.x)) if (lead := self._lead()) else None
        if point:
            self.set_cursor(point.x)

    def _wheel(self, event: events.MouseEvent, factor: float) -> None:
        event.stop()
        if event.shift or event.ctrl:
            self.pan(0.1 if factor > 1 else -0.1)
        else:
            self.zoom(factor, self._x_at(event.x))

    # How it is worked out

    def _view(self, width: int, height: int) -> View:
        x0, x1 = self.seen()
        layout = Layout.of(width, height)
        dot_columns, _ = layout.dots(self.ascii)
        many = len({curve.colour for curve in self.drawing.curves}) > 1
        layers = [layer for curve in self.drawing.curves for layer in self._layers(curve, x0, x1, dot_columns, many)]
        # What is dim lies below what is bright, and points on top, whichever run they are of.
        layers.sort(key=lambda layer: (layer.points, not layer.style.startswith(("raw", "rewound"))))
        bounds = self._bounds(layers)
        log = self.log_scale and bounds is not None and bounds[1] > 0
        scale = plot_scale.fitted(*bounds, layout.height, log) if bounds else plot_scale.Scale(0.0, 1.0)
        if not any(len(curve.table) for curve in self.drawing.curves):
            return View(width, height, x0, x1, empty=self.empty)
        return View(
            width,
            height,
            x0,
            x1,
            axis=self.axis,
            layers=[_positive(layer) for layer in layers] if scale.log else layers,
            scale=scale,
            ascii=self.ascii,
            marks=self._marks(layers, x0, x1),
            cursor=self.cursor,
            readout=self._readout(),
            legend=self._legend() if many else (),
        )

    def _layers(self, curve: Curve, x0: float, x1: float, columns: int, many: bool) -> list[Layer]:
        colour = curve.colour % _COLOURS
        sign = SIGNS[colour]
        if curve.kind == "points":
            style = f"curve-{colour}" if many else "eval"
            found = curve.series(self.axis).window(x0, x1, columns)
            return [Layer(found, style, "o" if self.ascii else "◆", points=True)]
        smooth = self.smoothing if curve.smooth else 0.0
        raw = curve.series(self.axis)
        dim = bool(smooth) or curve.rewound
        letter = ASCII_SIGNS[colour]
        style = "rewound" if curve.rewound else f"raw-{colour}" if smooth else f"curve-{colour}"
        layers = [self._line(raw, x0, x1, columns, style, "." if dim else letter)]
        if smooth:
            even = curve.series(self.axis, smooth)
            layers.append(self._line(even, x0, x1, columns, f"curve-{colour}", letter))
        if many and not curve.rewound:
            top = layers.pop()
            layers.append(
                Layer(top.columns, top.style, letter if self.ascii else sign, False, True, top.before, top.after)
            )
        return layers

    def _line(self, series: Series, x0: float, x1: float, columns: int, style: str, sign: str) -> Layer:
        found = series.window(x0, x1, columns)
        return Layer(found, style, sign, before=series.before(x0), after=series.after(x1))

    def _bounds(self, layers: Sequence[Layer]) -> tuple[float, float] | None:
        """Of what is seen; on a logarithmic scale of what is positive."""
        columns = [column for layer in layers for column in layer.columns if column and column.low == column.low]
        if not columns:
            return None
        low, high = min(column.low for column in columns), max(column.high for column in columns)
        if self.log_scale and high > 0 >= low:
            low = min(column.low if column.low > 0 else column.high for column in columns if column.high > 0)
        return low, high

    def _marks(self, layers: Sequence[Layer], x0: float, x1: float) -> list[tuple[float, str, str]]:
        found = []
        for marker in self.drawing.markers:
            x = getattr(marker, self.axis)
            if x0 <= x <= x1 and marker.kind in _MARKS:
                sign, letter, style, importance = _MARKS[marker.kind]
                found.append((importance, x, letter if self.ascii else sign, "axis" if marker.rewound else style))
        sign, letter, style, importance = _MARKS["gap"]
        for layer in layers:
            step = (x1 - x0) / max(1, len(layer.columns))
            for place, column in enumerate(layer.columns):
                if column and column.gap:
                    x = x0 + (place + 0.5) * step
                    found.append((importance, x, letter if self.ascii else sign, style))
        return [(x, sign, style) for _, x, sign, style in sorted(found)]

    def _legend(self) -> list[tuple[str, str]]:
        signs = ASCII_SIGNS if self.ascii else SIGNS
        shown = [each for each in self.drawing.curves if each.kind == "line" and not each.rewound]
        return [
            (f"{signs[each.colour % _COLOURS]} {_narrow(each.name)[:20]}", f"curve-{each.colour % _COLOURS}")
            for each in sorted(shown, key=lambda each: each.colour)
        ]

    def _readout(self) -> str:
        if self.cursor is None:
            return ""
        place = text.clock(self.cursor) if self.axis == "time" else f"{self.cursor:,.0f}"
        return "  ".join([place, *(f"{_narrow(name)} {value:.5g}" for name, value in self._read(self.cursor))])

    def _read(self, x: float) -> list[tuple[str, float]]:
        """The value of every curve nearest to x; NaN at a gap."""
        found = []
        for curve in self.drawing.curves:
            if curve.rewound:
                continue
            point = curve.series(self.axis).at(x)
            if point:
                found.append((curve.name, point.y))
            if point and curve.smooth and self.smoothing:
                even = curve.series(self.axis, self.smoothing).at(x)
                found.append((f"{curve.name} avg", even.y if even else math.nan))
        return found

    def _lead(self) -> Series | None:
        """The curve whose points the cursor stands on."""
        lines = [each for each in self.drawing.curves if each.kind == "line" and not each.rewound and len(each.table)]
        return lines[-1].series(self.axis) if lines else None

    def _whole(self) -> float:
        last = max((axis[-1] for each in self.drawing.curves if (axis := each.table.axes[self.axis])), default=0.0)
        return max(self.drawing.ends.get(self.axis, 0.0), last) or 1.0

    def _within(self, begin: float, span: float) -> tuple[float, float]:
        begin = min(max(0.0, begin), self._whole() - span)
        return begin, begin + span

    def _layout(self) -> Layout:
        return Layout.of(*self.size)

    def _x_at(self, column: int) -> float:
        x0, x1 = self.seen()
        layout = self._layout()
        return x0 + (column - self.gutter.left - layout.left + 0.5) / layout.width * (x1 - x0)

    def _style(self, name: str) -> Style:
        if name not in self._painted:
            self._painted[name] = self.get_component_rich_style(f"plot--{name}") if name else self.rich_style
        return self._painted[name]


def _positive(layer: Layer) -> Layer:
    """Without what a logarithmic scale cannot show."""
    columns: list[Column | None] = [
        column if column is None or column.low > 0 or column.low != column.low else _above_zero(column)
        for column in layer.columns
    ]
    ends = (each if each and each.y > 0 else None for each in (layer.before, layer.after))
    return Layer(columns, layer.style, layer.sign, layer.points, layer.signed, *ends)


def _above_zero(column: Column) -> Column:
    if column.high <= 0:
        return Column(math.nan, math.nan, math.nan, math.nan, True)
    high = column.high
    first = column.first if column.first > 0 else high
    return Column(min(first, high), high, first, column.last if column.last > 0 else high, column.gap)


def _narrow(name: str) -> str:
    """A name in which every character takes one cell."""
    return "".join(character if cell_len(character) == 1 else "?" for character in name)
