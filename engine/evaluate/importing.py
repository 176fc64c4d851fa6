"""The verb `import`: answers and scores of another evaluation become a run that is compared like any other.

Nothing is corrected silently: what was typed is kept in `inputs/`, what counts is computed from the cells, and whatever
does not fit is a Problem with a sentence.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import tomlkit

from engine.contract import calls, durable, grades, grading, lifecycle, rubric, rundir, sheets, slots
from engine.contract.errors import MoltingError
from engine.contract.rubric import Rubric
from engine.contract.rundir import RunDir
from engine.contract.safe import safe
from engine.contract.verdict import Imported, ImportRequest, Problem

from . import evalfiles
from .matching import Match, check_matches, match
from .precheck import was_cut
from .raters import rater_of

NOT_RECORDED = "not recorded"


def import_scores(request: ImportRequest, tell: Callable[[calls.Line], None]) -> Imported:
    """Read both files, make the run, say what is odd. MoltingError (code 2) where a file cannot be used."""
    if not request.name.strip():
        raise MoltingError("The imported run needs a name.", remedy="Give it with --name.", code=2)
    files = {"answers": Path(request.answers), "scores": Path(request.scores)}
    data = evalfiles.load(files["answers"], "answers")
    said = evalfiles.spoken(data)
    if not said:
        shown = safe(request.answers, keep_newlines=False)
        raise MoltingError(
            f"No answers were found in {shown}.",
            remedy="It needs a list in which each entry has a question and a response.",
            code=2,
        )
    found = evalfiles.scores(evalfiles.load(files["scores"], "scores"))
    by = rubric.load(rubric.find(request.rubric)) if request.rubric else _fitting(said)
    matches, problems = match(said, found, by)
    if not any(each.counts for each in matches):
        raise MoltingError(
            "None of the scores belongs to an answer: ids and questions of the two files do not fit together.",
            remedy=f"Give the scores of these answers, and with --rubric the one they were given by (not {by.name}).",
            code=2,
        )
    rater, kind, of_rater = rater_of(found.rest, request.rater, by, request.name)
    problems += of_rater + check_matches(matches, found, by) + _of_answers(matches)
    header = _header(request, by, data, found, files)
    opened = grades.Opened(
        rater=rater,
        kind=kind,
        blind=None,
        origin="imported",
        sheet=header.name,
        sheet_hash="",
        rubric=by,
        rubric_hash=by.fingerprint,
        extras=False,
        t=time.time(),
        notes=[problem.message for problem in problems],
    )
    run = _make(Path(request.runs), header, matches, opened, files, request.name.strip())
    result = grading.result(grading.of_run(run)[0][-1])
    assert result.score is not None
    return Imported(
        run=run.id,
        path=str(run.path),
        name=request.name,
        raw=_plain(result.raw),
        max=_plain(result.most),
        score=result.score,
        band=by.band(result.score),
        rater=rater,
        rubric=by.name,
        answers=len(matches),
        shape=found.shape,
        problems=problems,
    )


def _fitting(said: list[evalfiles.Spoken]) -> Rubric:
    """The shipped rubric that asks most of these questions; the general one where none does."""
    asked = {rubric.plain(each.question) for each in said}
    every = [rubric.load(path) for path in rubric.shipped().values()]
    best = max(every, key=lambda each: sum(rubric.plain(question.text) in asked for question in each.questions))
    if any(rubric.plain(question.text) in asked for question in best.questions):
        return best
    return next(each for each in every if each.name == "general")


def _of_answers(matches: list[Match]) -> list[Problem]:
    """What the answers themselves give away."""
    cut = [each for each in matches if was_cut(each.item.answer, each.item.stop)]
    recorded = all(each.item.stop for each in matches)
    if not cut:
        return []
    how = "hit the cap" if recorded else "stop in the middle of a sentence: they probably hit the cap"
    message = f"{len(cut)} of {len(matches)} answers {how}."
    if len(cut) * 2 > len(matches):
        message += " A model that never ends was probably not taught its end token; a larger cap does not help."
    return [Problem(id="cut-off", severity="warning" if len(cut) * 2 > len(matches) else "note", message=message)]


_ABOUT = ("adapter", "model", "base_model", "timestamp", "date", "phase", "run", "experiment", "rubric_version")


def _header(
    request: ImportRequest, by: Rubric, data: object, found: evalfiles.Scores, files: dict[str, Path]
) -> sheets.Header:
    """What the files say of how the answers were made; the rest stays unrecorded."""
    tables = [part for part in (found.rest, data) if isinstance(part, dict)]
    recorded = {
        key: safe(str(table[key]), keep_newlines=False)[:300]
        for table in tables
        for key in _ABOUT
        if isinstance(table.get(key), (str, int, float))
    }
    fixes = [table["fixes_applied"] for table in tables if isinstance(table.get("fixes_applied"), list)]
    if fixes:
        recorded["changed"] = safe("; ".join(map(str, fixes[0])), keep_newlines=False)[:1000]
    settings = {key: value for table in reversed(tables) for key, value in table.items()}
    system = settings.get("system_prompt", settings.get("system"))
    return sheets.Header(
        name=f"{by.name}-1",
        run="",
        rubric=by,
        t=time.time(),
        origin="imported",
        model=recorded.get("model") or recorded.get("base_model", ""),
        system=system if isinstance(system, str) else None,
        decoding=_decoding(settings),
        sources={path.name[:200]: _sha256(path) for path in files.values()},
        recorded=recorded,
    )


def _decoding(settings: dict[str, object]) -> sheets.Decoding:
    """The generation settings that a file records, at its top or in a table of them."""
    tables = [settings] + [
        table
        for key in ("generation", "generation_config", "decoding", "params", "parameters", "settings", "config")
        if isinstance(table := settings.get(key), dict)
    ]
    values = {
        name: value
        for table in tables
        for name, value in table.items()
        if name in sheets.Decoding.__struct_fields__ and name != "samples"
    }
    try:
        return msgspec.convert(values, sheets.Decoding, strict=False)
    except msgspec.ValidationError:
        return sheets.Decoding()


def _make(
    runs: Path,
    header: sheets.Header,
    matches: list[Match],
    opened: grades.Opened,
    files: dict[str, Path],
    name: str,
) -> RunDir:
    """The run: a spec that says what is known, the sheet, one grade file, the files themselves, and a state."""

    def fill(run: RunDir) -> None:
        durable.write_new(run.spec, _spec(name, header).encode())
        for what, path in files.items():
            shutil.copyfile(path, run.inputs / f"{what}{path.suffix or '.json'}")
        sheets.write(run, header, [each.item for each in matches])
        opened.sheet_hash = sheets.read(run.sheet(header.name)).sha256
        with grades.GradeFile.create(run, opened) as file:
            for each in matches:
                for event in _events(each, opened):
                    file.say(event)
        why = f"imported: graded by {opened.rater}, {len(matches)} answers; nothing was trained here"
        done = lifecycle.Transition(state="finished", attempt=0, t=time.time(), why=why)
        durable.write_new(run.lifecycle, lifecycle.encode(done))

    try:
        return rundir.create(runs, name, fill)
    except OSError as error:
        raise durable.explain(error, "make the imported run") from error


def _events(each: Match, opened: grades.Opened) -> list[grades.AnyEvent]:
    """One answer's grades as the events of a sitting."""
    item = each.item.id
    if not each.counts:
        return [grades.Skip(item=item)]
    made: list[grades.AnyEvent] = [
        grades.Cell(item=item, dimension=dimension, level=level) for dimension, level in each.cells.items()
    ]
    if each.total is not None:
        points, most = each.total
        made.append(grades.Total(item=item, points=float(points), of=float(most)))
    for dimension, text in each.reasons.items():
        made.append(grades.Comment(item=item, dimension=dimension, text=text[:20_000]))
    for dimension, words in each.quotes:
        made.append(grades.Quote(item=item, dimension=dimension, text=words))
    key = slots.key(each.item.answer, opened.rubric.fingerprint, opened.adapter)
    return [*made, grades.Commit(item=item, key=key)]


def _spec(name: str, header: sheets.Header) -> str:
    """A spec that holds no more than is known. What it does not name was not recorded, whatever its default is."""
    known = {
        "name": name[:200],
        "model": {"base": header.model or NOT_RECORDED},
        "data": {"train": NOT_RECORDED} | ({"system": header.system} if header.system else {}),
    }
    return "# Imported: the model was trained elsewhere; keys that are not here were not recorded.\n" + tomlkit.dumps(
        known
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _plain(value: float) -> float:
    """44, not 44.0, where it is whole."""
    return int(value) if value == int(value) else value
