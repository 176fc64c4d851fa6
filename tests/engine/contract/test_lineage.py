from __future__ import annotations

from engine.contract.lineage import differences
from engine.contract.spec import Data, Evaluation, Method, Model, Spec, Sweep


def test_a_child_is_told_by_what_it_has_otherwise() -> None:
    before = Spec(
        name="a",
        model=Model(base="demo", fingerprint="1"),
        data=Data(train="/runs/a/inputs/rows.jsonl", sha256="1", date="2026-01-01"),
    )
    after = Spec(
        name="b",
        parent="a",
        model=Model(base="demo", fingerprint="1"),
        data=Data(train="/runs/b/inputs/rows.jsonl", sha256="2", date="2026-01-02", system="You are Rhea. " * 9),
        method=Method(rank=8, rslora=True),
        evaluation=Evaluation(probes="/runs/b/inputs/probes.txt"),
        sweep=Sweep(id="s"),
    )
    assert [str(each) for each in differences(before, after)] == [
        "data.system changed",
        "data.train changed",
        "method.rank 16 → 8",
        "method.rslora no → yes",
        "evaluation.probes no → yes",
    ]
    assert differences(after, after) == []
