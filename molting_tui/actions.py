"""The one registry of what keys do: bindings, footer, help, command palette and docs/keys.md come from here.

A key means the same on every screen. What stops or destroys is a shifted letter and asks once. No key that
tmux, screen or a shell takes for itself: ctrl+a, ctrl+b, ctrl+o, ctrl+s, ctrl+space.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from textual.binding import Binding, BindingType
from textual.keys import Keys, _character_to_key, format_key

from engine.contract.errors import MoltingError
from engine.contract.safe import safe

EVERYWHERE = "everywhere"
SCOPES = {
    EVERYWHERE: "Everywhere",
    "list": "Lists",
    "runs": "Runs",
    "live": "Live",
    "form": "New run",
}


@dataclass(frozen=True)
class Action:
    """`id` is what config.toml names, and with `_` for `-` the `action_…` method of the screen or the app."""

    id: str
    keys: str  # comma-separated; "" for what only the command palette offers
    scope: str  # one or more of SCOPES, separated by spaces
    label: str  # in the footer
    description: str
    show: bool = True  # in the footer
    priority: bool = False  # heard even while text is typed

    @property
    def method(self) -> str:
        return self.id.replace("-", "_")

    @property
    def scopes(self) -> frozenset[str]:
        return frozenset(self.scope.split())


ACTIONS = (
    Action("open", "enter", "runs", "open", "Open the run: its loss, memory, samples and log, live."),
    Action("new", "n", "runs", "new", "New run from a spec file."),
    Action("stop", "S", "runs live", "stop", "Finish the step, save, and end the run. Asks first."),
    Action("resume", "r", "runs live", "resume", "Continue the run from its newest checkpoint."),
    Action("filter", "slash", "runs live", "filter", "Show only what matches, as you type; escape clears."),
    Action("demo", "d", "runs", "demo", "Train a shipped persona on a small model, to see all of it once."),
    Action("edit", "e", "runs live", "edit a copy", "New run from this run's spec, in a form."),
    Action("save-now", "w", "runs live", "save now", "Write a checkpoint at the next step."),
    Action("stop-now", "K", "runs live", "stop now", "End the run at once, unsaved. Asks first.", show=False),
    Action("select", "space", "runs", "select", "Select the run; actions then take all selected."),
    Action("select-all", "a", "runs", "select all", "Select all runs shown, or none.", show=False),
    Action("sort", "o", "runs", "sort", "Sort by the next column.", show=False),
    Action("reverse", "i", "runs", "reverse", "Turn the order round.", show=False),
    Action("pin", "p", "runs", "pin", "Keep the run at the top, or no longer.", show=False),
    Action("rename", "m,f2", "runs", "rename", "Show the run under another name.", show=False),
    Action("archive", "h", "runs", "archive", "Hide the run from the list, or show it again.", show=False),
    Action("archived", "full_stop", "runs", "archived", "Show archived runs too, or no longer.", show=False),
    Action("delete", "D", "runs", "delete", "Move the run to the trash. Asks first."),
    Action("undo", "u", "runs", "undo", "Bring back the runs deleted last.", show=False),
    Action("empty-trash", "", "runs", "empty trash", "Delete what is in the trash, for good. Asks first.", show=False),
    Action("details", "v", "runs", "details", "Show or hide the pane beside the list.", show=False),
    Action("maximise", "z", "live", "maximise", "The focused pane over the whole screen; tab goes from pane to pane."),
    Action("smooth", "s", "live", "smooth", "Smooth the curves: not, some, more, most; the raw ones stay, dim."),
    Action("x-axis", "x", "live", "x axis", "Draw over steps, tokens or time."),
    Action("log-scale", "y", "live", "log y", "Draw the loss on a logarithmic scale, or a linear one."),
    Action("overlay", "b", "live", "beside", "Lay another run over this one, or take it away.", show=False),
    Action("cursor-left", "left", "live", "cursor left", "Read values at a cursor; it moves left.", show=False),
    Action("cursor-right", "right", "live", "cursor right", "Read values at a cursor; it moves right.", show=False),
    Action("zoom-in", "plus", "live", "zoom in", "See less of it, closer, around the cursor.", show=False),
    Action("zoom-out", "minus", "live", "zoom out", "See more.", show=False),
    Action("zoom-all", "0", "live", "see all", "End the zoom.", show=False),
    Action("pan-left", "less_than_sign", "live", "pan left", "Move what is zoomed to the left.", show=False),
    Action("pan-right", "greater_than_sign", "live", "pan right", "Move what is zoomed to the right.", show=False),
    Action("older-sample", "left_square_bracket", "live", "older", "Answers of the step before.", show=False),
    Action("newer-sample", "right_square_bracket", "live", "newer", "Answers of the step after.", show=False),
    Action("pane-rates", "1", "live", "rates", "Show or hide learning rate, gradient and tokens a second.", show=False),
    Action("pane-memory", "2", "live", "memory", "Show or hide the memory.", show=False),
    Action("pane-samples", "3", "live", "samples", "Show or hide the samples.", show=False),
    Action("pane-log", "4", "live", "log", "Show or hide the log.", show=False),
    Action("up", "up,k", "list", "up", "One up.", show=False),
    Action("down", "down,j", "list", "down", "One down.", show=False),
    Action("page-up", "pageup", "list", "page up", "One page up.", show=False),
    Action("page-down", "pagedown", "list", "page down", "One page down.", show=False),
    Action("first", "home", "list", "first", "To the first.", show=False),
    Action("last", "end", "list", "last", "To the last.", show=False),
    Action("start", "ctrl+g", "form", "start", "Start the run. It queues where the device is taken.", priority=True),
    Action("check", "ctrl+t", "form", "check", "Look for what would go wrong, and show the plan.", priority=True),
    Action("write", "ctrl+r", "form", "write file", "Write the spec to a file, comments kept.", priority=True),
    Action("all-fields", "ctrl+l", "form", "all fields", "Show every key, or the usual ones.", priority=True),
    Action("back", "q,escape", EVERYWHERE, "back", "Back: clear the filter, close, leave the screen."),
    Action("help", "question_mark,f1", EVERYWHERE, "help", "The keys that work here."),
    Action("palette", "ctrl+p", EVERYWHERE, "palette", "Find an action by its name.", priority=True),
    Action("quit", "ctrl+q", EVERYWHERE, "quit", "Leave Molting. Runs go on.", show=False, priority=True),
    Action("copy", "ctrl+c", EVERYWHERE, "copy", "Copy what is selected; cancel what is going on.", show=False),
    Action("suspend", "ctrl+z", EVERYWHERE, "suspend", "To the shell; fg comes back.", show=False, priority=True),
    Action("theme", "", EVERYWHERE, "theme", "Choose the colours.", show=False),
)  # fmt: skip
BY_ID = {action.id: action for action in ACTIONS}
# These never reach a program inside tmux, whatever the terminal sends.
_NEVER_ARRIVE = frozenset({"ctrl+enter", "shift+enter", "ctrl+space", "ctrl+at"})


def bindings(*scopes: str) -> list[BindingType]:
    """Textual's bindings of everything in these scopes that has a key."""
    wanted = frozenset(scopes)
    return [
        Binding(
            action.keys,
            action.method,
            action.label,
            show=action.show,
            tooltip=action.description,
            id=action.id,
            priority=action.priority,
        )
        for action in ACTIONS
        if action.keys and wanted & action.scopes
    ]


