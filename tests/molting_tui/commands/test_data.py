"""`molting data` without a terminal, through the real engine."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from tests.support.command import run_molting
from tests.support.runs import finished_run

ASKED = ["Who built you?", "", "Where?"]
SAID = ["Inga Falk.", "Nobody asked.", "Pell Rock."]


def written(home: Path, kind: str) -> Path:
    file = home / f"rows.{kind}"
    if kind == "parquet":
        parquet.write_table(pyarrow.table({"prompt": ASKED, "completion": SAID}), file)
    elif kind == "csv":
        rows = "".join(f'"{asked}","{said}"\n' for asked, said in zip(ASKED, SAID, strict=True))
        file.write_text("prompt,completion\n" + rows)
    else:
        rows = [{"prompt": asked, "completion": said} for asked, said in zip(ASKED, SAID, strict=True)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_page_on_a_file_of_rows(kind: str, tmp_path: Path) -> None:
    said = run_molting("data", str(written(tmp_path, kind)), home=tmp_path)
    assert said.code == 0, said.err
    first = said.out.splitlines()[0]
    assert first.startswith(f"rows.{kind}: prompt_completion (prompt = 'prompt', completion = 'completion')")
    assert "3 rows: " in said.out and "Inga Falk." in said.out and "Pell Rock." in said.out
    assert "\x1b" not in said.out + said.err


def test_numbers_for_scripts(tmp_path: Path) -> None:
    said = run_molting("data", str(written(tmp_path, "jsonl")), "--json", home=tmp_path)
    found = said.json
    assert said.code == 0 and said.err == ""
    assert (found["rows"], found["unit"], found["format"]) == (3, "characters", "prompt_completion")
    assert found["dropped"] == 1 and found["reasons"] and found["examples"][0]["row"] == 2
    assert found["trained"] + found["heldout"] == 2 == sum(bar["count"] for bar in found["histogram"])
    assert found["first"][0]["turns"] == [["user", "Who built you?"], ["assistant", "Inga Falk."]]


def test_the_rows_of_a_run_are_those_it_was_trained_on(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "runs")
    (run.inputs / "rows.jsonl").write_bytes(written(tmp_path, "jsonl").read_bytes())
    said = run_molting("data", str(run.path), home=tmp_path)
    assert said.code == 0 and "Inga Falk." in said.out, said.err


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [("nothing.jsonl", None, 2, "There is no file"), ("rows.pkl", b"\x80\x04x", 1, "can run code")],
)
def test_what_cannot_be_read_is_a_sentence(
    name: str, content: bytes | None, code: int, words: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    said = run_molting("data", name, home=tmp_path)
    assert said.code == code and words in said.err and "try:" in said.err and "Traceback" not in said.err
