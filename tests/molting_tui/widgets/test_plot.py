"""The plot as people use it: keys, wheel and click, from tiny to huge, whatever the values."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region

from engine.contract import events
from molting_tui.state.curves import Drawing, drawing, overlaid
from molting_tui.state.live import LiveRun
from molting_tui.widgets.plot import Plot
from tests.support.live_runs import metric, start, trained


class Bench(App[None]):
    """A plot and keys for it."""

    BINDINGS = [
        ("plus", "zoom(2)"),
        ("minus", "zoom(0.5)"),
        ("left", "move(-1)"),
        ("right", "move(1)"),
        ("l", "log"),
        ("s", "smooth"),
        ("x", "axis"),
        ("0", "reset"),
    ]

    def __init__(self, shown: Drawing, ascii: bool = False) -> None:
        super().__init__()
        self.shown = shown
        self.plot = Plot(ascii=ascii)
        self.heard: list[Plot.CursorMoved] = []

    def compose(self) -> ComposeResult:
        yield self.plot

    def on_mount(self) -> None:
        self.plot.show(self.shown)

    def on_plot_cursor_moved(self, message: Plot.CursorMoved) -> None:
        self.heard.append(message)

    def action_zoom(self, factor: float) -> None:
        self.plot.zoom(factor)

    def action_move(self, cells: int) -> None:
        self.plot.move_cursor(cells)

    def action_log(self) -> None:
        self.plot.toggle_log()

    def action_smooth(self) -> None:
        self.plot.cycle_smoothing()

    def action_axis(self) -> None:
        self.plot.cycle_axis()

    def action_reset(self) -> None:
        self.plot.reset()

    def lines(self) -> list[str]:
        """What is painted, through Textual."""
        width, height = self.plot.size
        strips = self.plot.render_lines(Region(0, 0, width, height))
        return ["".join(segment.text for segment in strip) for strip in strips]


def shows(shown: Drawing, size: tuple[int, int] = (80, 20), ascii: bool = False) -> Callable[[Callable], None]:
    """Run a test with the plot on a screen of that size."""

    def decorator(check: Callable[[Bench, object], Awaitable[None]]) -> None:
        async def run() -> None:
            app = Bench(shown, ascii)
            async with app.run_test(size=size) as pilot:
                app.plot.refresh_data()
                await pilot.pause()
                await check(app, pilot)

        asyncio.run(run())

    return decorator


def test_loss_average_evaluations_and_marks_are_seen() -> None:
    @shows(drawing(trained(60)))
    async def check(app: Bench, pilot: object) -> None:
        lines = app.lines()
        assert str(app.plot.border_title) == "loss 0.499 ↓  eval 0.699 ↓"
        body = "".join(lines)
        assert body.count("◆") == 3 and body.count("╎") == 3 and body.count("▸") == 1
        assert any(0x2800 < ord(each) <= 0x28FF for each in body)
        assert lines[-1].strip().startswith("0") and lines[-1].endswith("100")
        # Nothing is drawn where no step has been made yet: the axis ends at the last step of the plan.
        assert not any(0x2800 < ord(each) <= 0x28FF for line in lines[:-2] for each in line[7 + 73 * 62 // 100 :])


def test_in_ascii_everything_is() -> None:
    @shows(drawing(trained(60)), ascii=True)
    async def check(app: Bench, pilot: object) -> None:
        body = "".join(app.lines())
        assert body.isascii() and body.count("o") == 3 and "*" in body and "." in body


@pytest.mark.parametrize("size", [(20, 5), (1, 1), (5, 2), (30, 7), (80, 24), (250, 70), (500, 200)])
@pytest.mark.parametrize("ascii", [False, True])
def test_every_size_is_filled(size: tuple[int, int], ascii: bool) -> None:
    @shows(drawing(trained(60)), size, ascii)
    async def check(app: Bench, pilot: object) -> None:
        lines = app.lines()
        assert [len(line) for line in lines] == [size[0]] * size[1]
        assert size < (5, 3) or any(line.strip() for line in lines)


def test_before_the_first_step_it_says_so() -> None:
    @shows(drawing(LiveRun()))
    async def check(app: Bench, pilot: object) -> None:
        assert any("No steps yet." in line for line in app.lines())


@pytest.mark.parametrize(
    "losses",
    [[None] * 9, [0.0] * 9, [-1.0, -2.0], [1e38, -1e38, 1e-38], [1e300, 1.0], [5.0], [None, 1.0, None], [3e-45, 1e-40]],
)
def test_any_losses_are_drawn_in_every_mode(losses: list[float | None]) -> None:
    run = LiveRun()
    run.apply(1, start(steps=len(losses)))
    for step, loss in enumerate(losses, 1):
        run.apply(1, metric(step, loss))

    @shows(drawing(run))
    async def check(app: Bench, pilot: object) -> None:
        for key in ("l", "x", "s", "right", "x", "l", "plus", "left", "s", "0", "x"):
            await pilot.press(key)  # type: ignore[attr-defined]
            assert all(len(line) == 80 for line in app.lines())
        if None in losses or 1e300 in losses:
            assert "×" in "".join(app.lines())


def test_the_smoothing_key_shows_and_hides_the_average() -> None:
    @shows(drawing(trained(60)))
    async def check(app: Bench, pilot: object) -> None:
        styles = {style for row in app.plot._rows for _, style in row}
        assert {"raw-0", "curve-0"} <= styles
        await pilot.press("s", "s")  # type: ignore[attr-defined]
        assert app.plot.smoothing == 0.0
        styles = {style for row in app.plot._rows for _, style in row}
        assert "curve-0" in styles and "raw-0" not in styles


def test_the_cursor_steps_from_point_to_point_and_tells_what_it_reads() -> None:
    @shows(drawing(trained(60)))
    async def check(app: Bench, pilot: object) -> None:
        await pilot.press("right", "left", "left")  # type: ignore[attr-defined]
        assert [each.x for each in app.heard] == [60, 59, 58]
        values = app.heard[-1].values
        assert values["loss"] == pytest.approx(0.3 + 4 * math.exp(-58 / 20))
        assert set(values) == {"loss", "loss avg", "eval"}
        assert f"58  loss {values['loss']:.5g}" in app.lines()[-1]


def test_the_cursor_stays_within_what_is_seen() -> None:
    @shows(drawing(trained(60)))
    async def check(app: Bench, pilot: object) -> None:
        await pilot.press("right")  # type: ignore[attr-defined]
        for _ in range(80):
            app.plot.move_cursor(-1)
        assert app.plot.cursor == 1
        for _ in range(80):
            app.plot.move_cursor(1)
        assert app.plot.cursor == 60


def test_another_pane_can_follow_without_an_echo() -> None:
    @shows(drawing(trained(60)))
    async def check(app: Bench, pilot: object) -> None:
        app.plot.set_cursor(30, tell=False)
        await pilot.pause()  # type: ignore[attr-defined]
        assert app.heard == [] and "30  loss" in app.lines()[-1]


def test_zoom_keeps_the_cursor_in_sight_and_ends_at_everything() -> None:
    @shows(drawing(trained(60)))
    async def check(app: Bench, pilot: object) -> None:
        app.plot.set_cursor(10)
        await pilot.press("plus", "plus")  # type: ignore[attr-defined]
        x0, x1 = app.plot.seen()
        assert x1 - x0 == pytest.approx(25) and x0 <= 10 <= x1
        app.plot.pan(1.0)
        assert app.plot.seen() == pytest.approx((x0 + 25, x1 + 25))
        app.plot.pan(100.0)
        assert app.plot.seen()[1] == pytest.approx(100)
        await pilot.press("minus", "minus", "minus")  # type: ignore[attr-defined]
        assert app.plot.window is None and app.plot.seen() == (0, 100)
        for _ in range(80):
            await pilot.press("plus")  # type: ignore[attr-defined]
        x0, x1 = app.plot.seen()
        assert 1 <= x1 - x0 < 3
        assert any(0x2800 < ord(each) <= 0x28FF for each in "".join(app.lines()))


def test_the_wheel_zooms_where_it_turns_and_a_click_puts_the_cursor() -> None:
    @shows(drawing(trained(60)))
    async def check(app: Bench, pilot: object) -> None:
        await pilot.click(Plot, offset=(7 + 73 // 4, 5))  # type: ignore[attr-defined]
        assert app.plot.cursor == pytest.approx(25, abs=1)
        app.plot._wheel(_Turn(7 + 73 // 2), 1.25)  # type: ignore[arg-type]
        x0, x1 = app.plot.seen()
        assert (x0, x1) == pytest.approx((10, 90), abs=1.5)


class _Turn:
    """What the plot looks at in a mouse event."""

    shift = ctrl = False

    def __init__(self, x: int) -> None:
        self.x = x

    def stop(self) -> None:
        """Nothing to stop."""


def test_x_may_be_tokens_or_time() -> None:
    @shows(drawing(trained(60)))
    async def check(app: Bench, pilot: object) -> None:
        assert app.plot.cycle_axis() == "tokens"
        assert app.lines()[-1].endswith("10k")
        assert app.plot.cycle_axis() == "time"
        assert "3:00" in app.lines()[-1]
        app.plot.set_cursor(60.0)
        assert "1:00  loss" in app.lines()[-1]
        assert app.plot.cycle_axis() == "step"


def test_only_rows_that_changed_are_painted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(60)

    @shows(drawing(run), (80, 40))
    async def check(app: Bench, pilot: object) -> None:
        painted: list[tuple[Region, ...]] = []
        monkeypatch.setattr(app.plot, "refresh", lambda *regions: painted.append(regions))
        app.plot.refresh_data()
        assert painted == []
        run.apply(1, metric(61, 0.5))
        app.plot.refresh_data()
        ((*regions,),) = painted
        assert 0 < len(regions) < 8 and all(region.height == 1 for region in regions)


def test_runs_overlaid_have_their_colours_signs_and_names() -> None:
    names = ["rhea-7", "\u4f60\u597d"]
    both = overlaid([drawing(trained(60), name=name, colour=index) for index, name in enumerate(names)])

    @shows(both)
    async def check(app: Bench, pilot: object) -> None:
        lines = app.lines()
        # What takes two cells would shift the row.
        assert "● rhea-7  ▲ ??" in lines[0]
        body = "".join(lines)
        assert body.count("▲") > 1
        assert {"curve-0", "curve-1"} <= {style for row in app.plot._rows for _, style in row}


def test_what_was_rewound_is_drawn_apart() -> None:
    run = trained(62)
    run.apply(2, start(step=40))
    run.apply(2, metric(41, 2.0))

    @shows(drawing(run))
    async def check(app: Bench, pilot: object) -> None:
        styles = {style for row in app.plot._rows for _, style in row}
        assert "rewound" in styles and "«" in "".join(app.lines())


def test_a_run_longer_than_its_plan_is_not_cut_off() -> None:
    run = trained(60, of=50)

    @shows(drawing(run))
    async def check(app: Bench, pilot: object) -> None:
        assert app.plot.seen() == (0, 60)


def test_a_warning_mark_hides_a_sample_on_the_same_cell() -> None:
    run = trained(60)
    run.apply(1, events.Warn(id="w", message="m", step=60))
    run.apply(1, events.Sample(step=60, question="q", answer="a", tokens=1, stop="end"))

    @shows(drawing(run))
    async def check(app: Bench, pilot: object) -> None:
        assert "!" in app.lines()[-2] and "·" not in app.lines()[-2]
