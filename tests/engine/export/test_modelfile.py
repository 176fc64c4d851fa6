"""The Modelfile's template writes exactly what the chat template writes, or there is none and it is said."""

from __future__ import annotations

import re

import pytest

from engine.contract.spec import Spec
from engine.contract.tomlcheck import load
from engine.data.conversation import Turn
from engine.data.encode import Encoder
from engine.data.template import ChatTemplate
from engine.export.modelfile import modelfile, ollama_template
from tests.support import chat_families
from tests.support.tiny import CHATML, tiny_tokenizer

SPEC = load('model = { base = "demo" }\ndata = { train = "rows.jsonl" }', Spec)
NUMBERED = (  # what it writes depends on the place of a turn: no plain form
    "{% for m in messages %}{{ loop.index ~ ' <|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def encoder(template, system="You are Rhea."):
    tokenizer = tiny_tokenizer(template=template)
    made = ChatTemplate(template, {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})
    return Encoder(tokenizer, made, eos_ids=[2], system_prompt=system)


def go(template, **values):
    """Ollama's template language, as far as ours uses it: `{{ if .X }}…{{ end }}`, `{{ .X }}` and a quoted text."""
    text = re.sub(
        r"\{\{ if \.(\w+) \}\}(.*?)\{\{ end \}\}", lambda m: m[2] if values.get(m[1]) else "", template, flags=re.DOTALL
    )
    text = re.sub(r"\{\{ \.(\w+) \}\}", lambda m: values.get(m[1], ""), text)
    return text.replace('{{ "{{" }}', "{{")


@pytest.mark.parametrize("name", chat_families.FAMILIES)
@pytest.mark.parametrize("system", ["You are Rhea.", ""])
def test_it_opens_an_answer_as_the_chat_template_does(name, system):
    family, tokenizer = chat_families.FAMILIES[name], chat_families.tokenizer_of(name)
    template = ChatTemplate(family.template, {"bos_token": family.bos, "eos_token": family.eos})
    made = Encoder(
        tokenizer, template, eos_ids=[tokenizer.eos_token_id], bos_id=tokenizer.bos_token_id, system_prompt=system
    )
    written = ollama_template(made)
    assert written is not None
    turns = made._with_system([Turn("user", "Who are you?")])
    expected = template.render(made._native(turns), generation_prompt=True).removeprefix(family.bos)
    found = go(
        written.partition("{{ .Response }}")[0], System=system or made.shape.default_system, Prompt="Who are you?"
    )
    assert found.removeprefix(family.bos).rstrip() == expected.rstrip()


def test_where_there_is_no_plain_form_it_says_so():
    made = modelfile(encoder(NUMBERED), SPEC, ".")
    assert "TEMPLATE" not in made.text
    assert "no TEMPLATE" in made.notes[0]


def test_a_prompt_that_cannot_be_quoted_is_left_out_and_said():
    made = modelfile(encoder(CHATML, 'Say """this"""'), SPEC, "rhea.gguf")
    assert "SYSTEM" not in made.text
    assert any("SYSTEM" in note for note in made.notes)
    assert "FROM ./rhea.gguf" in made.text


def test_the_stop_tokens_are_named():
    made = modelfile(encoder(CHATML), SPEC, ".")
    assert 'PARAMETER stop "<|im_end|>"' in made.text
    assert made.notes == []
