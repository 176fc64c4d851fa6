"""Turns curves into rows of characters, in braille dots or in ASCII. Pure; styles are names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from ..state.series import Column, Point
from . import plot_scale
from .plot_scale import Scale

Row = list[tuple[str, str]]  # (text, name of a style); "" is plain

_LEFT = (0x01, 0x02, 0x04, 0x40)  # dots of a braille cell from the top
_RIGHT = (0x08, 0x10, 0x20, 0x80)
_BIT = (8, 4, 2, 1)
# Two hex digits, one for each dot column with the top dot first, to the braille character.
_BRAILLE = {
    f"{left:x}{right:x}": chr(
        0x2800
        + sum(dot for dot, bit in zip(_LEFT, _BIT, strict=True) if left & bit)
        + sum(dot for dot, bit in zip(_RIGHT, _BIT, strict=True) if right & bit)
    )
    for left in range(16)
    for right in range(16)
}
_BRAILLE["00"] = " "
SIGNS = "●▲■◆▼★"  # of overlaid curves, by their colour
ASCII_SIGNS = "*+x#%&"


@dataclass(frozen=True)
class Layer:
    """One curve in one window: `columns` as Series.window gives them, one for each column of dots."""

    columns: Sequence[Column | None]
    style: str
    sign: str  # stands for it in ASCII, and on the curve where `signed`
    points: bool = False  # a sign at each point instead of a line
    signed: bool = False
    before: Point | None = None  # the neighbours outside, to which the line goes on
    after: Point | None = None


@dataclass(frozen=True)
class View:
    """Everything needed to paint. `marks` are (x, sign, style), the most important last."""

    width: int
    height: int
    x0: float
    x1: float
    axis: str = "step"
    layers: Sequence[Layer] = ()
    scale: Scale = field(default_factory=lambda: Scale(0.0, 1.0))
    ascii: bool = False
    marks: Sequence[tuple[float, str, str]] = ()
    cursor: float | None = None
    readout: str = ""
    legend: Sequence[tuple[str, str]] = ()  # (text, style)
    empty: str = ""  # shown instead of curves


@dataclass(frozen=True)
class Layout:
    """How the cells are shared out: labels left, plot, a row of marks, the x axis."""

    left: int
    width: int
    height: int
    marks: bool
    axis: bool

    @classmethod
    def of(cls, width: int, height: int) -> Layout:
        """Small plots lose the row of marks first, then labels, then the axis."""
        left = 7 if width >= 30 else 0
        axis, marks = height >= 4, height >= 7
        return cls(left, max(1, width - left), max(1, height - axis - marks), marks, axis)

    def dots(self, ascii: bool) -> tuple[int, int]:
        """Columns and rows of dots."""
        return (self.width, self.height) if ascii else (self.width * 2, self.height * 4)

    def cell(self, x: float, view: View) -> int:
        """The cell column of x within the plot; may lie outside."""
        return int((x - view.x0) / (view.x1 - view.x0) * self.width - (x == view.x1))


class _Canvas:
    """Characters and the names of their styles, row by row."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.characters = [[" "] * width for _ in range(height)]
        self.styles = [[""] * width for _ in range(height)]

    def put(self, column: int, row: int, character: str, style: str) -> None:
        if 0 <= column < self.width and 0 <= row < self.height:
            self.characters[row][column] = character
            self.styles[row][column] = style

    def write(self, column: int, row: int, text: str, style: str) -> None:
        for offset, character in enumerate(text):
            self.put(column + offset, row, character, style)

    def row(self, row: int) -> Row:
        found, begin = [], 0
        text = "".join(self.characters[row])
        for style, group in groupby(self.styles[row]):
            end = begin + sum(1 for _ in group)
            found.append((text[begin:end], style))
            begin = end
        return found