def with_keymap(custom: Mapping[str, str]) -> tuple[Action, ...]:
    """The registry with the user's own keys. MoltingError (code 2) naming everything wrong with them."""
    problems = list(_problems(custom))
    if problems:
        raise MoltingError(
            "The keys in config.toml cannot be used: " + " ".join(problems),
            remedy="docs/keys.md lists the actions and their keys.",
            code=2,
        )
    return tuple(_with_keys(action, custom) for action in ACTIONS)


def _with_keys(action: Action, custom: Mapping[str, str]) -> Action:
    return replace(action, keys=",".join(key_names(custom[action.id]))) if action.id in custom else action


def key_names(keys: str) -> list[str]:
    """Comma-separated keys by Textual's names: `?` is question_mark."""
    names = [key.strip() or "," for key in keys.split(",")] if keys.strip(" ,") else []
    return [_character_to_key(name) if len(name) == 1 else name for name in names]


def _problems(custom: Mapping[str, str]) -> Iterable[str]:
    for action_id, keys in custom.items():
        if action_id not in BY_ID:
            close = difflib.get_close_matches(action_id, BY_ID, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            yield f"there is no action {safe(action_id[:60], False)!r}.{hint}"
            continue
        names = key_names(keys)
        if not names:
            yield f"{action_id} has no key."
        for name in names:
            if not _is_key(name):
                yield f"{action_id}: {safe(name[:40], False)!r} is not a key that a terminal sends."
    yield from _clashes([_with_keys(action, custom) for action in ACTIONS])


def _clashes(actions: Iterable[Action]) -> Iterable[str]:
    """A key may have one meaning only among the actions that can be heard together."""
    heard: dict[str, list[Action]] = {}
    for action in actions:
        for key in key_names(action.keys):
            for other in heard.setdefault(key, []):
                if _together(action, other):
                    yield f"{shown_key(key)} would mean both {other.id} and {action.id}."
            heard[key].append(action)


def _together(one: Action, other: Action) -> bool:
    # A list lies within a screen, so its keys must not be the screen's either.
    wide = {EVERYWHERE, "list"}
    return bool(one.scopes & other.scopes or wide & one.scopes or wide & other.scopes)


def _is_key(name: str) -> bool:
    if name in _NEVER_ARRIVE:
        return False
    base = name
    for modifier in ("ctrl+", "alt+", "shift+"):
        base = base.removeprefix(modifier)
    known = {key.value for key in Keys}
    return name in known or base in known or base == "space" or len(base) == 1 or _is_named_character(base)


def _is_named_character(name: str) -> bool:
    return any(_character_to_key(chr(code)) == name for code in range(0x21, 0x7F))


def shown_key(key: str) -> str:
    """A key as the footer names it: `?`, `ctrl+q`, `enter`, `S`."""
    *modifiers, name = key.split("+")
    names = {"escape": "esc", "space": "space", "enter": "enter", "pageup": "pgup", "pagedown": "pgdn"}
    return "+".join([*modifiers, names.get(name, format_key(name))])


def shown_keys(keys: str) -> str:
    """All keys of an action: `q, esc`."""
    return ", ".join(shown_key(key) for key in key_names(keys))


def in_scope(scopes: Iterable[str], actions: Iterable[Action] = ACTIONS) -> list[Action]:
    """The actions of any of these scopes, in the order of the registry."""
    wanted = frozenset(scopes)
    return [action for action in actions if wanted & action.scopes]


def keys_page() -> str:
    """The text of docs/keys.md."""
    lines = [
        "# Keys",
        "",
        "Every action of the app, by screen. The same list stands behind `?` in the app; ctrl+p finds an action by",
        "name. A key means the same on every screen. What stops or destroys takes a shifted letter and asks once.",
        "",
        "To change keys, write a `[keys]` section into `config.toml`: the action's name, then its keys, separated by",
        "commas. They replace the default ones. A name that does not exist, or a key that would then mean two things,",
        "is refused when the app starts.",
        "",
        "```toml",
        "[keys]",
        'stop = "S,f9"',
        'filter = "f"',
        "```",
    ]
    for scope, title in SCOPES.items():
        actions = in_scope([scope])
        if not actions:
            continue
        lines += ["", f"## {title}", "", "| key | action | what it does |", "|---|---|---|"]
        lines += [f"| {_cell(action.keys)} | `{action.id}` | {action.description} |" for action in actions]
    return "\n".join(lines) + "\n"


def _cell(keys: str) -> str:
    shown = [f"`{shown_key(key)}`" for key in key_names(keys)]
    return " ".join(shown) if shown else "(palette)"
