"""A file of rows to look at: any page of it, a row as the model sees it, a search, all rows together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from engine.contract.calls import Finding
from engine.contract.errors import MoltingError
from engine.contract.rows import DataReport, DataRequest, Opened, RowLine, RowView, Split
from engine.contract.spec import Data, Model, Spec
from engine.data import index
from engine.data.conversation import BadRow, Conversation
from engine.data.convert import Mapping, to_conversation
from engine.data.encode import EncodedRow, Encoder
from engine.data.index import Index
from engine.data.of_spec import encoder_for, options
from engine.data.prepare import data_mapping, share_of
from engine.data.read import Record, open_records
from engine.data.show import preview, problems, view_of

UNREADABLE = "cannot be read"
FIRST = 3  # rows that the report shows
_TOLD_EVERY = 2000  # rows

Stop = Callable[[], bool]
Progress = Callable[[int, int], None]


class Book:
    """The rows of one file, with the tokenizer they are read with where one is known.

    Rows are counted from 0 here, damaged ones included. Methods raise MoltingError for a file that cannot be read on.
    """

    def __init__(self, request: DataRequest) -> None:
        """Looks at the first rows only. Raises MoltingError for a file, spec or format that is of no use."""
        self.file, self._models = Path(request.file).expanduser().absolute(), Path(request.models)
        self.spec = _spec(request)
        self.path = Path(self.spec.data.train)
        self.mapping: Mapping = data_mapping(options(self.spec))
        self.index: Index | None = index.cached(self.path)
        self.heldout: set[int] | None = None  # by number, once all rows were looked at
        self.encoder: Encoder | None = None
        self.problem = ""
        if self.spec.model.base:
            try:
                self.encoder = _encoder(self.spec, Path(request.models))
                self.encoder.join = self.mapping.join
            except MoltingError as error:
                self.problem = str(error)

    def opened(self) -> Opened:
        """What is known at once."""
        return Opened(
            file=str(self.path),
            size=self.path.stat().st_size,
            format=self.mapping.format,
            fields=self.mapping.fields,
            mapping=self.mapping.describe(),
            tokenizer=self.spec.model.base if self.encoder else "",
            problem=self.problem,
            max_length=self.spec.data.max_length,
            system=self.spec.data.system,
        )

    def findings(self) -> list[Finding]:
        """What the checks of a spec say about these rows; none where there is no spec."""
        from engine.checks.preflight import check
        from engine.train.freeze import open_spec

        if self.file.suffix != ".toml":
            return []
        try:
            found = check(open_spec(self.file), self._models).findings
        except MoltingError:
            return []  # said already, where the tokenizer was loaded
        return [finding for finding in found if finding.rows]

    def count(self, progress: Progress = lambda done, total: None) -> int:
        """How many rows there are; builds the index."""
        self.index = index.build(self.path, progress)
        return self.index.count

    def records(self, start: int) -> Iterator[Record | BadRow]:
        """Every row from `start` on in order, BadRow for those that cannot be read; at once where an index is there."""
        first, stream = (0, open_records(self.path)) if self.index is None else index.open_at(self.index, start)
        number = first
        for record in stream:
            while number < record.index + first:
                if number >= start:
                    yield BadRow(_why(stream.examples, number - first))
                number += 1
            if number >= start:
                yield Record(number, record.value, record.offset)
            number += 1
        while number < first + stream.read:
            if number >= start:
                yield BadRow(_why(stream.examples, number - first))
            number += 1

    def lines(self, start: int, count: int, values: list[Any] | None = None) -> list[RowLine]:
        """A page of rows, a line each; shorter at the end of the file. `values`: of these instead of the file's."""
        if values is None:
            found = list(islice(self.records(start), count))
        else:
            found = [Record(-1, value, 0) if isinstance(value, (dict, str)) else BadRow(UNREADABLE) for value in values]
        read = [self.conversation(record) for record in found]
        good = [item for item in read if isinstance(item, Conversation)]
        rows = iter(self.encoder.encode_all(good) if self.encoder else [None] * len(good))
        return [
            self._line(start + i, item, next(rows) if isinstance(item, Conversation) else None)
            for i, item in enumerate(read)
        ]

    def conversation(self, record: Record | BadRow) -> Conversation | BadRow:
        """What a row says, or why it says nothing."""
        if isinstance(record, BadRow):
            return record
        try:
            return to_conversation(record.value, self.mapping)
        except BadRow as bad:
            return bad

    def show(self, number: int) -> RowView:
        """One row. IndexError when there is none of this number."""
        for record in self.records(number):
            return self._view(record, number)
        raise IndexError(number)

    def draft(self, value: Any) -> RowView:
        """A row that is not in the file."""
        sound = isinstance(value, (dict, str))
        return self._view(Record(-1, value, 0) if sound else BadRow(UNREADABLE), -1)

    def split(self, number: int, conversation: Conversation) -> Split:
        """On which side a row stands that can be used."""
        if self.heldout is not None and number >= 0:
            return "held out" if number in self.heldout else "trained"
        data = self.spec.data
        fraction = 0.0 if data.heldout else data.heldout_fraction
        return "held out" if share_of(conversation, self.spec.training.seed) < fraction else "trained"

    def find(self, text: str, start: int, stop: Stop, progress: Progress) -> int | None:
        """The number of the next row that holds `text` in any of its parts; None when there is none, or on `stop`."""
        wanted, size = text.casefold(), self.path.stat().st_size
        for number, record in enumerate(self.records(start), start):
            if isinstance(record, Record):
                if wanted in _words(record.value).casefold():
                    return number
                if number % _TOLD_EVERY == 0:
                    progress(min(record.offset, size), size)
            if stop():
                return None
        return None

    def _line(self, number: int, item: Conversation | BadRow, row: EncodedRow | BadRow | None) -> RowLine:
        if isinstance(item, BadRow):
            return RowLine(number=number, split="dropped", why=item.why)
        prompt, answer = preview(item)
        line = RowLine(number=number, prompt=prompt, answer=answer, split=self.split(number, item))
        if isinstance(row, BadRow):
            line.split, line.why = "dropped", row.why
        elif row is None:
            line.length = sum(len(turn.content) for turn in item.turns)
        else:
            line.length, line.lost = len(row.input_ids), row.lost_tokens
        return line

    def _view(self, record: Record | BadRow, number: int) -> RowView:
        item = self.conversation(record)
        if isinstance(item, BadRow):
            return RowView(number=number, split="dropped", findings=problems(item.why, None, None))
        view = view_of(item, self.encoder)
        view.number = number
        view.split = "dropped" if any(each.severity == "error" for each in view.findings) else self.split(number, item)
        return view


