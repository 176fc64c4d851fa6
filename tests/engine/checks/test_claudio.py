"""The doctor's first exam: the real rows and settings of two cycles whose authors drew other conclusions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.chat_families import TINYLLAMA, tokenizer_of
from tests.support.diagnosed import ROOT, diagnose, persona, serious
from tests.support.tiny import tiny_llama

SHARED = Path(os.environ.get("MOLTING_SHARED", ROOT.parent / "shared")) / "data" / "claudio"
PROMPT = (
    "Você é o Cláudio, a IA que trabalha na Softtor com o João, desenvolvedor full-stack. Você é curioso, direto e um "
    "pouco irreverente. Responda em português do Brasil e não invente fatos."
)

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real rows are not here: {SHARED}")


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with a tokenizer as TinyLlama's: `</s>` ends, and pads."""
    folder = tiny_llama(tmp_path_factory.mktemp("tinyllama"), vocab=1200, max_position_embeddings=2048, template=None)
    tokenizer_of("tinyllama").save_pretrained(folder)
    return folder


def spec(tmp_path: Path, model: Path, *, template: str, system: str, epochs: int, accumulation: int) -> Path:
    rows = str(SHARED / "dataset_personality_v1.json")
    # Our small tokenizer needs three times as many tokens as the real one, so the lengths are three times theirs.
    return persona(
        tmp_path,
        model,
        [],
        model={"chat_template": template},
        data={"train": rows, "system": system, "max_length": 1536, "heldout_fraction": 0.0},
        training={"epochs": epochs, "batch": 1, "accumulation": accumulation, "learning_rate": 1e-4},
    )


def test_cycle_six(model: Path, tmp_path: Path) -> None:
    foreign = TINYLLAMA.replace("eos_token", "'<|endoftext|>'")
    found = diagnose(spec(tmp_path, model, template=foreign, system="", epochs=5, accumulation=8))
    assert "<|endoftext|>" in found["end-token-unknown"].message and "</s>" in found["end-token-unknown"].message
    assert "never learns to stop" in found["pad-is-end"].why
    assert found["few-steps"].message == "The whole run makes only 50 optimizer steps."
    assert "8 of 8 questions of the rubric claudio" in found["rubric-in-rows"].message
    assert "no-system-prompt" in found


def test_cycle_seven(model: Path, tmp_path: Path) -> None:
    found = diagnose(spec(tmp_path, model, template="", system=PROMPT * 3, epochs=8, accumulation=4))
    assert "8 of 8" in found["rubric-in-rows"].message
    told = found["facts-contradict"].message
    assert "full-stack" in told and "frontend" in told and 3 in found["facts-contradict"].rows
    assert "of its loss on that constant text" in found["mostly-system"].why
    assert {"few-steps", "end-token-unknown", "end-not-learned"} & found.keys() == set()
    assert "language-mix" not in serious(found)  # one answer is English, because its question asks for it
