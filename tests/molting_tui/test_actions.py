from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from engine.contract.errors import MoltingError
from molting_tui import actions
from molting_tui.app import MoltingApp
from molting_tui.screens.bench import Bench
from molting_tui.screens.chat import Chat
from molting_tui.screens.compare import Compare
from molting_tui.screens.curate import Curate
from molting_tui.screens.data import Data
from molting_tui.screens.data_edit import RowForm
from molting_tui.screens.grade import Grade, Pairs
from molting_tui.screens.live import Live
from molting_tui.screens.new_run import NewRun
from molting_tui.screens.runs import Runs
from molting_tui.widgets.chat_composer import Composer
from molting_tui.widgets.run_table import RunTable

OWNERS = {
    "runs": Runs,
    "live": Live,
    "form": NewRun,
    "data": Data,
    "row": RowForm,
    "chat": Chat,
    "composer": Composer,
    "bench": Bench,
    "grade": Grade,
    "pairs": Pairs,
    "compare": Compare,
    "curate": Curate,
    "list": RunTable,
    "everywhere": MoltingApp,
}
TAKEN = {"ctrl+a", "ctrl+b", "ctrl+s", "ctrl+o", "ctrl+space", "ctrl+at"}


TYPED = {
    "grade",
    "pairs",
    "curate",
    "composer",
}  # where keys are typed as into a field: they have meanings of their own


def test_a_key_means_the_same_everywhere() -> None:
    meanings = defaultdict(set)
    for action in actions.ACTIONS:
        for key in actions.key_names(action.keys) if action.scopes - TYPED else []:
            meanings[key].add(action.id)
    assert {key: ids for key, ids in meanings.items() if len(ids) > 1} == {}


def test_no_key_is_a_prefix_of_tmux_screen_or_the_shell() -> None:
    used = {key for action in actions.ACTIONS for key in actions.key_names(action.keys)}
    assert used & TAKEN == set()


def test_an_action_has_the_same_keys_on_every_screen_and_one_entry_for_each() -> None:
    for id in actions.BY_ID:
        entries = [action for action in actions.ACTIONS if action.id == id]
        assert len({action.keys for action in entries}) == 1, id
        scopes = [scope for action in entries for scope in action.scopes]
        assert len(scopes) == len(set(scopes)), id


def test_an_action_is_described_in_the_words_of_each_screen() -> None:
    said = {scope: {a.id: a.description for a in actions.in_scope([scope])} for scope in actions.SCOPES}
    assert "run" in said["runs"]["open"] and "row" in said["data"]["open"] and "question" in said["composer"]["open"]
    page = actions.keys_page()
    rows = page[page.index("## Rows") : page.index("## A row")]
    assert "| `D` | `delete` | Delete the row; undo brings it back. |" in rows
    assert "trash" not in rows


def test_own_keys_are_those_of_an_action_on_every_screen() -> None:
    changed = actions.with_keymap({"open": "f9"})
    assert {action.keys for action in changed if action.id == "open"} == {"f9"}
    assert len([action for action in changed if action.id == "open"]) > 1


@pytest.mark.parametrize("action_id", ["stop", "stop-now", "delete"])
def test_what_stops_or_destroys_takes_a_shifted_letter(action_id: str) -> None:
    keys = actions.key_names(actions.BY_ID[action_id].keys)
    assert all(len(key) == 1 and key.isupper() for key in keys)


def test_every_action_exists_where_it_is_heard() -> None:
    for action in actions.ACTIONS:
        assert action.scopes <= actions.SCOPES.keys(), action.id
        for scope in action.scopes:
            assert hasattr(OWNERS[scope], f"action_{action.method}"), f"{action.id} in {scope}"


def test_every_scope_has_its_bindings() -> None:
    for scope, owner in OWNERS.items():
        bound = {binding.id for binding in owner.BINDINGS if not isinstance(binding, tuple)}
        assert {action.id for action in actions.in_scope([scope]) if action.keys} <= bound


def test_the_page_of_keys_is_the_registry() -> None:
    page = Path(__file__).parents[2] / "docs" / "keys.md"
    again = "write it anew: docs/keys.md is what molting_tui.actions.keys_page() returns"
    assert page.read_text("utf-8") == actions.keys_page(), again


@pytest.mark.parametrize(
    ("custom", "said"),
    [
        ({"stopp": "x"}, "there is no action 'stopp'. Did you mean stop?"),
        ({"stop": "q"}, "q would mean both stop and back."),
        ({"filter": "up"}, "↑ would mean both filter and up."),
        ({"stop": "ctrl+enter"}, "'ctrl+enter' is not a key that a terminal sends."),
        ({"stop": "hello"}, "'hello' is not a key"),
        ({"stop": " "}, "stop has no key."),
        ({"stop\x1b[2J": "x"}, "there is no action 'stop␛[2J'"),
    ],
)
def test_a_keymap_that_cannot_work_is_refused_in_a_sentence(custom: dict[str, str], said: str) -> None:
    with pytest.raises(MoltingError) as caught:
        actions.with_keymap(custom)
    assert said in str(caught.value)
    assert caught.value.code == 2


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(MoltingError, match=r"pinn.*q would mean"):
        actions.with_keymap({"pinn": "x", "stop": "q"})


def test_own_keys_replace_the_default_ones_and_may_swap() -> None:
    changed = {
        action.id: action for action in actions.with_keymap({"stop": "slash", "filter": "S,?x".replace("?x", "f9")})
    }
    assert changed["stop"].keys == "slash"
    assert changed["filter"].keys == "S,f9"
    assert changed["pin"] == actions.BY_ID["pin"]
