from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract import tomlcheck
from engine.contract.errors import MoltingError
from engine.contract.spec import Spec
from molting_tui.state.spec_form import SpecForm, fields, of_run

TEXT = """# my persona
name = "rhea"  # shown

[model]
base = "demo"  # small

[data]
train = "rows.jsonl"   # sixty rows

[training]
learning_rate = 1e-3  # hot
epochs = 4
"""
FIELDS = {field.key: field for field in fields()}


def form(text: str = TEXT) -> SpecForm:
    return SpecForm(text, Path("/persona"))


def test_every_key_a_person_may_write_is_a_field() -> None:
    assert "training.learning_rate" in FIELDS and "model.rope.factor" in FIELDS
    assert not {"data.sha256", "model.fingerprint"} & FIELDS.keys()
    assert all(field.description for field in FIELDS.values())


def test_nothing_typed_changes_nothing() -> None:
    one = form()
    for key, field in FIELDS.items():
        one.put(field, one.value(key))
    assert one.text() == TEXT


def test_a_value_changes_and_its_comment_stays() -> None:
    one = form()
    one.put(FIELDS["training.learning_rate"], "2e-4")
    one.put(FIELDS["name"], "zeca")
    assert "learning_rate = 2e-4  # hot" in one.text()
    assert 'name = "zeca"  # shown' in one.text()
    assert one.value("training.learning_rate") == "2e-4"
    assert tomlcheck.load(one.text(), Spec).training.learning_rate == 2e-4


def test_a_key_that_was_not_there_comes_and_goes() -> None:
    one = form()
    one.put(FIELDS["method.rank"], "32")
    one.put(FIELDS["method.target_modules"], '["q_proj", "v_proj"]')
    read = tomlcheck.load(one.text(), Spec)
    assert (read.method.rank, read.method.target_modules) == (32, ["q_proj", "v_proj"])
    one.put(FIELDS["method.rank"], " ")
    assert tomlcheck.load(one.text(), Spec).method.rank == 16


VALID = {
    "model.base": "demo",
    "method.kind": "lora",
    "data.stream": "auto",
    "launcher.time": "8:00:00",
    "launcher.extra": '["--mem=8G"]',
}


@pytest.mark.parametrize(
    ("key", "typed", "said"),
    [
        ("method.rank", "0", "expected a whole number from 1 to 1024"),
        ("method.rank", "many", '"many" cannot be read'),
        ("method.kind", "lara", 'Did you mean "lora"?'),
        ("training.learning_rate", "-1", "expected a number above 0"),
        ("training.learning_rate", "atuo", "cannot be read"),
        ("model.base", "", "model.base is missing"),
        ("data.stream", "perhaps", "cannot be read"),
        ("training.epochs", "4]\nx = [1", "cannot be read"),
        ("launcher.time", "8h", '"8:00:00"'),
        ("launcher.extra", '["--output=x"]', "which Molting says itself"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(key: str, typed: str, said: str) -> None:
    one = form()
    one.put(FIELDS[key], typed)
    assert list(one.problems()) == [key]
    assert said in one.problems()[key]
    one.put(FIELDS[key], VALID.get(key, "1"))
    assert one.problems() == {}


def test_words_and_numbers_share_a_field() -> None:
    one = form()
    one.put(FIELDS["training.save_every"], "auto")
    assert one.problems() == {}
    one.put(FIELDS["training.save_every"], "20")
    assert tomlcheck.load(one.text(), Spec).training.save_every == 20


def test_text_that_looks_like_toml_stays_text() -> None:
    one = form()
    nasty = 'x"\n[model]\nbase = "evil" # \\'
    one.put(FIELDS["data.system"], nasty)
    read = tomlcheck.load(one.text(), Spec)
    assert (read.data.system, read.model.base) == (nasty.strip(), "demo")


def test_a_spec_that_stands_alone_names_its_files_absolutely() -> None:
    text = TEXT.replace('name = "rhea"  # shown', "").replace('"demo"', '"./model"')
    alone = tomlcheck.load(SpecForm(text, Path("/persona")).standing_alone(lambda path: False), Spec)
    assert (alone.data.train, alone.model.base, alone.name) == ("/persona/rows.jsonl", "/persona/model", "persona")


def test_a_hub_id_is_not_taken_for_a_path_unless_there_is_one() -> None:
    one = form(TEXT.replace('"demo"', '"org/model"'))
    assert tomlcheck.load(one.standing_alone(lambda path: False), Spec).model.base == "org/model"
    assert tomlcheck.load(one.standing_alone(lambda path: True), Spec).model.base == "/persona/org/model"


def test_a_copy_of_a_run_is_its_child_and_forgets_what_was_frozen() -> None:
    frozen = TEXT + '\n[evaluation]\nprobes = "inputs/probes.txt"\n'
    frozen = frozen.replace("[data]", '[data]\nsha256 = "00"').replace("[model]", '[model]\nfingerprint = "ff"')
    read = tomlcheck.load(of_run(frozen, "rhea-1", Path("/runs/rhea-1"), "rhea").text(), Spec)
    assert (read.parent, read.data.sha256, read.model.fingerprint) == ("rhea-1", "", "")


def test_a_copy_of_a_run_leaves_out_keys_that_are_none_any_more() -> None:
    frozen = "gone = 1\n" + TEXT.replace("[data]", "[data]\nrows = 0")
    frozen += '\n[attic]\nbox = 1\n[data.fields]\nturns = "x"\n'
    copy = of_run(frozen, "rhea-1", Path("/runs/rhea-1"), "rhea")
    assert copy.problems() == {}
    assert "gone" not in copy.text() and "rows =" not in copy.text() and "attic" not in copy.text()
    assert tomlcheck.load(copy.text(), Spec).data.fields == {"turns": "x"}


@pytest.mark.parametrize("text", ["= 1", "a = ", "[" * 5000, "a = 1\na = 2", "\x00"])
def test_what_is_not_toml_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(MoltingError, match="not valid TOML"):
        form(text)


def test_sections_written_as_inline_tables_are_edited_too() -> None:
    one = form('model = { base = "demo" }\ndata = { train = "rows.jsonl" }\n')
    one.put(FIELDS["data.max_length"], "512")
    one.put(FIELDS["method.rank"], "8")
    read = tomlcheck.load(one.text(), Spec)
    assert (read.data.max_length, read.method.rank, read.model.base) == (512, 8, "demo")


def test_the_files_of_a_sweep_are_found_from_another_folder(tmp_path: Path) -> None:
    text = 'model.base = "demo"\ndata.train = "a.jsonl"\n[sweep]\ngrid = { "data.train" = ["a.jsonl", "b.jsonl"] }\n'
    form = SpecForm(text, tmp_path)
    assert form.sweeps and not SpecForm("[sweep]\nstop_worse = true\n", tmp_path).sweeps
    alone = tomlcheck.load(form.standing_alone(lambda path: False), Spec)
    assert alone.sweep.grid == {"data.train": [f"{tmp_path}/a.jsonl", f"{tmp_path}/b.jsonl"]}
    wrong = SpecForm(text + 'runs = [{ "method.rank" = 0 }]\n', tmp_path)
    assert any("method.rank is 0" in said for said in wrong.problems().values())
    wrong.standing_alone(lambda path: False)  # what is wrong with it hinders no copy
