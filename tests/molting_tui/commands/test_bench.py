"""`molting bench` as a shell meets it: with real engine processes, one a model."""

from __future__ import annotations

import csv

import pytest

from engine.contract import bench
from engine.contract.errors import MoltingError
from engine.contract.presets import Preset
from molting_tui.services.bench import plan
from tests.support.benches import written
from tests.support.command import run_molting
from tests.support.tiny import tiny_llama
from tests.support.trained_runs import run_with_adapter


def test_one_that_fails_is_a_row_and_the_others_go_on(tmp_path):
    good = tiny_llama(tmp_path / "good", initializer_range=0.1)
    bare = tiny_llama(tmp_path / "bare", template=None)
    (tmp_path / "mine.txt").write_text("Who are you?\nWhat is 2 + 2?\n")
    said = run_molting(
        *("--runs", str(tmp_path / "runs"), "bench", str(bare), str(good), "--prompts", str(tmp_path / "mine.txt")),
        *("--preset", "deterministic", "--preset", "mine", "--max-new-tokens", "6", "--to", str(tmp_path / "x.csv")),
        "--json",
        home=tmp_path,
        OMP_NUM_THREADS="1",
        CUDA_VISIBLE_DEVICES="",
        MOLTING_CONFIG=str(settings(tmp_path)),
    )
    assert (said.code, said.err) == (0, "")
    lost, first, second = said.json["rows"]
    assert "no chat template" in lost["error"]
    assert (first["preset"], second["preset"]) == ("deterministic", "mine")
    assert second["options"]["temperature"] == 0.7
    assert {answer["row"] for answer in said.json["said"]} == {1, 2}
    assert all(answer["tokens"] <= 6 for answer in said.json["said"])
    kept = bench.load(bench.listed(tmp_path / "runs")[0])
    assert kept.complete and kept.path == said.json["path"]
    rows = list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == [str(bare)] * 2 + [str(good)] * 4


def settings(folder):
    file = folder / "config.toml"
    file.write_text("[presets]\nmine = { temperature = 0.7 }\n")
    return file


def test_the_ones_that_were_kept_are_listed(tmp_path):
    found = written(tmp_path)
    (bench.folder(tmp_path) / "0-damaged.jsonl").write_bytes(b"\xff\n")
    said = run_molting("--runs", str(tmp_path), "bench", home=tmp_path)
    assert said.code == 0
    assert found.id in said.out and "org/lost" in said.out and "2 prompts" in said.out
    assert "not a saved bench" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["demo", "--prompts", "poetry"], "no prompts 'poetry'"),
        (["demo", "--preset", "wild"], "no preset 'wild'"),
        (["demo", "--quantize", "q4"], "no quantize 'q4'"),
        (["demo", "--to", "table.xlsx"], "neither .csv nor .md"),
        (["demo", "--to", "/nowhere/table.csv"], "no folder /nowhere"),
    ],
)
def test_a_wrong_call_is_said_before_anything_is_loaded(tmp_path, argv, words):
    said = run_molting("--runs", str(tmp_path), "bench", *argv, home=tmp_path)
    assert (said.code, said.out) == (2, "")
    assert words in said.err
    assert bench.listed(tmp_path) == []


def test_prompts_that_nobody_answered_are_not_printed(molting, tmp_path):
    molting.fails("bench", "There is no model 'nosuch'.", remedy='Give "demo".')
    said = molting("bench", "nosuch")
    assert said.code == 1
    assert said.out.startswith("model") and "There is no model 'nosuch'." in said.out and "marbles" not in said.out


def test_every_model_in_every_quantisation_and_precision_once(tmp_path):
    models = ["demo", "demo", "org/name"]
    made = plan(tmp_path, models, ["code-en"], quantize=["none", "nf4"], precision=["bf16"])
    assert [(each.model, each.quantize, each.precision) for each in made.candidates] == [
        ("demo", "none", "bf16"),
        ("demo", "nf4", "bf16"),
        ("org/name", "none", "bf16"),
        ("org/name", "nf4", "bf16"),
    ]


def test_a_run_is_meant_where_its_name_is_given_and_no_path(tmp_path):
    base = tiny_llama(tmp_path / "tiny")
    run = run_with_adapter(tmp_path / "runs", base, strength=None)
    first, second = plan(tmp_path / "runs", [run.id[:12], str(base)], ["code-en"]).candidates
    assert (first.run, second.run) == (str(run.path), "")
    run_with_adapter(tmp_path / "runs", base, strength=None)
    with pytest.raises(MoltingError, match="2 runs are meant"):
        plan(tmp_path / "runs", [run.id[:4]], ["code-en"])


def test_presets_of_the_user_are_known(tmp_path):
    assert list(plan(tmp_path, ["demo"], ["code-en"], wanted=["mine"], own={"mine": Preset(temperature=1.0)}).ways) == [
        "mine"
    ]
    with pytest.raises(MoltingError, match="no preset"):
        plan(tmp_path, ["demo"], ["code-en"], wanted=["mine"])
