"""Room for a model: refused with a sentence, but not while the inference host could give its memory back."""

from __future__ import annotations

import pytest

from engine.contract import host, host_client
from engine.contract.errors import MoltingError
from engine.infer import fit
from engine.models.build import LoadOptions
from tests.support.tiny import tiny_llama

PLENTY, NOTHING = 10**12, 10


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("m") / "tiny")


def played(monkeypatch, free, freed):
    """`free`: what is free, question by question; `freed`: what the host says."""
    amounts, asked = iter(free), []
    monkeypatch.setattr(fit, "free", lambda device: next(amounts))
    monkeypatch.setattr(host_client, "ask_to_free", lambda device, why: asked.append(why) or freed)
    return asked


def test_a_host_that_is_not_in_the_way_is_not_asked(model, monkeypatch):
    asked = played(monkeypatch, [PLENTY], None)
    fit.make_room(model, LoadOptions(), "a merge starts")
    assert asked == []


def test_the_host_gives_its_memory_back_before_anything_is_refused(model, monkeypatch):
    asked = played(monkeypatch, [NOTHING, PLENTY], host.Freed(id="1", bytes=5))
    fit.make_room(model, LoadOptions(), "a merge starts")
    assert asked == ["a merge starts"]


@pytest.mark.parametrize(
    ("free", "freed"),
    [
        ([NOTHING], None),
        ([NOTHING], host.Freed(id="1", busy="chat for an app")),
        ([NOTHING, NOTHING], host.Freed(id="1", bytes=5)),
    ],
)
def test_where_that_does_not_help_it_is_refused(model, monkeypatch, free, freed):
    played(monkeypatch, free, freed)
    with pytest.raises(MoltingError, match="not loaded"):
        fit.make_room(model, LoadOptions(), "a merge starts", copies=2)