def report(request: DataRequest, tell: Callable[[Any], None]) -> DataReport:
    """The verb `data`: everything about a file, once."""
    from engine.contract.calls import Progress as Line
    from engine.data.survey import survey

    book = Book(request)
    done = survey(book, lambda: False, lambda done, total: tell(Line(phase="rows", done=done, total=total, unit="B")))
    first = [book.show(number) for number in range(min(FIRST, done.rows))]
    return DataReport(opened=book.opened(), survey=done, first=first)


def _spec(request: DataRequest) -> Spec:
    """The spec that says how the rows are read, made up as far as none was given."""
    from engine.train.freeze import open_spec

    file = Path(request.file).expanduser().absolute()
    if file.suffix == ".toml":
        return _with_model(open_spec(file).spec, request.model)
    data = Data(train=str(file))
    if request.model.endswith(".toml"):
        spec = open_spec(Path(request.model)).spec
        return msgspec.structs.replace(spec, data=msgspec.structs.replace(spec.data, train=str(file)))
    return Spec(model=Model(base=request.model), data=data)


def _with_model(spec: Spec, model: str) -> Spec:
    if not model or model.endswith(".toml"):
        return spec
    return msgspec.structs.replace(spec, model=msgspec.structs.replace(spec.model, base=model, revision=""))


def _encoder(spec: Spec, models: Path) -> Encoder:
    from engine.models import fetch

    reference = fetch.resolve(spec.model.base, revision=spec.model.revision, models_dir=models)
    folder = fetch.local(reference, models_dir=models)
    if folder is None:
        raise MoltingError(
            f"{reference.location} is not on this machine, so tokens cannot be counted.",
            remedy="The first run with it downloads it.",
        )
    return encoder_for(spec, folder)


def _why(examples: list[Any], place: int) -> str:
    return next((dropped.why for dropped in examples if dropped.index == place), UNREADABLE)


def _words(value: Any) -> str:
    """All text in a row."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "\n".join(map(_words, value.values()))
    if isinstance(value, list):
        return "\n".join(map(_words, value))
    return "" if value is None else str(value)
