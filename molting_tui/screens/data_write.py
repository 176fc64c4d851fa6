"""Writing rows of a small file: add, edit, move, delete, undo, save, compare; the screen around it is `data.py`."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from textual import work
from textual.timer import Timer

from engine.contract.errors import MoltingError
from engine.contract.plainfile import read_plain
from engine.contract.rundir import RunDir
from engine.contract.safe import safe

from .. import text
from ..actions import shown_keys
from ..services.rows_store import RowsStore, Unsaved
from ..state.lines import Line
from ..state.row_form import Part, Shape
from ..state.row_text import from_text, to_text
from ..state.rows_diff import RowsDiff, compare
from ..state.rows_file import Row, parse
from ..state.writing import Writing
from ..widgets.row_panes import RowList, RowPane
from .data_edit import RowForm
from .dialog import Choice, Confirm
from .page import Page

_FROZEN = 64 << 20  # bytes of a run's copy of its rows that are compared with
_KEEP = 0.6  # seconds after a change until a private copy of it is on disk
_WRITES = {"open", "new", "editor", "write", "undo", "redo_row", "delete", "row_up", "row_down"}
_RELOAD, _BOTH, _OVER = "Read it again; mine are lost", "Keep both: save mine beside it", "Save mine over it"
_ROLES = {
    "alpaca": ("system", "user", "context", "assistant"),
    "title_content": ("title", "assistant"),
    "text": ("text",),
}


class DataWrite(Page):
    """Needs what `data.py` adds: `list`, `look_at`, `reread`, `surveyed_again`."""

    list: Any
    shape: Shape

    def __init__(self) -> None:
        super().__init__()
        self.writing: Writing | None = None
        self.store: RowsStore | None = None
        self.why_not: MoltingError | None = None  # rows cannot be written
        self.written = 0
        self._keeper: Timer | None = None

    def look_at(self, value: Any, then: Any) -> None:
        raise NotImplementedError

    def reread(self, number: int) -> None:
        raise NotImplementedError

    def surveyed_again(self) -> None:
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in _WRITES and self.writing is None:
            return False
        if action in {"undo", "write"} and self.writing is not None:
            return self.writing.can_undo if action == "undo" else self.writing.dirty
        return super().check_action(action, parameters)

    def _changed(self, number: int) -> None:
        self.reread(number)
        assert self.writing is not None
        self._keep(self.writing.text())

    def _keep(self, content: str) -> None:
        if self._keeper is not None:
            self._keeper.stop()
        self._keeper = self.set_timer(_KEEP, lambda: self._keep_now(content))

    def _keep_now(self, content: str) -> None:
        assert self.store is not None and self.writing is not None
        try:
            self.store.remember(content)
        except MoltingError as error:
            self.molting.tell(str(error), "warning")

    @work(exit_on_error=False)
    async def action_new(self) -> None:
        """Forms for new rows, one after the other, until one is left without asking for the next."""
        assert self.writing is not None
        again = True
        while again:
            at = min(self.list.cursor + 1, len(self.writing.rows))
            heading = f"new row {at + 1:,}   {text.plural(self.written, 'row')} written"
            parts, again = await self._form(self.shape.empty(), None, heading, at)
            if parts is None:
                return
            if self._write(parts, None, at):
                self.written += 1

    @work(exit_on_error=False)
    async def action_open(self) -> None:
        writing, at = self.writing, self.list.cursor
        if writing is None or not writing.rows:
            self.action_new()
            return
        row = writing.rows[at]
        if row.value is None:
            self.molting.tell("This row cannot be read, so it can only be deleted, or mended in the file.", "warning")
            return
        parts, again = await self._form(self.shape.parts(row.value), row.value, f"row {at + 1:,}", at)
        if parts is not None:
            self._write(parts, row, at)
        if again:
            self.action_new()

    async def _form(self, parts: Any, old: Any, heading: str, at: int) -> tuple[Any, bool]:
        writing = self.writing
        assert writing is not None

        def draft(value: Any) -> None:
            """What is typed survives a dropped connection, too."""
            try:
                row = writing.layout.row(value)
            except MoltingError:
                return
            now = list(writing.rows)
            now[at : at + (old is not None)] = [Row(row.raw, row.value, now[at].lead if old is not None else "")]
            self._keep(writing.layout.text(now))

        result = await self.app.push_screen_wait(RowForm(self.shape, parts, old, heading, self.look_at, draft))
        return result or (None, False)

    def _write(self, parts: list[Part], row: Row | None, at: int) -> bool:
        """Put what was written into the rows; False when this file cannot say it."""
        assert self.writing is not None
        try:
            value = self.shape.value(parts, row.value if row else None)
            made = self.writing.layout.row(value, row.lead if row else "")
        except MoltingError as error:
            self.molting.fail(error)
            return False
        self._changed(self.writing.put(at, made) if row else self.writing.add(at, made))
        return True

    def action_editor(self) -> None:
        """One row as text in $EDITOR; what cannot be read stays in a file that is named."""
        writing, at = self.writing, self.list.cursor
        if writing is None or not writing.rows or writing.rows[at].value is None:
            return
        row = writing.rows[at]
        before = to_text(self.shape.parts(row.value))
        folder = Path(tempfile.mkdtemp(prefix="molting-row-"))
        file = folder / "row.md"
        file.write_text(before, "utf-8")
        command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
        try:
            with self.app.suspend():
                subprocess.run([*command, str(file)], check=False)
            after = file.read_text("utf-8")
            parts = from_text(after, self._roles()) if after != before else None
        except (OSError, UnicodeDecodeError) as error:
            self.molting.fail(MoltingError(f"{command[0]} could not be used: {error}.", remedy="Set EDITOR."))
            return
        except MoltingError as error:
            self.molting.fail(MoltingError(f"{error.message} Your text is in {file}.", remedy=error.remedy))
            return
        if parts is None or self._write(parts, row, at):
            file.unlink()
            folder.rmdir()

    def _roles(self) -> tuple[str, ...]:
        return _ROLES.get(self.shape.format, ("system", "user", "assistant"))

    def action_delete(self) -> None:
        if self.writing is not None and self.writing.rows:
            number = self.list.cursor
            self._changed(self.writing.delete(number))
            undo = shown_keys(self.molting.registry["undo"].keys)
            self.molting.tell(f"Row {number + 1:,} deleted; {undo} brings it back.")

    def action_row_up(self) -> None:
        if self.writing is not None and self.writing.rows:
            self._changed(self.writing.move(self.list.cursor, -1))

    def action_row_down(self) -> None:
        if self.writing is not None and self.writing.rows:
            self._changed(self.writing.move(self.list.cursor, 1))

    def action_undo(self) -> None:
        self._went(self.writing.undo() if self.writing is not None else None)

    def action_redo_row(self) -> None:
        self._went(self.writing.redo() if self.writing is not None else None)

    def _went(self, number: int | None) -> None:
        if number is None:
            self.molting.tell("There is nothing more in that direction.")
        else:
            self._changed(number)

    @work(exit_on_error=False)
    async def action_write(self) -> None:
        await self._save()

    async def _save(self) -> bool:
        """Save, unless the file changed meanwhile and the user would rather not."""
        writing, store = self.writing, self.store
        assert writing is not None and store is not None
        if self._keeper is not None:
            self._keeper.stop()
        if store.changed():
            title = f"{store.path.name} was changed by somebody else"
            chosen = await self.app.push_screen_wait(Choice(title, (_BOTH, _OVER, _RELOAD), _BOTH))
            if chosen is None:
                return False
            if chosen == _RELOAD:
                self._take_over(store.read())
                store.forget()
                writing.saved()
                self.surveyed_again()
                return True
            if chosen == _BOTH:
                beside = store.keep_both(writing.text())
                self.molting.tell(f"Yours are in {beside}.")
                return True
        store.save(writing.text())
        writing.saved()
        self.molting.tell(f"Saved {text.plural(len(writing.rows), 'row')}.")
        self.refresh_bindings()
        self.surveyed_again()
        return True

    def _take_over(self, data: bytes) -> None:
        """Show other content, as one change that undo takes back."""
        assert self.writing is not None and self.store is not None
        layout, found = parse(data, self.store.path.suffix)
        self.writing.layout = layout
        self.writing.take_over(found)
        self.reread(min(self.list.cursor, max(0, len(found) - 1)))

    @work(exit_on_error=False)
    async def _offer(self, kept: Unsaved) -> None:
        assert self.store is not None
        said = "They were written here and never saved."
        if kept.base != self.store.base:
            said += " The file was changed since; what was changed there is not in them."
        if await self.app.push_screen_wait(Confirm("Take up the unsaved rows?", said, "Take them up", "Not now")):
            self._take_over(kept.text.encode())

    def back(self) -> bool:
        if self.writing is not None and self.writing.dirty:
            self._ask_to_leave()
            return True
        return False

    @work(exit_on_error=False)
    async def _ask_to_leave(self) -> None:
        assert self.store is not None and self.writing is not None
        choices = ("Save and leave", "Leave; offer them next time", "Stay")
        chosen = await self.app.push_screen_wait(Choice("Rows are not saved", choices, choices[0]))
        if chosen == choices[1]:
            self.store.remember(self.writing.text())
            self.app.pop_screen()
        elif chosen == choices[0] and await self._save():
            self.app.pop_screen()

    @work(exit_on_error=False)
    async def action_differs(self) -> None:
        """What changed since a run, the newest first."""
        runs = sorted(filter(None, self.molting.runs.known.values()), key=lambda run: -(run.started or 0))
        names = {f"{self.molting.runs.name(run.id)}  {run.id}": run for run in runs}
        if self.writing is None or not names:
            self.molting.tell("There is no run to compare with." if not names else str(self.why_not), "warning")
            return
        chosen = await self.app.push_screen_wait(Choice("Compare with the rows of", names, next(iter(names))))
        if chosen is None:
            return
        frozen = next(iter(RunDir(Path(names[chosen].path)).inputs.glob("rows.*")), None)
        if frozen is None:
            self.molting.tell("That run read its rows from a file that is not copied into runs.", "warning")
            return
        _, old = parse(read_plain(frozen, _FROZEN), frozen.suffix)
        values = [row.value for row in old]
        diff = compare(values, [row.value for row in self.writing.rows], self._asked)
        self.query_one(RowList).changed = {*diff.added, *diff.changed}
        self.query_one(RowPane).show(said=self._diff_lines(diff, values, safe(chosen, False)))
        self.list.repaint()

    def _asked(self, value: Any) -> str:
        return next((part.text for part in self.shape.parts(value) if part.role in ("user", "title")), "")

    def _diff_lines(self, diff: RowsDiff, old: list[Any], name: str) -> list[Line]:
        assert self.writing is not None
        lines: list[Line] = [
            [(f"against {name}", "bold")],
            [(f"{len(diff.added)} added, {len(diff.changed)} changed, ", ""), (f"{len(diff.removed)} removed, ", "")],
            [(f"{diff.same} are the same", "dim")],
            [],
        ]
        for mark, numbers, values in (
            ("+", diff.added, None),
            ("~", diff.changed, None),
            ("-", diff.removed, old),
        ):
            for number in numbers[:500]:
                value = values[number] if values else self.writing.rows[number].value
                said = safe(" ".join(self._asked(value).split())[:200], False)
                lines.append([(f"{mark} {number + 1:>5,}  ", "match" if mark == "+" else "dim"), (said, "")])
        return lines
