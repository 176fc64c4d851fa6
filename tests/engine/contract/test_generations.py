"""The ledger and its stop rule, and choices that survive whatever happens to their file."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import curation, generations, summary
from engine.contract.curation import Batch, Candidate, ChoiceFile, Choices, Header, Keep, Opened, Reject, Undo
from engine.contract.errors import MoltingError
from engine.contract.generations import Entry, Generation, Limits, Measures, line_of, stop_reasons
from engine.contract.rundir import RunDir
from tests.support.runs import finished_run


def measures(loss: float | None = 2.0, distinct: float = 0.8, kl: float = 1.0, instrument: str = "a") -> Measures:
    return Measures(adapter="w", instrument=instrument, kl=kl, distinct2=distinct, heldout_loss=loss)


def line(*found: Measures | None) -> list[Entry]:
    """Generations 0, 1, … with these measures, each the child of the one before."""
    return [
        Entry(run=f"g{n}", name=f"rhea-g{n}", number=n, parent=f"g{n - 1}" if n else "", measures=each)
        for n, each in enumerate(found)
    ]


def test_a_first_generation_that_was_measured_may_go_on() -> None:
    assert stop_reasons(line(measures())) == []
    assert "was not measured" in stop_reasons(line(None))[0]


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (measures(loss=2.03), "held-out answer loss rose from 2.000 to 2.030 (+1.5%"),
        (measures(loss=2.05), "held-out answer loss rose from 2.000 to 2.050 (+2.5%; the limit is +2%)"),
        (measures(distinct=0.73), "fell"),
        (measures(distinct=0.70), "Distinct-2 fell from 0.800 to 0.700 (-12.5%; the limit is -10%)"),
        (measures(kl=1.24), "KL"),
        (measures(kl=1.3), "KL from the base on neutral questions is 1.300 nats; the limit is 1.250"),
        (measures(instrument="b"), "not measured the same way"),
    ],
)
def test_what_drifted_past_its_limit_stops_it_with_the_numbers(now: Measures, said: str) -> None:
    within = now in (measures(loss=2.03), measures(distinct=0.73), measures(kl=1.24))
    reasons = stop_reasons(line(measures(), now))
    assert reasons == [] if within else said in " ".join(reasons) and len(reasons) == 1


def test_two_generations_are_enough_and_slow_drift_is_seen() -> None:
    """Each step is below the limit; from the best before it is not."""
    slow = line(measures(), measures(loss=2.03), measures(loss=2.06))
    assert stop_reasons(slow[:2]) == []
    reasons = " ".join(stop_reasons(slow))
    assert "generation 2: after 2" in reasons and "from 2.000 to 2.060" in reasons
    assert stop_reasons(slow, Limits(generations=9, loss_rise=0.5)) == []
    (poorer,) = stop_reasons(line(measures(), measures(distinct=0.74), measures(distinct=0.70)), Limits(generations=9))
    assert "Distinct-2 fell from 0.800 to 0.700" in poorer


def test_a_kl_limit_of_ones_own_holds_from_generation_0_on() -> None:
    assert "the limit is 0.500" in stop_reasons(line(measures(kl=0.6)), Limits(kl=0.5))[0]
    assert stop_reasons(line(measures(), measures(kl=1.3)), Limits(kl=2.0)) == []


NUMBER = st.floats(min_value=0.01, max_value=100.0)
MEASURES = st.builds(measures, st.one_of(st.none(), NUMBER), NUMBER, NUMBER, st.sampled_from("ab"))


@given(st.lists(st.one_of(st.none(), MEASURES), min_size=1, max_size=5), st.integers(1, 4))
def test_the_rule_never_lets_pass_what_it_forbids(found: list[Measures | None], most: int) -> None:
    entries = line(*found)
    limits = Limits(generations=most)
    reasons = stop_reasons(entries, limits)
    last, before = found[-1], [each for each in found[:-1] if each]
    if reasons:
        assert all(reason.endswith((".", ")")) for reason in reasons)
        return
    assert last is not None and len(found) - 1 < most
    if len(found) > 1:
        alike = [each for each in before if each.instrument == last.instrument]
        assert alike
        losses = [each.heldout_loss for each in alike if each.heldout_loss is not None]
        assert last.heldout_loss is None or not losses or last.heldout_loss <= min(losses) * 1.02
        assert last.distinct2 >= max(each.distinct2 for each in alike) * 0.9
        assert found[0] is None or last.kl <= found[0].kl * 1.25


@given(st.permutations(range(4)))
def test_the_line_of_a_run_is_found_in_any_order_and_through_circles(order: list[int]) -> None:
    entries = line(*[measures()] * 4)
    shuffled = [entries[n] for n in order]
    assert [each.run for each in line_of(shuffled, "g2")] == ["g0", "g1", "g2"]
    entries[0].parent = "g3"
    assert len(line_of(shuffled, "g3")) == 4
    assert line_of(shuffled, "gone") == []


# Choices


def batch(count: int = 3, *, gated: bool = True) -> tuple[Header, list[Candidate]]:
    made = [
        Candidate(id=f"c{n}", prompt="Why?", answer=f"Because {n}.", gate="copy" if n == 2 else "", why="x" * (n == 2))
        for n in range(1, count + 1)
    ]
    return Header(run="r", t=1.0, gated=gated, prompts=1, per_prompt=count), made


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return finished_run(tmp_path / "runs")


def test_a_batch_is_read_as_it_was_written_and_refused_once_it_changed(run: RunDir) -> None:
    made = curation.write(run, *batch())
    assert made.name == "1" and curation.write(run, *batch(gated=False)).name == "2"
    path = run.curation / "1.jsonl"
    assert curation.read(path) == made
    assert [each.id for each in made.offered] == ["c1", "c3"]
    assert [each.id for each in curation.newest(run).batch.offered] == ["c1", "c2", "c3"], "a control offers all"
    assert path.stat().st_mode & 0o077 == 0
    path.write_bytes(path.read_bytes().replace(b"Because 3", b"Because 4"))
    with pytest.raises(MoltingError, match="has changed since it was sealed"):
        curation.read(path)
    path.write_bytes(b'{"k":"header"' + b"[" * 5000 + b"\n")
    with pytest.raises(MoltingError, match="damaged"):
        curation.read(path)


def test_a_choice_is_on_the_disk_at_once_and_a_torn_line_costs_itself_alone(run: RunDir) -> None:
    made = curation.write(run, *batch())
    file = ChoiceFile(run, made)
    with pytest.raises(MoltingError, match="in another window"):
        ChoiceFile(run, made)
    for event in (Keep(item="c1"), Reject(item="c3"), Undo(), Keep(item="c3", text="Otherwise.")):
        file.say(event)
        assert len(curation.newest(run).events), "before the file is closed"
    file.close()
    path = curation.choices_path(run, made)
    path.write_bytes(path.read_bytes() + b"{broken}\n" + b'{"k":"keep","it')
    found = curation.newest(run)
    assert [(each.id, text) for each, text in found.kept] == [("c1", "Because 1."), ("c3", "Otherwise.")]
    assert found.complete and found.damaged == 1
    again = ChoiceFile(run, made)
    again.say(Reject(item="c1"))
    again.close()
    assert [each.id for each, _ in curation.newest(run).kept] == ["c3"]


def test_keeping_all_says_that_nobody_read_them_and_leaves_what_a_person_chose(run: RunDir) -> None:
    made = curation.write(run, *batch(4))
    file = ChoiceFile(run, made)
    file.say(Reject(item="c1"))
    file.close()
    found = curation.keep_all(run, made)
    assert [each.id for each, _ in found.kept] == ["c3", "c4"] and found.opened.by == "person"
    control = curation.keep_all(run, curation.write(run, *batch(gated=False)))
    assert control.opened.by == "nobody" and len(control.kept) == 3


def test_choices_of_another_batch_are_not_believed(run: RunDir) -> None:
    made, other = curation.write(run, *batch()), curation.write(run, *batch(4))
    curation.keep_all(run, made)
    curation.choices_path(run, made).rename(curation.choices_path(run, other))
    with pytest.raises(MoltingError, match="does not belong to the batch 2"):
        curation.newest(run)
    assert generations.entry(run, None, summary.summarise(run)).candidates == 0, "the ledger does not count them either"


EVENTS = st.lists(
    st.one_of(
        st.builds(Keep, item=st.sampled_from(["c1", "c3", "zz"]), text=st.sampled_from(["", "new"])),
        st.builds(Reject, item=st.sampled_from(["c1", "c2", "c3"])),
        st.builds(Undo),
    ),
    max_size=20,
)


@given(EVENTS)
def test_undo_takes_back_exactly_the_last_choice(events: list[curation.AnyEvent]) -> None:
    header, candidates = batch()
    choices = Choices(Batch("1", header, candidates, "h"), Opened(batch_hash="h", t=0.0), list(events))
    before = choices.decided
    for event in (Reject(item="c1"), Undo()):
        choices.events.append(event)
    assert choices.decided == before
    assert set(before) <= {"c1", "c3"}
    assert all(text for _, text in choices.kept)


def test_the_ledger_tells_a_family_and_survives_a_damaged_file(tmp_path: Path) -> None:
    root = finished_run(tmp_path / "runs")
    children = []
    for number, gated in ((1, False), (1, True), (2, True)):
        child = finished_run(tmp_path / "runs", f"rhea-g{number}")
        made = Generation(
            number=number, parent=root.id, root=root.id, batch="1", originals=120, accepted=20, gated=gated, t=number,
        )  # fmt: skip
        generations.write(child, made)
        children.append(child)
    finished_run(tmp_path / "runs", "other")
    generations.write_measures(root, measures())
    curation.keep_all(root, curation.write(root, *batch(4)))
    found = generations.ledger(children[2])
    assert [(each.number, each.gated) for each in found] == [(0, True), (1, True), (1, False), (2, True)]
    assert found[0].measures == measures() and found[0].acceptance == pytest.approx(3 / 4)
    assert found[1].rows == 140 and found[1].acceptance is None
    assert [each.run for each in generations.ledger(root)] == [each.run for each in found]
    curation.keep_all(root, curation.write(root, *batch(2, gated=False)))
    assert generations.ledger(root)[0].candidates == 4, "a control is beside the way"
    children[2].generation.write_bytes(msgspec.json.encode({"number": "two"}))
    (root.curation / "1.jsonl").write_text("no")
    assert len(generations.ledger(root)) == 3
