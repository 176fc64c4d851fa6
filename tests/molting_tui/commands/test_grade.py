"""`molting grade` without a terminal, and `molting judge`: real processes, lines on stdin, a stand-in endpoint."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from engine.contract import grades, grading, rubric, sheets
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from molting_tui import line_form
from molting_tui.services.grades import Wanted, sit_down
from tests.support.chat_endpoint import Reply, Said, standing
from tests.support.command import Molting, Scripted, environment
from tests.support.command import Said as Output
from tests.support.graded import HEADING, RHEA, grade_all, graded_run

BY = rubric.load(RHEA)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return graded_run(tmp_path / "runs")[0]


def molting(run: RunDir, *args: str, lines: str = "", **env: str) -> Output:
    """`molting ARGS` fed with lines."""
    home = run.path.parent.parent
    (home / "config.toml").touch()
    places = {"MOLTING_RUNS": str(run.path.parent), "MOLTING_CONFIG": str(home / "config.toml")}
    done = subprocess.run(
        [sys.executable, "-m", "molting_tui", *args],
        input=lines.encode(),
        capture_output=True,
        env=environment(home, **places, **env),
        timeout=120,
    )
    return Output(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_script_grades_line_by_line_and_goes_on_where_it_stopped(run: RunDir) -> None:
    [sheet] = sheets.readable(run)[0]
    begun = grades.Opened(rater="Bo", sheet="rhea-1", sheet_hash=sheet.sha256, rubric=BY, rubric_hash="", seed=7)
    with grades.GradeFile.create(run, begun) as file:
        path = file.path
    said = molting(run, "grade", "rhea", "--rater", "Bo", lines="flag\ncomment D2 only half\nquote D3 third\n21021\n")
    assert said.code == 0, said.err
    assert "1 of 12 graded" in said.out and "The same command goes on from there." in said.out
    assert "1/12" in said.out and "2/12" in said.out and " 0  Nobody in particular" in said.out
    made = grading.open_grading(path, [sheet])
    first = made.grade(made.slots[0].id)
    assert first.levels == {"D1": 2, "D2": 1, "D3": 0, "D4": 2, "D5": 1} and first.flagged
    assert first.comments == {"D2": "only half"} and first.quotes[0].found and first.quotes[0].dimension == "D3"
    rest = ""
    for slot in made.slots[1:]:
        expected = slot.expected.cells if slot.expected else {}
        rest += "".join(str(expected.get(each.id, 2)) for each in BY.dimensions) + "\n"
        rest += "n\n" if slot.answer == HEADING else ""
    done = molting(run, "grade", "rhea", "--rater", "Bo", lines=rest)
    assert done.code == 0, done.err
    assert "The machine would give D4 0, you gave 2: A Markdown heading" in done.out
    assert "(76/80), excellent: adapter, by Bo" in done.out and "flagged" in done.out
    assert "calibration  2 of 2 passed" in done.out
    assert "molting report" in done.out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2222", "Line 2: 4 levels given. What stood above it is saved."),
        ("22223", "Line 2: 5 levels given."),
        ("y", "Line 2: 'y' means nothing here."),
        ("quote D1 words that it never said", "does not say that, so it cannot be quoted"),
        ("comment", "means nothing here"),
        ("\x1b[2J" * 50, "Line 2: "),
    ],
)
def test_a_line_that_means_nothing_writes_nothing(run: RunDir, line: str, said: str) -> None:
    sitting = sit_down(run, Wanted("Bo"))
    line_form.enter(sitting, "flag")
    before = len(sitting.form.events)
    with pytest.raises(MoltingError) as caught:
        line_form.enter(sitting, line)
    assert caught.value.code == 2 and "\x1b" not in caught.value.message
    assert said.removeprefix("Line 2: ").removesuffix(" What stood above it is saved.") in caught.value.message
    assert len(sitting.form.events) == before
    sitting.close()


def test_pairs_by_lines_as_json(run: RunDir) -> None:
    said = molting(run, "grade", "rhea", "--rater", "Bo", "--pairwise", "--json", lines="a\nb\nundo\ntie\nbad\n")
    found = json.loads(said.out)
    assert said.code == 0, said.err
    assert (found["mode"], found["done"], found["total"], found["complete"]) == ("pairs", 3, 8, False)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("rhea",), "Nobody has graded here yet"),
        (("rhea", "--rater", "Bo", "--sheet", "x"), "has no answer sheet 'x'"),
        (("rhea", "--rater", "B" * 61), "too long for a rater's name"),
        (("rhea", "--rater", "Bo", "--rubric", "no-such"), "There is no rubric called 'no-such'"),
        (("nobody",), "nobody"),
    ],
)
def test_a_wrong_call_is_one_sentence(molting_here: Molting, run: RunDir, args: tuple[str, ...], said: str) -> None:
    found = molting_here("grade", *args)
    assert found.code == 2 and said in found.err and "Traceback" not in found.err and grades.listed(run) == []


@pytest.fixture(name="molting_here")
def _molting_here(molting: Scripted, monkeypatch: pytest.MonkeyPatch) -> Molting:
    """In this process: starting one costs more than what is asked of it."""
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    return molting


def test_old_answers_are_graded_by_the_rubric_of_a_newer_run(
    molting: Scripted, molting_here: Molting, run: RunDir
) -> None:
    newer, sheet = graded_run(run.path.parent, "newer")
    strict = msgspec.structs.replace(BY, version="2", about="More strictly.")
    sheets.write(newer, sheets.Header(name="strict-1", run=newer.id, rubric=strict, t=2.0), sheet.items)
    molting.answers("prechecks", {"hits": {}})
    said = molting_here("grade", "rhea", "--rater", "Bo", "--rubric-of", "newer")
    assert said.code == 0 and "0 of 12 graded" in said.out, said.err
    opened = grades.read(grades.listed(run)[0]).opened
    assert opened.rubric == strict and opened.sheet == "rhea-1"
    assert molting.requests[0]["request"]["rubric"]["version"] == "2"  # the rules are those of that rubric, too


def configure(run: RunDir, text: str) -> None:
    (run.path.parent.parent / "config.toml").write_text(f"[judge]\n{text}\n")


def fair(said: Said) -> Reply:
    known = next((each.cells for each in BY.calibration if each.answer in said["messages"][1]["content"]), None)
    return json.dumps(known or {each.id: 2 for each in BY.dimensions})


def test_what_was_graded_in_part_and_the_facts_are_printed(run: RunDir) -> None:
    sitting = sit_down(run, Wanted("Bo"))
    try:
        form = sitting.form
        sitting.say(form.level(2))
        sitting.say(form.level(1))
        page = list(line_form.place_lines(form))
        assert "  so far  D1 2  D2 1  D3 _  D4 _  D5 _" in page
        assert any("fact  builder: Inga Falk" in line for line in page) is form.question.needs_facts
        line_form.enter(sitting, "210")
        assert form.settled == 1 and not any("so far" in line for line in line_form.place_lines(form))
    finally:
        sitting.close()


def test_a_judge_of_the_settings_grades_and_its_agreement_is_told(run: RunDir) -> None:
    grade_all(run, sheets.read(run.sheet("rhea-1")), lambda voice, number: 2)
    with standing(fair) as stand:
        configure(run, f'base_url = "{stand.url}"\nmodel = "m-1"\napi_key_env = "JUDGE_KEY"')
        said = molting(run, "judge", "rhea", JUDGE_KEY="sk-secret-of-the-judge")
        assert said.code == 0, said.err
        assert {head["Authorization"] for head in stand.heads} == {"Bearer sk-secret-of-the-judge"}
    assert "score  10.00 of 10 (80/80), excellent: adapter, by judge m-1" in said.out
    assert "agreement  judge m-1 and Ana: 100% of 40 cells" in said.out
    assert "never part of a score" in said.out and "sk-secret" not in said.out + said.err
    assert not any(b"sk-secret" in file.read_bytes() for file in run.path.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("", "There is no judge in the settings"),
        ('base_url = "http://x"\nmodel = "m"\napi_key_env = "NOT_SET"', "NOT_SET, which is not set"),
        ('base_url = "ftp://x"\nmodel = "m"', "base_url"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_one_sentence(
    molting_here: Molting, run: RunDir, settings: str, said: str
) -> None:
    configure(run, settings)
    found = molting_here("judge", "rhea")
    assert found.code == 2 and said in found.err and "Traceback" not in found.err
