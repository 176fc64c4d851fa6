from __future__ import annotations

import pytest

from engine.contract import bench, places
from engine.contract.bench import Benched, Said
from engine.contract.errors import MoltingError
from tests.support.benches import FAST, LOST, PROMPTS, SLOW, row, said, written


def test_what_was_written_is_read(tmp_path):
    found = written(tmp_path)
    assert [each.candidate for each in found.rows] == [FAST, SLOW, LOST]
    assert found.header.prompts == PROMPTS
    assert found.complete
    assert (found.answer(0, "sum").text, found.answer(1, "sum").text, found.answer(2, "sum")) == (
        "4",
        "Four, I think.",
        None,
    )
    assert bench.listed(tmp_path) == [bench.folder(tmp_path) / f"{found.id}.jsonl"]
    assert bench.listed(tmp_path)[0].stat().st_mode & 0o077 == 0


def test_one_that_was_interrupted_is_read_as_far_as_it_came(tmp_path):
    found = written(tmp_path, Benched(rows=[row(FAST)], said=said(0, "a", "b")))
    assert not found.complete
    assert len(found.rows) == 1


def test_damage_and_torn_tails_are_passed_over(tmp_path):
    found = written(tmp_path)
    path = bench.listed(tmp_path)[0]
    lines = path.read_bytes().splitlines()
    lines[2:2] = [b"[" * 20_000, b"nonsense", b'{"k":"said","row":99,"prompt":"who","text":"","tokens":1,"stop":"end"}']
    path.write_bytes(b"\n".join(lines) + b'\n{"k":"row"')
    assert bench.load(path).said == found.said


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\xff\n", b"[" * 30_000 + b"\n"])
def test_what_is_no_bench_is_one_sentence(tmp_path, content):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(MoltingError, match="not a saved bench"):
        bench.load(tmp_path / "x.jsonl")


def test_an_endless_answer_is_kept_in_part(tmp_path):
    endless = Said(row=0, prompt="who", text="é" * 2_000_000, tokens=1, stop="cap")
    found = written(tmp_path, Benched(rows=[row(FAST)], said=[endless]))
    assert 1000 < len(found.answer(0, "who").text) < 2_000_000


def test_every_set_ships_in_both_languages_and_can_be_asked_together():
    names = bench.shipped()
    families = {name.rpartition("-")[0] for name in names}
    assert families == {"reasoning", "code", "function-calling", "creative", "identity"}
    assert {f"{family}-{language}" for family in families for language in ("en", "pt")} == set(names)
    assert len(bench.read_prompts(["all"])) == sum(len(bench.read_prompts([name])) for name in names)
    assert all(prompt.system for prompt in bench.read_prompts(["function-calling"]))
    assert [prompt.id for prompt in bench.read_prompts(["code"])] == [
        prompt.id for name in ("code-en", "code-pt") for prompt in bench.read_prompts([name])
    ]


def test_a_text_file_is_one_prompt_a_line(tmp_path):
    (tmp_path / "mine.txt").write_text("\ufeffOne?\n\n  Two?  \n", encoding="utf-8")
    found = bench.read_prompts([str(tmp_path / "mine.txt")])
    assert [prompt.text for prompt in found] == ["One?", "Two?"]
    assert len({prompt.id for prompt in found}) == 2


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"\n \n", "no prompts"),
        ("a.txt", b"\xff\xfe\xff", "cannot be read"),
        ("a.toml", b'title = "x"\nlanguage = "en"\nprompts = []', "prompts"),
        ("a.toml", b"prompts = " + b"[" * 5000, "nested"),
        ("a.toml", b'title = "x"\nlanguage = "en"\n[[prompts]]\nid = "a"\ntext = "b"\nmore = 1', "more"),
        ("a.txt", b"x\n" * 500, "500 prompts"),
    ],
)
def test_prompts_that_are_none_are_one_sentence(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MoltingError, match=words) as refused:
        bench.read_prompts([str(tmp_path / name)])
    assert refused.value.code == 2


def test_a_name_that_is_none_names_those_there_are():
    with pytest.raises(MoltingError, match="no prompts 'poetry'") as refused:
        bench.read_prompts(["poetry"])
    assert "reasoning-pt" in refused.value.remedy


def test_the_same_prompts_twice_cannot_be_told_apart():
    with pytest.raises(MoltingError, match="Two prompts"):
        bench.read_prompts(["code-en", "code"])
    assert (places.shipped() / "prompts").is_dir()
