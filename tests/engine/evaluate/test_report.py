"""The cycle report: every number from the run's files, nothing hidden, nothing that acts in a browser."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import calls
from engine.contract.rundir import RunDir
from engine.contract.verdict import Reported, ReportRequest
from engine.evaluate.report import report
from engine.evaluate.report_blocks import Bullets, Code, Paragraph, Plot, Report, Section, Table, Verbatim
from engine.evaluate.report_html import page
from engine.evaluate.report_markdown import NOTES, markdown, notes_of
from engine.evaluate.report_plots import Pair, curve, dots
from tests.engine.evaluate.test_importing import CYCLES, SHARED, answers, imported, recorded, rows
from tests.support.graded import grade_all, graded_run

SECTIONS = [
    "What changed",
    "Data",
    "Training",
    "Proof of effect",
    "Grades",
    "Comparison",
    "Automatic measures",
    "What the record says",
    "Answers",
    "Limits",
    "How to reproduce it",
    "Short version",
]
HOSTILE = (
    '<script src="https://evil.example/x.js">alert(1)</script> | `` ``` | ![x](https://evil.example) \x1b[2J\u202e'
)


def made(run: RunDir, against: RunDir | None = None) -> Reported:
    return report(ReportRequest(run=str(run.path), against=str(against.path) if against else ""), lambda line: None)


def texts(run: RunDir) -> tuple[str, str]:
    return run.report.read_text("utf-8"), run.report_html.read_text("utf-8")


class Page(HTMLParser):
    """Everything that could act or load, and whether every element that must be closed is."""

    VOID = {"meta", "circle", "line", "polyline"}

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.said: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in self.VOID or self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)


@pytest.fixture(scope="module")
def cycles(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, RunDir]:
    """Two graded cycles of one persona; base and adapter of the second were graded in one sitting."""
    runs = tmp_path_factory.mktemp("runs")
    before, sheet = graded_run(runs, "rhea")
    grade_all(before, sheet, lambda slot, place: 1 if slot.voice == "adapter" else 0)
    after, sheet = graded_run(runs, "rhea-two", parent=before.id, rank=16, adapter="b" * 64)
    after_comment = "Says who it is. " + HOSTILE
    grade_all(after, sheet, lambda slot, place: 2 if slot.voice == "adapter" else 0, base=True, comment=after_comment)
    proof = calls.Proof(
        verdict="effective", sentence="Effective: KL 2.1 nats.", kl=2.1, flip_rate=0.5, nonzero_b=4, total_b=4,
        heldout_loss=calls.Losses(base=3.5, adapter=1.6), heldout_rows=6, probes=3, positions=90,
    )  # fmt: skip
    after.proof.write_bytes(msgspec.json.encode(proof))
    return before, after


def test_the_verdict_comes_first_and_every_part_follows(cycles: tuple[RunDir, RunDir]) -> None:
    before, after = cycles
    said = made(after)  # against its parent, which the spec records
    assert said.verdict == "better" and said.against == before.id and said.score == 10.0
    text, html = texts(after)
    assert text.index("**Against rhea: Better: +5.00 points of 10 over 8 questions, p = 0.0") < text.index("## ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [*SECTIONS, "Notes"]
    assert re.findall(r"<h2>(.+?)</h2>", html) == SECTIONS
    assert "| method.rank | 8 | 16 |" in text  # what changed
    assert "| dropped: empty | 2 |" in text and "| trained | 56 |" in text  # the funnel
    assert "| loss of the last step | 0.0400 |" in text and "| mean loss of all steps | 0.2075 |" in text
    assert "| positions whose most likely token changed | 50.0% |" in text
    assert text.count("| 2 | 2 | 2 | 2 | 2 | 10 of 10 |") == 8  # the grid
    assert "Base and adapter of this run, from one grading:" in text and "+10.00 points of 10" in text
    assert "smallest p that 8 questions reach | 0.0078" in text
    assert f"molting compare {before.id} {after.id}" in text and f"molting train RUNS/{after.id}/spec.toml" in text
    assert text.count("I am Rhea, number 1, a radio on the third landing.") == 1  # answers stand verbatim, once
    assert html.count("<svg") == 5  # the curve; dots and intervals of both comparisons


def test_nothing_in_the_page_acts_or_loads(cycles: tuple[RunDir, RunDir]) -> None:
    made(cycles[1])
    text, html = texts(cycles[1])
    page = Page(html)
    assert not page.tags & {"script", "img", "a", "link", "iframe", "object", "embed", "form", "input", "base", "video"}
    assert not page.attributes & {"href", "src", "action", "style", "xlink:href", "srcdoc"}
    assert not {name for name in page.attributes if name.startswith("on")}
    assert "url(" not in html and "@import" not in html
    everything = "".join(page.said)
    assert '<script src="https://evil.example/x.js">alert(1)</script>' in everything  # told, and harmless
    assert not set("\x1b\u202e") & set(text + html)
    assert "<script" not in re.sub(r"\\<", "", text)


def test_the_same_files_give_the_same_report(cycles: tuple[RunDir, RunDir]) -> None:
    made(cycles[1])
    first = texts(cycles[1])
    made(cycles[1])
    assert texts(cycles[1]) == first


def test_notes_are_kept_and_a_report_without_marks_is_put_aside(cycles: tuple[RunDir, RunDir]) -> None:
    run = cycles[0]
    made(run)
    mine = "I listened to *all* of it.\n\n<b>Q3</b> is the one to mend."
    run.report.write_text(
        run.report.read_text("utf-8").replace("Write here; the next `molting report` keeps it.", mine)
    )
    assert made(run).warnings == []
    text, html = texts(run)
    assert f"{NOTES[0]}\n{mine}\n{NOTES[1]}" in text
    assert "&lt;b&gt;Q3&lt;/b&gt; is the one to mend." in html
    run.report.write_text("I threw all of it away.")
    (warning,) = made(run).warnings
    assert "report-kept-1.md" in warning
    assert (run.path / "report-kept-1.md").read_text("utf-8") == "I threw all of it away."


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    run, _ = graded_run(tmp_path, "mira")
    run.proof.write_bytes(b"{" * 5000)
    run.adapter.mkdir()
    (run.path / "answers" / "torn-1.jsonl").write_bytes(b'{"no": "sheet"}\n')
    said = made(run)
    assert said.score is None and said.verdict is None
    assert any("proof.json is damaged" in each for each in said.missing)
    assert any("torn-1" in each for each in said.missing)
    text = run.report.read_text("utf-8")
    assert f"Nobody has graded this run to the end: \\`molting grade {run.id}\\`" in text
    assert "Nothing was graded, so nothing here says whether the persona took." in text
    assert "No parent run is recorded" in text and "There is nothing to compare with." in text


def test_a_typed_total_changes_no_number(tmp_path: Path) -> None:
    """Only the sentence that it is wrong is new."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    right = imported(tmp_path / "a", {"results": rows()}, answers())
    wrong = imported(tmp_path / "b", {"results": rows(), "summary": {"total_score": 29, "max_possible": 30}}, answers())
    reports = []
    for each in (right, wrong):
        run = RunDir(Path(each.path))
        assert made(run).score == 6.0
        grades = run.report.read_text("utf-8").split("## Grades")[1].split("## Comparison")[0]
        reports.append([line for line in grades.split("\n") if line])
    assert "18/30" in "".join(reports[0])
    new = [line for line in reports[1] if line not in reports[0]]
    assert len(new) == 1 and "typed total" in new[0] and "is 29, which is wrong: it is 6 (18 of 30 points)" in new[0]


