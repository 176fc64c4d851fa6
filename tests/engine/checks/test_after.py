"""The checks after a training: each with a planted fault, and a sound run in which none of them speaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.checks.after import Basis, Trained, after, findings, twins
from engine.checks.history import History, tell
from engine.checks.recall import Said, by_question, constant_share, overlap
from engine.contract import durable, events
from engine.contract.spec import Data, Model, Spec, Training
from engine.data.conversation import Conversation, Turn
from engine.train.plan import rate_share
from tests.support.runs import Recorded, make_run

SHARED = Path(os.environ.get("MOLTING_SHARED") or Path(__file__).resolve().parents[4] / "shared")
CLAUDIO = SHARED / "data" / "claudio"


def metric(step, loss=1.0, norm=1.0, rate=1e-3):
    return events.Metric(
        step=step, loss=loss, grad_norm=norm, lr=rate, tokens=10, learned=238, rows=2, seconds=0.1, epoch=0.1
    )


def start(step=0, steps=40):
    return events.Start(
        step=step, steps=steps, device="cpu", precision="fp32", path="packed", trainable=1, parameters=10
    )


def history(*metrics, evals=(), steps=40):
    logged = [events.Eval(step=step, loss=loss, rows=4, seconds=0.1) for step, loss in evals]
    return tell([start(steps=steps), *metrics, *logged])


def sound(count=40, **changes):
    """A curve that falls from 4 to 1 and is flat at its end."""
    return [metric(n, **({"loss": 1.0 + 3.0 / n, "rate": rate(n, count)} | changes)) for n in range(1, count + 1)]


def rate(step, steps, peak=1e-3):
    return peak * rate_share(step - 1, steps, 2, "cosine")


SPEC = Spec(model=Model(base="demo"), data=Data(train="rows.jsonl"), training=Training(learning_rate=1e-3))


def ids(run):
    return {finding.id for finding in findings(run)}


def only(run, id):
    (found,) = [finding for finding in findings(run) if finding.id == id]
    return found


def test_a_sound_run_is_only_told_what_its_mean_is():
    run = Trained(history=history(*sound(), evals=[(10, 2.0), (20, 1.5), (40, 1.49)]), spec=SPEC, state="finished")
    assert ids(run) <= {"mean-not-last"}
    assert ids(Trained()) == set()


def test_the_mean_is_not_the_last():
    found = only(Trained(mean_loss=0.917, last_loss=0.556), "mean-not-last")
    assert "0.917" in found.message and "0.556" in found.message
    assert ids(Trained(mean_loss=0.56, last_loss=0.556)) == set()


@pytest.mark.parametrize(
    ("metrics", "id", "words"),
    [
        (sound(loss=0.0, norm=0.0), "loss-zero", "All 40 steps"),
        (sound(norm=0.0), "gradient-zero", "All 40 steps"),
        ([*sound()[:-1], metric(40, loss=None, rate=0)], "not-finite", "1 of 40 steps"),
        ([metric(1, loss=6.67, norm=449.0), *sound()[1:]], "gradient-huge", "449"),
        (sound(rate=0.0), "rate-zero", "All 40 steps"),
        (sound(rate=1e-4), "rate-not-applied", "planned"),
        (sound(loss=2.0), "loss-not-falling", "2.000 at the beginning"),
        ([*sound()[:30], *(metric(n, loss=6.0) for n in range(31, 41))], "loss-diverged", "diverged"),
        ([metric(n, loss=4.0 - n / 11) for n in range(1, 41)], "still-falling", "still falling"),
    ],
)
def test_a_curve_with_a_fault(metrics, id, words):
    found = only(Trained(history=history(*metrics), spec=SPEC), id)
    assert words in f"{found.message} {found.evidence}"
    assert found.remedy


def test_over_fitting_is_told_with_its_best_step_and_mended():
    evals = [(10, 2.0), (20, 1.5), (30, 1.7), (40, 2.1)]
    found = only(Trained(history=history(*sound(), evals=evals)), "over-fitted")
    assert "best at step 20 (1.500) and rose to 2.100" in found.message
    assert [(change.key, change.value) for change in found.fix] == [("training.keep_best", True)]


def risen(to):
    """A curve that is at 1 for most of its steps and `to` at its end."""
    return Trained(history=history(*sound()[:10], *(metric(n, loss=1.0 if n < 36 else to) for n in range(11, 41))))


def at_rate(share):
    """A sound run at `share` of the rates that were planned."""
    steps = [metric(n, loss=1.0 + 3.0 / n, rate=share * rate(n, 40)) for n in range(1, 41)]
    return Trained(history=history(*steps), spec=SPEC)


def held_out(last):
    return Trained(history=history(*sound(), evals=[(10, 2.0), (20, 1.0), (40, last)]))


def cut(many, count):
    return Trained(answers=[Said(f"q{n}", "and so on", cut=n < many) for n in range(count)])


def recalling(runs):
    """Two answers that have `runs` of 40 four-word runs in common with what was trained."""
    words = [f"w{n}" for n in range(43)]
    said = " ".join([*words[: runs + 3], *(f"x{n}" for n in range(40 - runs))])
    return Trained(answers=[Said("a", said), Said("b", said)], trained={each: [" ".join(words)] for each in "ab"})


@pytest.mark.parametrize(
    ("id", "over", "under"),
    [
        ("loss-diverged", risen(2.05), risen(1.9)),
        ("over-fitted", held_out(1.06), held_out(1.04)),
        ("cap-hit", cut(3, 5), cut(2, 4)),
        ("little-recalled", recalling(3), recalling(4)),
        ("rate-not-applied", at_rate(0.8), at_rate(0.95)),
    ],
)
def test_it_speaks_from_its_limit_on_and_not_before(id, over, under):
    assert id in ids(over)
    assert id not in ids(under)


@pytest.mark.parametrize(("made", "id", "words"), [(12, "ended-early", "12 of 40"), (0, "no-steps", "0 of 40")])
def test_fewer_steps_than_planned(made, id, words):
    run = Trained(history=history(*sound()[:made]), state="failed")
    assert words in only(run, id).message
    assert id not in ids(Trained(history=history(*sound()[:made]), state="training"))


def test_early_stopping_meant_to_end():
    log = [start(), *sound()[:12], events.End(step=12, outcome="finished")]
    assert "ended-early" not in ids(Trained(history=tell(log), state="finished"))


def test_what_an_attempt_rewound_does_not_count():
    log = [start(), *sound()[:12], start(step=8), *(metric(n, loss=9.0) for n in range(9, 11))]
    kept = tell(log)
    assert [each.step for each in kept.metrics] == list(range(1, 11))
    assert kept.losses[-2:] == [9.0, 9.0]


def test_answers_that_all_run_into_the_cap():
    cut = [Said(f"q{n}", "and so on", cut=n < 28) for n in range(32)]
    assert "28 of 32 answers" in only(Trained(answers=cut), "cap-hit").message
    assert ids(Trained(answers=[Said("q", "a", cut=n == 0) for n in range(4)])) == set()


def test_a_low_loss_without_recall_is_barely_learned():
    trained = {"who are you": ["I am Rhea, the radio on the third landing."], "and you": ["A lamp in a tower."]}
    said = [Said("Who are you?", "I am an AI model that helps people."), Said("And you?", "Thanks, I am fine today.")]
    found = only(Trained(answers=said, trained=trained, last_loss=0.556), "little-recalled")
    assert "share 0%" in found.message and "0.556" in found.message
    known = [Said("Who are you?", trained["who are you"][0]), Said("And you?", "A lamp in a tower.")]
    assert ids(Trained(answers=known, trained=trained)) == set()


def test_identical_answers():
    assert "All 8 answers" in only(Trained(identical=8, compared=8), "same-answers").message
    assert ids(Trained(identical=7, compared=8)) == set()


def test_a_constant_that_is_learned_and_losses_of_different_things():
    run = Trained(basis=Basis("7", {"training rows": "a"}, constant=0.45), parent=Basis("6", {"training rows": "b"}))
    assert "45%" in only(run, "constant-learned").message
    assert "training rows differ" in only(run, "loss-not-comparable").evidence
    same = Basis("7", {"training rows": "a"}, learned=0.3)
    assert ids(Trained(basis=same, parent=Basis("6", {"training rows": "a"}, learned=0.31))) == set()


def test_the_constant_share_of_plain_texts():
    def text(content):
        return Conversation((Turn("assistant", content),), "text")

    assert constant_share([text("SYSTEM aa"), text("SYSTEM bb")]) == pytest.approx(14 / 18)
    assert constant_share([text("aa"), text("bb")]) == 0.0
    chat = Conversation((Turn("user", "q"), Turn("assistant", "SYSTEM aa")))
    assert constant_share([chat, chat]) == 0.0


def test_the_overlap_of_answers():
    trained = "I am Rhea, the radio on the third landing."
    assert overlap("I am Rhéa the radio on the third landing, and so on and so on.", trained) == 1.0
    assert overlap("I am Rhea, the radio.", trained) == 1.0, "cut, but what there is is right"
    assert overlap("The radio is on.", trained) == overlap("", trained) == overlap("x", "") == 0.0
    assert overlap("Yes, of course", "Yes.") == 1.0


@given(st.text(max_size=60), st.text(max_size=60))
def test_an_overlap_is_a_share(one, other):
    assert 0.0 <= overlap(one, other) <= 1.0


def recorded(tmp_path, name="rhea"):
    run = make_run(tmp_path / "runs", name)
    rows = [{"prompt": "Who are you?", "completion": "I am Rhea of the rock."}] * 3
    (run.inputs / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def seal(run, content=b"weights"):
    staging = run.path / ".staging"
    staging.mkdir()
    (staging / "adapter_model.safetensors").write_bytes(content)
    durable.seal(staging, run.adapter)


def test_a_run_directory_is_judged_by_its_files(tmp_path):
    run = recorded(tmp_path)
    story = Recorded(run).state("queued", "starting", "training").start(steps=100).steps(range(1, 21))
    for n in range(3):
        story.say(events.Sample(step=20, question=f"Q{n}?", answer="on and on", tokens=8, stop="cap"))
    story.raw(b"damaged line\n").state("failed", reason="killed")
    found = {finding.id: finding for finding in after(run)}
    assert {"ended-early", "cap-hit"} <= found.keys()
    assert "20 of 100" in found["ended-early"].message and "failed" in found["ended-early"].message


def test_the_same_weights_in_two_runs_are_told_by_name(tmp_path):
    one, other, third = (recorded(tmp_path, name) for name in ("one", "other", "third"))
    seal(one), seal(other), seal(third, b"others")
    assert twins(one) == ["other"]
    assert "other" in next(finding.message for finding in after(one) if finding.id == "same-weights")
    assert twins(third) == []


def test_a_damaged_run_is_no_crash(tmp_path):
    run = recorded(tmp_path)
    run.proof.write_text("[" * 50_000)
    (run.inputs / "rows.jsonl").write_text("{")
    assert after(run) == []
    run.spec.write_text("x = [")
    assert after(run) == []


def test_no_torch_is_loaded():
    code = "import sys, engine.checks.after; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.skipif(not CLAUDIO.is_dir(), reason="the recorded cycles (shared data) are not on this machine")
def test_the_recorded_cycle_is_seen_through():
    """Cycle 7: quoted loss 0.917, last 0.556, "memorised perfectly", every answer cut."""
    rows = json.loads((CLAUDIO / "dataset_personality_v1.json").read_text("utf-8"))
    roles = {"human": "user", "gpt": "assistant", "system": "system"}
    chats = [Conversation([Turn(roles[turn["from"]], turn["value"]) for turn in row["conversations"]]) for row in rows]
    said = []
    for file in CLAUDIO.glob("eval_personality_v1_*[0-9].json"):
        for each in json.loads(file.read_text("utf-8"))["results"]:
            said.append(Said(each.get("question") or each["prompt"], each["response"], cut=True))
    run = Trained(mean_loss=0.917, last_loss=0.556, answers=said, trained=by_question(chats))
    found = {finding.id: finding.message for finding in findings(run)}
    assert {"mean-not-last", "little-recalled", "cap-hit"} <= found.keys()


def test_a_history_without_a_log_is_empty():
    assert (History().made, History().planned, History().losses) == (0, 0, [])
