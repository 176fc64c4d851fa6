"""The panes of the form: the answer, or two of them, and the rubric at the place where the rater is."""

from __future__ import annotations

from textual.geometry import Size

from ..state.grading_form import Form
from ..state.grading_lines import answer_lines, pair_lines, rubric_lines
from ..state.grading_quote import Selection, words
from ..state.lines import Line
from .lines_pane import LinesPane


class _Pane(LinesPane):
    def _filled(self, rows: list[Line]) -> list[Line]:
        """At least as many rows as there is room for: of one size, so that a key lays nothing out anew."""
        return rows + [[]] * (self.size.height - len(rows))


class AnswerPane(_Pane):
    """The answer that is graded; it scrolls. While words are chosen, the keys of the list move over them."""

    COMPONENT_CLASSES = {"lines-pane--cursor"}
    DEFAULT_CSS = "AnswerPane { .lines-pane--cursor { background: $cursor; color: $ink; text-style: bold; } }"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._form: Form | None = None
        self._of = ""  # the slot or pair that is shown
        self._looks: tuple[str, int, Size] | None = None  # what the rows were made of
        self.selection: Selection | None = None

    def show(self, form: Form) -> None:
        """Show the form as it is now; another answer from its beginning."""
        self._form = form
        shown = form.slot or form.bout
        if (shown.id if shown else "") != self._of:
            self._of, self.selection = shown.id if shown else "", None
            self.scroll_to(y=0, animate=False, force=True)
        seen = len(form.hits_of(form.slot)) if form.slot else 0
        if (looks := (self._of, seen, self.size)) != self._looks:  # most keys change nothing here
            self._looks = looks
            self.repaint()

    def lines(self, width: int) -> list[Line]:
        if self._form is None:
            return [[("reading the answers", "dim")]]
        if self._form.opened.mode == "pairs":
            return self._filled(pair_lines(self._form.bout, width))
        return self._filled(answer_lines(self._form, width, self.selection))

    def heading(self) -> str:
        below = len(self.rows) - self.scroll_offset.y - self.size.height
        return f"{below} lines more: down, page down" if below > 0 else ""

    def choose(self) -> bool:
        """Begin to choose words, or mark the first of them; False where the answer has none."""
        if self.selection is not None:
            self._choose(self.selection.mark())
            return True
        slot = self._form.slot if self._form else None
        laid = words(slot.answer, self.size.width) if slot else ()
        if not laid:
            return False
        first = next((n for n, word in enumerate(laid) if word.row >= self.scroll_offset.y), 0)
        self._choose(Selection(laid, first))
        return True

    def stop_choosing(self) -> None:
        self.selection = None
        self.repaint()

    def resized(self) -> None:
        self.selection = None  # its words lay elsewhere
        super().resized()

    def move(self, by: int) -> None:
        """So many words on, while words are chosen."""
        if self.selection is not None:
            self._choose(self.selection.move(by))

    def _choose(self, selection: Selection) -> None:
        self.selection = selection
        top, height = self.scroll_offset.y, max(1, self.size.height)
        if not top <= selection.row < top + height:
            self.scroll_to(y=max(0, selection.row - height // 2), animate=False, force=True)
        self.repaint()

    def action_up(self) -> None:
        self._rows_on(-1)

    def action_down(self) -> None:
        self._rows_on(1)

    def _rows_on(self, by: int) -> None:
        if self.selection is not None:
            self._choose(self.selection.move_rows(by))
        else:
            self._go(self.scroll_offset.y + by)


class RubricPane(_Pane, can_focus=False):
    """Levels given, the texts of this dimension, what was said so far."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._form: Form | None = None

    def show(self, form: Form) -> None:
        """Show where the rater is now."""
        self._form = form
        self.repaint()

    def lines(self, width: int) -> list[Line]:
        return self._filled(rubric_lines(self._form, width) if self._form else [])
