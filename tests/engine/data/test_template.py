"""Templates: which one is used, what the sandbox shares with transformers, and what it stops."""

from __future__ import annotations

import gc
import os
import time
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from engine.contract.errors import MoltingError
from engine.data.conversation import BadRow, Turn
from engine.data.template import ChatTemplate, template_names, template_source

HI = [Turn("user", "Hi")]

QUIRKS = """
{%- set ns = namespace(found=false, n=0) %}
{%- for message in messages -%}
    {% if loop.index0 > 3 %}{% break %}{% endif %}
    {%- if message.role == 'system' %}{% continue %}{% endif -%}
    {%- set ns.n = ns.n + 1 %}
    {%- set d = dict(a=1, **{'é': '<&>'}) %}
    {{- ns.n ~ d | tojson ~ message['content'] | trim | upper }}
    {% generation %}{{ message.content }}{% endgeneration %}
{%- endfor %}
  {% if tools is not none %}tools{% endif %}
{{ strftime_now('%Y') }} {{ bos_token }}|{{ missing }}|{{ [1, 2] | tojson(indent=2) }}
"""


def test_the_environment_writes_what_transformers_writes() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    turns = [Turn("system", "s"), Turn("user", " hi <b> "), Turn("assistant", "yo\n"), Turn("user", "ç")]
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]

    (theirs,), _ = render_jinja_template(conversations=[messages], chat_template=QUIRKS, bos_token="<s>")

    assert ChatTemplate(QUIRKS, {"bos_token": "<s>"}).render(turns) == theirs


def test_the_date_a_template_writes_can_be_held_still() -> None:
    template = ChatTemplate("{{ strftime_now('%d %b %Y') }}", now=datetime(2024, 7, 26, 12))

    assert template.render(HI) == "26 Jul 2024"


@pytest.mark.parametrize(
    "escape",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__.os }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ namespace(__class__=1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ messages.append(1) }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_a_template_cannot_reach_python(escape: str) -> None:
    with pytest.raises(BadRow, match="refused by the chat template"):
        ChatTemplate(escape).render(HI)


def test_a_template_that_loops_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    template = ChatTemplate("{% if messages[0].content == 'hang' %}" + loop + "{% endif %}ok")
    start = time.monotonic()

    with pytest.raises(MoltingError, match=r"took more than 5 s.*was stopped.*Give another"):
        template.render([Turn("user", "hang")])

    assert time.monotonic() - start < 60
    assert template.render(HI) == "ok"  # a new child serves the next one


@pytest.mark.parametrize(
    "bomb",
    [
        "{{ 'a' * 10000000000 }}",
        "{% set ns = namespace(x='aaaa') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{{ '%10000000000d' % 1 }}",
        "{{ 'a' * 100000000 }}",
    ],
)
def test_a_template_that_eats_memory_is_stopped(bomb: str) -> None:
    before = psutil.Process().memory_info().rss

    with pytest.raises(MoltingError, match="was stopped"):
        ChatTemplate(bomb).render(HI)

    assert psutil.Process().memory_info().rss - before < 200 << 20


def test_a_template_that_does_not_compile_says_so() -> None:
    with pytest.raises(BadRow, match="does not compile"):
        ChatTemplate("{% if %}").render(HI)


def test_the_child_sees_no_secrets_and_ends_with_its_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    template = ChatTemplate("ok")
    others = set(psutil.Process().children())
    template.render(HI)
    (child,) = set(psutil.Process().children()) - others

    assert "HF_TOKEN" not in child.environ()
    del template
    gc.collect()
    assert not child.is_running()


def test_a_forked_worker_renders_with_a_child_of_its_own() -> None:
    template = ChatTemplate("{{ messages[0].content }}")
    assert template.render(HI) == "Hi"
    pid = os.fork()
    if pid == 0:
        os._exit(0 if template.render([Turn("user", "forked")]) == "forked" else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert template.render(HI) == "Hi"


def test_text_of_any_kind_passes_through_unchanged() -> None:
    template = ChatTemplate("{{ messages[0].content }}")

    for text in ("é\u202e\u0000\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), "\n", "\\n\"{{'", ""):
        assert template.render([Turn("user", text)]) == text


def test_the_template_comes_from_the_spec_or_the_model(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("from a file")

    assert template_source("", "the model's") == "the model's"
    assert template_source("", None) is None
    assert template_source("none", "the model's") is None
    assert template_source("{{ inline }}", None) == "{{ inline }}"
    assert template_source("own.jinja", None, tmp_path) == "from a file"
    assert "<|im_start|>" in str(template_source("chatml", None))
    assert {"chatml", "zephyr", "phi3", "llama3", "mistral", "gemma", "qwen"} <= set(template_names())


@pytest.mark.parametrize("wanted", ["zephir", "/etc", "../../x", "a\x00b", "x" * 5000])
def test_an_unknown_template_is_refused_with_the_known_ones(wanted: str) -> None:
    with pytest.raises(MoltingError, match=r"no chat template.*zephyr"):
        template_source(wanted, None)


def test_a_template_that_cannot_hold_a_question_and_an_answer_is_refused() -> None:
    from engine.data.encode import Encoder
    from tests.support.chat_families import CHATML_SPECIALS, byte_level

    tokenizer = byte_level(CHATML_SPECIALS)

    for source in ("constant", "{{ messages[0].content }}", "{{ raise_exception('never') }}", "{% if %}"):
        with pytest.raises(MoltingError, match="cannot be used for a question and its answer"):
            Encoder(tokenizer, ChatTemplate(source), eos_ids=[0])


def test_the_shipped_mistral_template_writes_the_published_format() -> None:
    turns = [Turn("user", "Hi"), Turn("assistant", "Hello."), Turn("user", "Bye")]
    source = template_source("mistral", None)
    assert source is not None
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})

    assert template.render(turns, generation_prompt=True) == "<s>[INST] Hi [/INST] Hello.</s>[INST] Bye [/INST]"
    with pytest.raises(BadRow, match="must take turns"):
        template.render([Turn("system", "Be brief."), *turns])
