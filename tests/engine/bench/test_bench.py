"""One candidate, really loaded and really asked."""

from __future__ import annotations

import json

import pytest

from engine.bench.bench import bench
from engine.contract import calls
from engine.contract.bench import BenchRequest, Candidate, Prompt, Way
from engine.contract.errors import MoltingError
from engine.contract.spec import Generation
from engine.infer.session import open_session
from tests.support.tiny import tiny_llama
from tests.support.trained_runs import PROBES, run_with_adapter

WAYS = [
    Way(preset="deterministic", options=Generation(max_new_tokens=8)),
    Way(preset="creative", options=Generation(max_new_tokens=8, temperature=1.5, seed=3)),
]
PROMPTS = [Prompt(id=str(number), text=text) for number, text in enumerate(PROBES[:3])]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("m") / "tiny", initializer_range=0.1)


def asked(tmp_path, told=None, ways=WAYS, prompts=PROMPTS, **candidate):
    request = BenchRequest(
        candidate=Candidate(**candidate), models=str(tmp_path / "models"), prompts=prompts, ways=ways
    )
    return bench(request, (lambda line: None) if told is None else told.append)


def test_every_way_is_a_row_and_every_prompt_an_answer(base, tmp_path):
    told = []
    found = asked(tmp_path, told, model=str(base), precision="fp32")
    assert [row.preset for row in found.rows] == ["deterministic", "creative"]
    assert [(said.row, said.prompt) for said in found.said] == [(n, p.id) for n in (0, 1) for p in PROMPTS]
    for number, row in enumerate(found.rows):
        mine = [said for said in found.said if said.row == number]
        assert row.tokens == sum(said.tokens for said in mine)
        assert (row.ended, row.cut) == tuple(sum(said.stop == stop for said in mine) for stop in ("end", "cap"))
        assert (row.precision, row.quantization, row.device) == ("fp32", "none", "cpu")
        assert row.load_seconds > 0 and row.seconds > 0 and row.per_second > 0 and row.peak_bytes >= 0
    assert {said.text for said in found.said if said.row == 0} != {said.text for said in found.said if said.row == 1}
    phases = {line.phase for line in told if isinstance(line, calls.Progress)}
    assert {"loading the model", "answering, deterministic", "answering, creative"} <= phases


def test_a_run_answers_as_ask_does(base, tmp_path):
    """Behind its own system prompt and with what it learned; the answers are those of `molting ask`."""
    run = run_with_adapter(tmp_path / "runs", base, strength=0.1)
    session = open_session(run, tmp_path / "models", lambda line: None)
    prompts = session.prompts(PROBES[:3])
    expected, _, _ = session.answer(PROBES[:3], prompts, WAYS[0].options, lambda line: None)
    found = asked(tmp_path, ways=WAYS[:1], model=run.id, run=str(run.path))
    assert [said.text for said in found.said] == [pair.adapter.text for pair in expected]
    assert [said.text for said in found.said] != [pair.base.text for pair in expected]


def test_four_bits_take_less_and_a_prompt_brings_its_own_system_prompt(base, tmp_path):
    plain = asked(tmp_path, ways=WAYS[:1], model=str(base), precision="fp32")
    small = asked(tmp_path, ways=WAYS[:1], model=str(base), precision="fp32", quantize="nf4")
    assert small.rows[0].quantization == "nf4"
    assert small.rows[0].weight_bytes < plain.rows[0].weight_bytes
    told_so = [Prompt(id="0", text=PROBES[0], system="Answer in digits.")]
    assert asked(tmp_path, ways=WAYS[:1], prompts=told_so, model=str(base)).said[0].text != plain.said[0].text


def test_a_fully_tuned_run_is_asked_too(base, tmp_path):
    from engine.contract import durable

    run = run_with_adapter(tmp_path / "runs", base, strength=None, method={"kind": "full"})
    tuned = tiny_llama(run.path / ".adapter-1", initializer_range=0.1, seed=5)
    (tuned / "tokenizer.json").unlink()
    durable.seal(tuned, run.adapter, step=10)
    found = asked(tmp_path, ways=WAYS[:1], model=run.id, run=str(run.path))
    before = asked(tmp_path, ways=WAYS[:1], model=str(base))
    assert found.said[0].text != before.said[0].text


def broken(tmp_path, kind):
    if kind == "no template":
        return tiny_llama(tmp_path / "plain", template=None), "no chat template"
    folder = tiny_llama(tmp_path / kind)
    if kind == "no weights":
        (folder / "model.safetensors").unlink()
        return folder, "no weight files at all"
    (folder / "tokenizer.json").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder, "tokenizer"


@pytest.mark.parametrize("kind", ["no template", "no weights", "no tokenizer"])
def test_what_cannot_be_asked_is_one_sentence_before_anything_is_loaded(tmp_path, kind):
    folder, words = broken(tmp_path, kind)
    told = []
    with pytest.raises(MoltingError, match=words):
        asked(tmp_path, told, model=str(folder))
    assert "loading the model" not in {line.phase for line in told if isinstance(line, calls.Progress)}


def test_no_room_is_said_beforehand(base, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.infer.fit.free", lambda device: 1000)
    with pytest.raises(MoltingError, match="not loaded"):
        asked(tmp_path, model=str(base))