def render(view: View) -> list[Row]:
    """`view.height` rows, each of `view.width` cells."""
    if view.width < 1 or view.height < 1:
        return []
    layout = Layout.of(view.width, view.height)
    canvas = _Canvas(view.width, view.height)
    if view.empty:
        text = view.empty[: view.width]
        canvas.write((view.width - len(text)) // 2, view.height // 2, text, "axis")
        return [canvas.row(row) for row in range(view.height)]
    if layout.left:
        for row, label in plot_scale.y_ticks(view.scale, layout.height).items():
            if len(label) < layout.left:  # a label cut short would be another number
                canvas.write(0, row, label.rjust(layout.left - 1), "axis")
    _draw_cursor(canvas, layout, view)
    for index, layer in enumerate(view.layers):
        _draw_layer(canvas, layout, view, layer, index)
    _draw_legend(canvas, view)
    if layout.marks:
        for x, sign, style in view.marks:
            if view.x0 <= x <= view.x1:
                canvas.put(layout.left + layout.cell(x, view), layout.height, sign, style)
    if layout.axis:
        _draw_axis(canvas, layout, view)
    return [canvas.row(row) for row in range(view.height)]


def _draw_layer(canvas: _Canvas, layout: Layout, view: View, layer: Layer, index: int) -> None:
    dot_columns, dot_rows = layout.dots(view.ascii)
    if not layer.points:
        masks = trace(layer, view, view.scale.rows(dot_rows), dot_columns, dot_rows)
        cells = _in_ascii(masks, layout.height, layer.sign) if view.ascii else _in_braille(masks, layout.height)
        for column, text in enumerate(cells, layout.left):
            if text.isspace():
                continue
            for row, character in enumerate(text):
                if character != " ":
                    canvas.characters[row][column] = character
                    canvas.styles[row][column] = layer.style
    if layer.points or layer.signed:
        _draw_signs(canvas, layout, view, layer, index)


def _draw_signs(canvas: _Canvas, layout: Layout, view: View, layer: Layer, index: int) -> None:
    """A sign at every point, or now and then on a curve, at other places than on the curves below it."""
    row_of = view.scale.rows(layout.height)
    per_cell = 1 if view.ascii else 2
    every = 1 if layer.points else max(8, layout.width // 4)
    due = 0 if layer.points else index * 5 % every
    for place, column in enumerate(layer.columns):
        cell = place // per_cell
        if cell < due or column is None or column.last != column.last:
            continue
        canvas.put(layout.left + cell, row_of(column.last), layer.sign, layer.style)
        due = cell + every


def trace(layer: Layer, view: View, row_of: Callable[[float], int], columns: int, height: int) -> list[int]:
    """For each column of dots an integer whose bits are the dots, the highest bit at the top."""
    masks = [0] * columns
    per_x = columns / (view.x1 - view.x0)
    previous: tuple[float, int] | None = None
    if layer.before and layer.before.y == layer.before.y:
        previous = ((layer.before.x - view.x0) * per_x, row_of(layer.before.y))
    for place, column in enumerate(layer.columns):
        if column is None:
            continue
        low, high, first, last, _ = column
        if low != low:
            previous = None
            continue
        if previous:
            _join(masks, height, previous, (place, row_of(first)))
        masks[place] |= _span(row_of(high), row_of(low), height)
        previous = (place, row_of(last))
    if previous and layer.after and layer.after.y == layer.after.y:
        _join(masks, height, previous, ((layer.after.x - view.x0) * per_x, row_of(layer.after.y)))
    return masks


def _span(top: int, bottom: int, height: int) -> int:
    return ((1 << (bottom - top + 1)) - 1) << (height - 1 - bottom)


def _join(masks: list[int], height: int, start: tuple[float, int], end: tuple[float, int]) -> None:
    """A line of dots between two, of which one or both may lie outside."""
    (x0, y0), (x1, y1) = start, end
    slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 0.0
    first = max(0, int(x0))
    row = round(y0 + (first - x0) * slope)
    for column in range(first, min(len(masks) - 1, int(x1)) + 1):
        until = round(y0 + (column - x0) * slope)
        # A steep line has no holes, and a gentle one is one dot thick.
        begin = row + (until > row) - (until < row)
        masks[column] |= _span(min(begin, until), max(begin, until), height)
        row = until


def _in_braille(masks: Sequence[int], height: int) -> Iterable[str]:
    digits = [f"{mask:0{height}x}" for mask in masks]
    for left, right in zip(digits[::2], digits[1::2], strict=True):
        yield "".join(map(_BRAILLE.__getitem__, map("".join, zip(left, right, strict=True))))


def _in_ascii(masks: Sequence[int], height: int, sign: str) -> Iterable[str]:
    table = str.maketrans("01", f" {sign}")
    return (f"{mask:0{height}b}".translate(table) for mask in masks)


def _draw_cursor(canvas: _Canvas, layout: Layout, view: View) -> None:
    if view.cursor is None or not view.x0 <= view.cursor <= view.x1:
        return
    for row in range(layout.height):
        canvas.put(layout.left + layout.cell(view.cursor, view), row, "|" if view.ascii else "│", "cursor")


def _draw_legend(canvas: _Canvas, view: View) -> None:
    """At the top right, where a loss that falls leaves room."""
    column = view.width
    for text, style in reversed(view.legend):
        column -= len(text) + 2
        if column > view.width // 3:
            canvas.write(column, 0, f" {text} ", style)


def _draw_axis(canvas: _Canvas, layout: Layout, view: View) -> None:
    """The rule, labels that keep apart, and over them what the cursor reads."""
    row = view.height - 1
    canvas.write(layout.left, row, ("-" if view.ascii else "─") * layout.width, "axis")
    text, ends = "", view.width
    begins = ends
    if view.cursor is not None and view.readout:
        text = f" {view.readout} "[: view.width]
        begins = max(0, min(layout.left + layout.cell(view.cursor, view) + 1, view.width - len(text)))
        ends = begins + len(text)
    taken = -1
    for x, label in plot_scale.x_ticks(view.x0, view.x1, layout.width, view.axis):
        middle = layout.left + layout.cell(x, view)
        begin = min(max(layout.left, middle - len(label) // 2), view.width - len(label))
        covered = begin < ends and begins < begin + len(label)  # half a label would read as another number
        if begin > taken and not covered:
            canvas.write(begin, row, label, "axis")
            taken = begin + len(label)
    canvas.write(begins, row, text, "readout")
