"""The doctor's word on a stretched context."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.checks import gather, rope
from engine.checks.case import Case
from engine.contract.events import Funnel
from engine.contract.spec import Data, Model, Rope, Spec
from engine.data.rows import EncodedRow


def case(kind: Any, factor: float, lengths: list[int], *, window: int = 512, unstretchable: str = "") -> Case:
    spec = Spec(model=Model(base="x", rope=Rope(type=kind, factor=factor)), data=Data(train="x"))
    rows = [EncodedRow([1] * length, [1] * length, [], length) for length in lengths]
    funnel = Funnel(read=len(rows), heldout=0, trained=len(rows))
    return Case(spec, None, funnel, rows, window=window, unstretchable=unstretchable)


def found(looked_at: Case) -> dict[str, Any]:
    return {finding.id: finding for check in rope.CHECKS for finding in check(looked_at)}


@pytest.mark.parametrize(
    ("kind", "severity", "said"),
    [
        ("linear", "warning", "every distance becomes 1/4"),
        ("dynamic", "note", "up to 512 tokens stay exactly as they were"),
        ("yarn", "note", "sharper by 30%"),
    ],
)
def test_what_short_texts_lose_is_said(kind: str, severity: str, said: str) -> None:
    (finding,) = found(case(kind, 4.0, [100, 900])).values()
    assert (finding.id, finding.severity) == ("rope-short-texts", severity)
    assert said in finding.message
    assert "2,048 tokens of window, the longest row has 900" in finding.evidence


def test_nothing_is_said_where_nothing_is_stretched() -> None:
    assert found(case("none", 4.0, [900])) == {}
    assert found(case("yarn", 1.0, [900])) == {}


def test_a_stretched_part_that_hardly_any_row_reaches() -> None:
    looked_at = found(case("yarn", 4.0, [100] * 30 + [900]))
    assert "Of 31 rows, 1 reach beyond the model's own 512 tokens" in looked_at["rope-hardly-trained"].message


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "llama", "rope_theta": 1e4}, ""),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, ""),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "already stretches its context (linear)"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "already stretches its context (llama3)"),
        ({"rope_parameters": {"full": {"rope_type": "default"}, "sliding": {}}}, "several kinds"),
        ({"model_type": "gpt2", "n_positions": 1024}, "no rotary positions"),
        ({"model_type": "falcon", "alibi": True}, "no rotary positions"),
    ],
)
def test_the_model_s_own_configuration_decides(tmp_path: Path, config: dict[str, Any], why: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    said = gather.unstretchable(tmp_path)
    assert (why in said) and bool(said) == bool(why)
    findings = found(case("linear", 2.0, [900], unstretchable=said))
    assert ("rope-refused" in findings) == bool(why)
    if why:
        assert why in findings["rope-refused"].message
        assert findings["rope-refused"].fix[0].key == "model.rope.type"