@recorded
def test_the_recorded_cycles_come_out_as_they_are_known(tmp_path: Path) -> None:
    """Not comparable to a hair: what was typed wrongly is pointed out, and who graded is told."""
    runs = []
    for name in ("cycle6", "cycle7"):
        said, scores = (json.loads((SHARED / file).read_text("utf-8")) for file in CYCLES[name])
        runs.append(RunDir(Path(imported(tmp_path, scores, said, name).path)))
    made_of = made(runs[1], runs[0])
    assert made_of.verdict == "better" and made_of.score == 5.5
    text = runs[1].report.read_text("utf-8")
    for known in (
        "+2.63 points of 10 over 8 questions, p = 0.039, 95 % interval +0.44 to +4.81",
        "44/80 points, developing",
        "| 95 % interval (Student t) | +0.44 to +4.81 |",
        "| smallest p that 8 questions reach | 0.0078 |",
        "| smallest difference seen with 80 % power | 3.02 |",
        "is 4, which is wrong: it is 5 (5 of 16 points)",
        "an AI model, not known to be blind",
        "More than one thing changed",
        "| epochs: 8 (was 5) | not said | yes |",
    ):
        assert known in text
    after_holm = dict(re.findall(r"^\| (D\d) [^|]+\|[^|]+\|[^|]+\|[^|]+\| ([\d.]+) \|$", text, re.MULTILINE))
    assert after_holm == {"D1": "0.039", "D2": "1.000", "D3": "0.375", "D4": "1.000", "D5": "0.938"}
    made(runs[0])
    assert "Graded 2.88 of 10 (23/80 points, non-functional)" in runs[0].report.read_text("utf-8")


WORDS = st.text(st.characters(codec="utf-8"), max_size=80) | st.sampled_from(
    [*NOTES, HOSTILE, "# x", "1. x", "---", "```"]
)


@given(WORDS, WORDS)
def test_no_text_breaks_out_of_its_place(text: str, notes: str) -> None:
    blocks = [
        Paragraph(text),
        Bullets([text]),
        Table(["a", "b"], [[text, "1"]], frozenset({1})),
        Verbatim(text, "adapter"),
        Code([text]),
        Plot(dots([Pair(text, 1, 2)]), text),
    ]
    made_of = Report(text, text, [Section("Part", blocks)], [text], [])
    clean = "\n".join(notes.splitlines()).strip("\n")
    if not set(NOTES) & set(clean.split("\n")):
        assert notes_of(markdown(made_of, clean)) in (clean, "Write here; the next `molting report` keeps it.")
    lines = markdown(made_of, "").split("\n")
    assert [line for line in lines if line.startswith("#")][1:] == ["## Part", "## Notes"]
    assert lines.count(NOTES[0]) == lines.count(NOTES[1]) == 1
    assert next(line for line in lines if line.endswith("| 1 |")).replace("\\|", "").count("|") == 3
    Page(page(made_of, notes))


def test_a_curve_of_a_million_steps_is_a_small_picture() -> None:
    drawn = curve([(step, 1 / step) for step in range(1, 100_001)], [(100_000, 0.5)])
    assert len(drawn) < 20_000 and drawn.count("<circle") == 1
