from __future__ import annotations

import re
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.safe import redact, safe


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2J\x1b]52;c;aGk=\x07", "␛[2J␛]52;c;aGk=␇"),
        ("\x9b31m \x85", "\\x9b31m \\x85"),
        ("score 2\rscore 9\b", "score 2␍score 9␈"),
        ("\u202etxt.exe\u2066", "\\u202etxt.exe\\u2066"),
        ("a\u200bb\ufeffc\u2028", "a\\u200bb\\ufeffc\\u2028"),
        ("half \ud83d emoji", "half \\ud83d emoji"),
        ("\U000e0041\ue000\x7f", "\\U000e0041\\ue000␡"),
        ("\x00", "␀"),
    ],
)
def test_what_acts_is_made_visible(hostile: str, shown: str) -> None:
    assert safe(hostile) == shown


@pytest.mark.parametrize(
    "text", ["Olá, ação! ❤️ 🦀", "日本語 हिन्दी ไทย", "a\n\tb", "e\u0301", "[bold]markup is not our matter"]
)
def test_what_is_harmless_stays(text: str) -> None:
    assert safe(text) == text


def test_newlines_can_be_shown_too() -> None:
    assert safe("a\n\tb", keep_newlines=False) == "a␊␉b"


def test_towers_of_marks_are_cut() -> None:
    assert len(safe("e" + "\u0301" * 10_000 + "!")) < 10


@given(st.text(st.characters(codec=None)))
def test_nothing_that_acts_is_left(text: str) -> None:
    shown = safe(text)
    shown.encode()
    kinds = {unicodedata.category(character) for character in shown if character not in "\n\t"}
    assert not kinds & {"Cc", "Cs", "Co", "Zl", "Zp"}
    assert not re.search("[\u200b-\u200f\u202a-\u202e\u2060-\u206f]", shown)
    assert safe(shown) == shown


SECRETS = [
    "hf_abcdefghijklmnopqrstuvwxyz012345",
    "sk-proj-abcdefghijklmnop",
    "sk-ant-api03-abcdefghijklmnop",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_11ABCDEFG_abcdefghij",
    "xoxb-123456789012-abcdefghij",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_tokens_are_hidden_wherever_they_stand(secret: str) -> None:
    for text in (secret, f"key={secret}", f'{{"token": "{secret}"}}', f"({secret})", f"a\n{secret}\nb"):
        assert secret not in redact(text) and "[hidden]" in redact(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc123def456", "Authorization: Bearer [hidden]"),
        ("authorization: Basic dXNlcjpwYXNz", "authorization: Basic [hidden]"),
        ("https://user:pa@ss@host/x", "https://[hidden]@host/x"),
        ("HF_TOKEN=anything", "HF_TOKEN=[hidden]"),
        ("password: hunter2, user: me", "password: [hidden], user: me"),
        ('"api_key": "abcd1234"', '"api_key": "[hidden]"'),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc=\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----[hidden]-----END RSA PRIVATE KEY-----",
        ),
    ],
)
def test_secrets_are_hidden_and_the_rest_stays(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "num_tokens: 238",
        "eos_token='</s>'",
        "risk-management-and-more",
        "/data/hf_cache",
        "https://host/a@b",
        "basic understanding",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "unit", ["a-", "a.a", "eyJ-", "eyJaaaaaaaaaaa.", "-----BEGIN PRIVATE KEY-----", "a://", "A_", "sk-"]
)
def test_no_text_takes_more_than_linear_time(unit: str) -> None:
    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        began = time.perf_counter()
        redact(text)
        safe(text)
        return time.perf_counter() - began

    once = min(seconds(50_000) for _ in range(3))
    assert min(seconds(400_000) for _ in range(2)) < 8 * 4 * once + 0.05
